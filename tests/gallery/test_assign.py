"""Assigning: codes are those of the cells' own pixels for any core and threads; scenes are skipped, replaced, refused, or fail by tile."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from gallery.archive import CELL
from osgeo import gdal

from hpcseg import device
from hpcseg.errors import ReadError, StoppedError, UsageError
from hpcseg.gallery.assign import AssignOptions, assign, report_lines, rounds
from hpcseg.gallery.embed import Embedder
from hpcseg.gallery.images import part_files, read_cells, read_scene
from hpcseg.gallery.spec import NO_BUCKET
from hpcseg.mpi import Pulse
from hpcseg.raster import CellCache, Values, describe, open_reader
from hpcseg.statistics import statistics
from hpcseg.tiles import Window


@pytest.fixture
def gallery(built, tmp_path):
    """A copy of the gallery without its cells."""
    folder = shutil.copytree(built[0], tmp_path / "gallery")
    shutil.rmtree(folder / "tiles")
    return folder


@pytest.fixture
def run(alone, gallery):
    """run(scenes, **options) assigns scenes to the copy."""

    def start(*scenes, stop=None, **options):
        return assign(alone, AssignOptions(tuple(map(str, scenes)), gallery=gallery, **options), stop or threading.Event())

    return start


@pytest.mark.parametrize(("core", "threads"), [(CELL, 1), (3 * CELL, 2)])
def test_core_and_threads_change_nothing(run, gallery, archive, built, core, threads):
    run(archive, core=core, threads=threads)
    assert read_cells(gallery).to_pylist() == read_cells(built[0]).to_pylist()


def test_codes_are_those_of_each_cell_read_alone(built, archive, alone):
    embedder, path = Embedder(built[0]), archive / "scene_1.tif"
    scene = describe(str(path), "scene_1")
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        ((*bands,),), _ = statistics(alone, pulse, [scene], "all", (2, 98), 1, 1 << 24)
    low, high = (np.array([band.percentiles[k] for band in bands]) for k in (0, 1))
    reader = open_reader(scene, Values(tuple(1 / (high - low)), tuple(-low / (high - low))), CellCache(1 << 24))
    device.settle_threads()
    rows = [row for row in read_cells(built[0]).to_pylist() if row["scene"] == "scene_1"]
    assert len(rows) == 90 - 6
    for row in rows:
        pixels, valid = np.empty((CELL, 3 * CELL), np.float32), np.empty((CELL, CELL), np.uint8)
        reader.read(Window(row["row"], row["col"], CELL, CELL), 0, pixels, valid)
        assert (row["height"], row["width"]) == (min(CELL, 311 - row["row"]), min(CELL, 268 - row["col"]))
        code, bucket, distance = embedder.look(pixels, (row["height"], row["width"]))
        assert (row["code"], row["bucket"], row["distance"]) == (code, bucket, distance)
        assert row["valid"] == np.float32(valid.sum() / (row["height"] * row["width"]))


def test_cells_without_data_have_no_bucket(built, archive):
    buckets = read_scene(built[0], describe(str(archive / "scene_0.tif"), "scene_0").digest)
    assert buckets.shape == (10, 9)
    empty = np.zeros((10, 9), bool)
    empty[2:5, 1:3] = True
    np.testing.assert_array_equal(buckets == NO_BUCKET, empty)


def test_a_scene_that_is_there_is_skipped_and_replaced_if_asked(run, gallery, archive):
    first = run(archive / "scene_0.tif")
    assert (first.scenes, first.there, first.exit_code) == (1, 0, 0)
    second = run(archive)
    assert (second.scenes, second.there) == (1, 1)
    before = read_cells(gallery).to_pylist()
    third = run(archive / "scene_0.tif", overwrite=True)
    assert (third.scenes, third.there) == (1, 0)
    assert read_cells(gallery).to_pylist() == before
    assert len(part_files(gallery)) == 2


def test_a_scene_given_twice_is_assigned_once(run, archive, gallery, tmp_path):
    shutil.copy(archive / "scene_0.tif", tmp_path / "again.tif")
    assert run(archive / "scene_0.tif", tmp_path / "again.tif").there == 1
    assert set(read_cells(gallery)["scene"].to_pylist()) == {"scene_0"}


def test_scenes_that_do_not_fit_are_refused_and_the_others_run(run, archive, make_scene, tmp_path, capsys):
    two = make_scene(tmp_path / "two.tif", 64, 64, 2)
    found = run(two, tmp_path / "absent.tif", archive / "scene_0.tif")
    assert [name for name, _ in found.refused] == ["two", "absent"]
    assert "gives 2 bands of its 2, the gallery takes 3: choose them with --bands" in found.refused[0][1]
    assert (found.scenes, found.exit_code) == (1, 3)
    assert "skipped two: gives 2 bands" in capsys.readouterr().out


@pytest.fixture
def torn(make_scene, tmp_path):
    """A scene, and what tears the block in its upper right."""
    path = make_scene(tmp_path / "torn.tif", 256, 256, block=128, compress="DEFLATE")

    def tear():
        dataset = gdal.Open(str(path))
        offset = int(dataset.GetRasterBand(1).GetMetadataItem("BLOCK_OFFSET_1_0", "TIFF"))
        content = bytearray(path.read_bytes())
        content[offset : offset + 500] = b"\xff" * 500
        path.write_bytes(content)

    return path, tear


def test_tiles_that_cannot_be_read_are_listed_and_their_cells_have_no_row(run, gallery, torn):
    path, tear = torn
    tear()
    found = run(path, core=CELL)
    lost = {(row, col) for row in range(0, 128, CELL) for col in range(128, 256, CELL)}
    assert {window for _, window, _ in found.failed} == {str(Window(*each, CELL, CELL)) for each in lost}
    assert found.exit_code == 3
    stored = {(row["row"], row["col"]) for row in read_cells(gallery).to_pylist()}
    assert stored == {(row, col) for row in range(0, 256, CELL) for col in range(0, 256, CELL)} - lost
    assert any("--overwrite" in line for line in report_lines(found))
    with pytest.raises(ReadError, match="--strict"):
        run(path, overwrite=True, strict=True)


def test_a_scene_that_can_no_longer_be_read_whole_keeps_its_cells(run, gallery, archive, torn, monkeypatch):
    path, tear = torn
    # A digest is of a file's ends: it does not see what is torn in the middle of a large one.
    monkeypatch.setattr("hpcseg.raster.scene._digest", lambda rasters: Path(rasters[0]).stem)
    run(path, archive / "scene_0.tif")
    before = read_cells(gallery).to_pylist()
    tear()
    found = run(path, archive / "scene_0.tif", overwrite=True)
    assert read_cells(gallery).to_pylist() == before
    assert (found.kept, found.scenes, found.exit_code) == (["torn"], 1, 3)
    assert sum(found.buckets) == sum(row["scene"] == "scene_0" for row in before)
    assert "kept torn: its earlier cells stay, for not all of its tiles could be read now" in report_lines(found)


@pytest.mark.parametrize("overwrite", [False, True], ids=["more", "replaced"])
def test_a_stop_keeps_what_was_there(run, gallery, archive, overwrite):
    run(archive / "scene_0.tif")
    before = read_cells(gallery).to_pylist()
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError, match="run the same command again"):
        run(archive, stop=stop, overwrite=overwrite)
    assert read_cells(gallery).to_pylist() == before


def test_no_gallery_is_said(alone, tmp_path, archive):
    with pytest.raises(UsageError, match=r"nowhere holds no gallery .*: hpcseg gallery build makes one"):
        assign(alone, AssignOptions((str(archive),), gallery=tmp_path / "nowhere"), threading.Event())


def test_rounds_hold_whole_scenes_of_about_so_many_cells(archive):
    scene = describe(str(archive / "scene_0.tif"), "scene_0")
    assert [len(each) for each in rounds([scene] * 5, CELL, 180)] == [2, 2, 1]
    assert [len(each) for each in rounds([scene] * 2, CELL, 1)] == [1, 1]
    assert list(rounds([], CELL, 1)) == []
