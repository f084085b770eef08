"""The image gallery: what is written by several is read as one, in order; rounds appear whole; scenes are replaced."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.config import encode_toml
from hpcseg.errors import StoreError
from hpcseg.gallery.images import (
    find_cells,
    new_round,
    part_files,
    publish_round,
    read_cells,
    read_scene,
    scene_table,
    stored_digests,
    write_part,
)  # fmt: skip
from hpcseg.gallery.spec import NO_BUCKET, Bucket, GallerySpec
from hpcseg.raster import Entry, describe

CELL = 32


@pytest.fixture
def gallery(tmp_path):
    """A gallery of nothing but its toml."""
    spec = GallerySpec(bands=3, buckets=[Bucket(code="0" * 16, tiles=1)], max_distance=3, digest="", cell=CELL)
    (tmp_path / "gallery.toml").write_bytes(encode_toml(spec))
    return tmp_path


def table(path, places, first=0, **columns):
    entry = Entry(path.stem, (str(path),), columns)
    n = len(places)
    codes = np.arange(first, first + n, dtype=np.uint64), np.arange(n, dtype=np.uint8), np.zeros(n, np.uint8)
    return scene_table(describe(str(path), path.stem), entry, np.array(places, np.int32), np.ones(n, np.float32), codes)


def publish(gallery, *parts):
    """A round of as many ranks, each with its tables."""
    folder = new_round(gallery)
    for rank, tables in enumerate(parts):
        write_part(folder / f"{rank:05d}.parquet", tables)
    publish_round(folder)


@pytest.fixture
def scenes(make_scene, tmp_path):
    return [make_scene(tmp_path / f"{name}.tif", 70, 40, seed=k) for k, name in enumerate("ba")]


def test_parts_of_several_ranks_are_read_as_one_in_order(gallery, scenes):
    b, a = scenes
    publish(gallery, [table(b, [(64, 0, 6, 32), (0, 32, 32, 8)], 10)], [table(b, [(0, 0, 32, 32)], 20), table(a, [(32, 0, 32, 32)], 30)])
    cells = read_cells(gallery)
    assert cells["scene"].to_pylist() == ["a", "b", "b", "b"]
    assert list(zip(*(cells[name].to_pylist() for name in ("row", "col", "code")), strict=True)) == [
        (32, 0, 30), (0, 0, 20), (0, 32, 11), (64, 0, 10),
    ]  # fmt: skip
    assert read_cells(gallery, columns=["code"]).column_names == ["code"]
    assert len(read_cells(gallery, part_files(gallery)[:1])) == 2


def test_bounds_and_system_are_the_scenes_own(gallery, scenes):
    publish(gallery, [table(scenes[0], [(64, 32, 6, 8)])])
    (row,) = read_cells(gallery).to_pylist()
    assert (row["left"], row["bottom"], row["right"], row["top"]) == (500320, 4999300, 500400, 4999360)
    assert row["crs"] == "EPSG:32633"


def test_a_scene_that_lies_nowhere_has_no_bounds(gallery, make_scene, tmp_path):
    path = make_scene(tmp_path / "c.tif", 40, 40, transform=None, epsg=None)
    publish(gallery, [table(path, [(0, 0, 32, 32)])])
    (row,) = read_cells(gallery).to_pylist()
    assert np.isnan(row["left"])
    assert row["crs"] == ""


def test_metadata_are_the_manifests_and_the_files(gallery, make_scene, tmp_path):
    path = make_scene(tmp_path / "c.tif", 40, 40)
    dataset = gdal.Open(str(path), gdal.GA_Update)
    dataset.SetMetadata({"ACQUISITION_DATE": "2021-02-05", "CLOUD_COVER": "3", "AREA_OR_POINT": "Area"})
    dataset = None
    publish(gallery, [table(path, [(0, 0, 32, 32)], region="north", CLOUD_COVER="4")])
    (row,) = read_cells(gallery).to_pylist()
    assert json.loads(row["metadata"]) == {"ACQUISITION_DATE": "2021-02-05", "CLOUD_COVER": "4", "region": "north"}


def test_buckets_of_a_scene_lie_on_its_grid(gallery, scenes):
    digest = describe(str(scenes[0]), "b").digest
    assert read_scene(gallery, digest) is None
    publish(gallery, [table(scenes[0], [(64, 0, 6, 32), (0, 32, 32, 8)])], [table(scenes[1], [(0, 0, 32, 32)])])
    np.testing.assert_array_equal(read_scene(gallery, digest), [[NO_BUCKET, 1], [NO_BUCKET, NO_BUCKET], [0, NO_BUCKET]])
    assert read_scene(gallery, "another") is None


def test_cells_of_a_scene_are_found_in_all_parts_by_its_name(gallery, scenes):
    b, a = scenes
    publish(gallery, [table(b, [(0, 0, 32, 32)], 1)], [table(a, [(0, 0, 32, 32)], 5), table(b, [(32, 0, 32, 32)], 2)], [])
    assert find_cells(gallery, "scene", "b", ["code", "row"]).to_pylist() == [{"code": 1, "row": 0}, {"code": 2, "row": 32}]
    assert len(find_cells(gallery, "scene", "c", ["code"])) == 0


def test_a_broken_part_is_named_with_what_to_do(gallery, scenes):
    publish(gallery, [table(scenes[0], [(0, 0, 32, 32)])])
    (path,) = part_files(gallery)
    path.write_bytes(path.read_bytes()[:100])
    for read in (read_cells, stored_digests, lambda folder: read_scene(folder, "any")):
        with pytest.raises(StoreError, match=r"00000.parquet: cannot be read: .*: remove it, and assign its scenes again"):
            read(gallery)


def test_a_round_that_did_not_end_is_not_seen_and_its_rest_removed(gallery, scenes):
    folder = new_round(gallery)
    write_part(folder / "00000.parquet", [table(scenes[0], [(0, 0, 32, 32)])])
    assert part_files(gallery) == []
    assert stored_digests(gallery) == set()
    new_round(gallery)
    assert not (folder / "00000.parquet").exists()


def publish_instead(gallery, scene, replaced, code):
    folder = new_round(gallery)
    write_part(folder / "00000.parquet", [table(scene, [(0, 0, 32, 32)], code)])
    publish_round(folder, replaced)


@pytest.fixture
def replaced(gallery, scenes):
    """The digest of a scene that has cells in two parts, in one of them beside another scene."""
    b, a = scenes
    publish(gallery, [table(b, [(0, 0, 32, 32)])], [table(b, [(32, 0, 32, 32)]), table(a, [(0, 0, 32, 32)], 7)])
    return describe(str(b), "b").digest


def test_a_round_takes_the_place_of_what_earlier_ones_hold_of_its_scenes(gallery, scenes, replaced):
    publish_instead(gallery, scenes[0], [replaced], 9)
    assert read_cells(gallery)["code"].to_pylist() == [7, 9]
    assert stored_digests(gallery) == {replaced, describe(str(scenes[1]), "a").digest}
    assert len(part_files(gallery)) == 2


@pytest.mark.parametrize(("killed", "seen", "after"), [("replace", [0, 0, 7], [0, 0, 7]), ("unlink", [0, 0, 7, 9], [7, 9])])
def test_a_kill_while_a_scene_is_replaced_loses_nothing_and_is_made_good(gallery, scenes, replaced, monkeypatch, killed, seen, after):
    folder = new_round(gallery)
    write_part(folder / "00000.parquet", [table(scenes[0], [(0, 0, 32, 32)], 9)])

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*{"replace": (os, "replace"), "unlink": (Path, "unlink")}[killed], kill)
        with pytest.raises(KeyboardInterrupt):
            publish_round(folder, [replaced])
    assert sorted(read_cells(gallery)["code"].to_pylist()) == seen
    stored_digests(gallery)
    assert sorted(read_cells(gallery)["code"].to_pylist()) == after


@pytest.mark.parametrize(("name", "done"), [("write_text", [0, 0, 7]), ("replace", [0, 0, 7]), ("unlink", [0, 0, 7, 9])])
def test_a_full_or_read_only_disk_is_said(gallery, scenes, replaced, monkeypatch, name, done):
    folder = new_round(gallery)
    write_part(folder / "00000.parquet", [table(scenes[0], [(0, 0, 32, 32)], 9)])

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if name == "replace" else Path, name, fail)
    with pytest.raises(StoreError, match=r"tiles: cannot be written: .*No space left on device"):
        publish_round(folder, [replaced])
    assert sorted(read_cells(gallery)["code"].to_pylist()) == done
    if name == "unlink":
        with pytest.raises(StoreError, match="tiles: cannot be written"):
            stored_digests(gallery)


def test_a_gallery_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "tiles").write_text("in the way")
    with pytest.raises(StoreError, match="tiles: cannot be written"):
        new_round(tmp_path)
