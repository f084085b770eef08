"""What is in a gallery: sizes that add up, sheets of all buckets, maps of scenes."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from matplotlib import image

from hpcseg.cli import execute
from hpcseg.cli.gallery import command
from hpcseg.errors import UsageError
from hpcseg.gallery import show as module
from hpcseg.gallery.images import read_cells
from hpcseg.gallery.show import choose_members, show
from hpcseg.gallery.spec import MONO_BUCKET, TILES, read_gallery


@pytest.mark.parametrize(("n", "near", "spread"), [(40, 5, 5), (11, 5, 5), (10, 5, 5), (7, 5, 5), (3, 5, 5), (1, 5, 5), (0, 5, 5)])
def test_the_nearest_and_some_up_to_the_farthest_stand_for_a_bucket(n, near, spread):
    distances = np.random.default_rng(n).integers(0, 9, n)
    order, chosen = np.sort(distances), choose_members(distances, near, spread)
    assert len(chosen) == len(set(chosen.tolist())) == min(n, near + spread)
    np.testing.assert_array_equal(distances[chosen[:near]], order[:near])
    np.testing.assert_array_equal(distances[chosen[-1:]], order[-1:])
    assert (np.diff(distances[chosen]) >= 0).all()


def test_of_equal_members_not_only_the_first_stand_for_a_bucket():
    distances = np.zeros(300, int)
    chosen = choose_members(distances, 18, 18)
    assert (chosen[:18] >= 150).any()
    np.testing.assert_array_equal(chosen, choose_members(distances, 18, 18))


def test_members_beyond_the_nearest_are_evenly_spread():
    np.testing.assert_array_equal(choose_members(np.arange(110), 10, 4), [*range(10), 34, 59, 84, 109])


@pytest.fixture(autouse=True, scope="module")
def few_pictures():
    """Sheets of four pictures are drawn sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_NEAR", 2)
        patch.setattr(module, "_SPREAD", 2)
        yield


@pytest.fixture(scope="module")
def shown(alone, built, tmp_path_factory):
    out = tmp_path_factory.mktemp("shown") / "deep" / "show"
    return out, *show(alone, built[0], out, ["scene_1"])


def test_sizes_are_those_of_the_image_gallery(built, shown):
    out, sizes, _ = shown
    cells, spec = read_cells(built[0]), read_gallery(built[0])
    buckets, distances = cells["bucket"].to_numpy(), cells["distance"].to_numpy()
    assert [size.bucket for size in sizes] == [*map(str, range(len(spec.buckets))), "mono"]
    for k, size in zip([*range(len(spec.buckets)), MONO_BUCKET], sizes, strict=True):
        own = distances[buckets == k]
        assert (size.cells, size.share) == (len(own), len(own) / len(cells))
        assert not len(own) or (size.median, size.farthest) == (np.median(own), own.max())
    assert sum(size.cells for size in sizes) == len(cells)
    rows = list(csv.DictReader((out / "buckets.csv").open()))
    assert [(row["bucket"], int(row["cells"]), row["code"]) for row in rows] == [(s.bucket, s.cells, s.code) for s in sizes]


def test_every_bucket_with_cells_has_a_sheet_and_the_scene_a_map(shown):
    out, sizes, files = shown
    wanted = {"buckets.csv", "map_scene_1.png"} | {f"bucket_{size.bucket}.png" for size in sizes if size.cells}
    assert {path.name for path in files} == {path.name for path in out.iterdir()} == wanted
    for path in files[1:]:
        assert np.ptp(image.imread(path)[..., :3]) > 0.6


def test_a_sheet_shows_the_cells_of_its_bucket(alone, built, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(module, "draw_views", lambda path, views, *words: drawn.update({path.name: views}))
    _, files = show(alone, built[0], tmp_path, [])
    buckets = {(each["scene"], each["row"], each["col"]): each["bucket"] for each in read_cells(built[0]).to_pylist()}
    assert set(drawn) == {path.name for path in files[1:]}
    for name, views in drawn.items():
        wanted = MONO_BUCKET if name == "bucket_mono.png" else int(name.removeprefix("bucket_").removesuffix(".png"))
        assert {buckets[view.scene, view.window.row, view.window.col] for view in views} == {wanted}


def test_scenes_that_are_gone_leave_grey_pictures_but_no_map(alone, built, archive, tmp_path):
    shutil.copytree(built[0], tmp_path / "g")
    hidden = archive.rename(archive.with_name("away"))
    try:
        _, files = show(alone, tmp_path / "g", tmp_path / "out", [])
        assert (image.imread(files[1])[..., :3] == np.float32(180 / 255)).all(-1).mean() > 0.2
        assert execute(command, ["show", str(tmp_path / "g"), "--out", str(tmp_path), "--scene", "scene_0"], alone, True) == 3
    finally:
        hidden.rename(archive)


def test_the_command_prints_a_table(alone, built, shown, tmp_path, capsys):
    assert execute(command, ["show", str(built[0]), "--out", str(tmp_path)], alone, True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["bucket", "cells", "share", "scenes", "median", "farthest", "centroid"]
    assert [line.split()[:2] for line in lines[1 : len(shown[1]) + 1]] == [[size.bucket, str(size.cells)] for size in shown[1]]
    assert lines[-1].startswith("wrote ")


def test_what_cannot_be_shown_is_one_clear_line(alone, built, tmp_path):
    with pytest.raises(UsageError, match="--scene nowhere: the gallery holds no scene of this name; it holds scene_0, scene_1"):
        show(alone, built[0], tmp_path, ["nowhere"])
    shutil.copytree(built[0], tmp_path / "empty", ignore=shutil.ignore_patterns(TILES))
    with pytest.raises(UsageError, match="holds no cells yet"):
        show(alone, tmp_path / "empty", tmp_path, [])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .+file"):
        show(alone, built[0], tmp_path / "file", [])
