"""Jobs at the edge of the ordinary: tiny and empty scenes, ranks without work, maps that are there already."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from osgeo import gdal

from hpcseg import store
from mpi.launch import needs_mpirun, own_lines, run, value

pytestmark = [pytest.mark.mpi, needs_mpirun]


@pytest.fixture(scope="module")
def models(tmp_path_factory, make_model):
    """Small models by the bands that they take."""
    folder = tmp_path_factory.mktemp("models")
    return {bands: make_model(folder / f"bands{bands}", bands=bands) for bands in (1, 3, 4)}


@pytest.fixture(scope="module")
def scene(tmp_path_factory, make_scene):
    return make_scene(tmp_path_factory.mktemp("scenes") / "field.tif", 200, 300)


def labels_of(path):
    """The labels of a prediction file, after every tile's CRC was found right."""
    stored = store.read(path)
    assert store.check(stored, np.arange(stored.layout.grid.size)).all()
    return store.read_window(stored, stored.layout.grid.extent)


@pytest.mark.parametrize(
    ("name", "shape", "empty"),
    [("test_esri_wkt.tif", (2, 2), 0), ("float_nan.tif", (2, 3), None), ("rotated.tif", (15, 10), 0)],
)
def test_a_scene_smaller_than_a_tile_is_mapped_whole(name, shape, empty, data, models, tmp_path):
    scene = data / "odd_inputs" / name
    result = run(2, "predict", scene, "--model", models[1], "--out", tmp_path, "--core", "64")
    labels = labels_of(tmp_path / f"{scene.stem}.h5")
    assert labels.shape == shape
    assert value(result, "tiles") == "1 of 1"
    assert empty is None or (labels < 3).all()


def test_missing_pixels_of_a_tiny_scene_are_no_data_and_the_others_are_mapped(data, models, tmp_path):
    scene = data / "odd_inputs/float_nan.tif"
    missing = np.isnan(gdal.Open(str(scene)).ReadAsArray())
    run(2, "predict", scene, "--model", models[1], "--out", tmp_path)
    assert np.array_equal(labels_of(tmp_path / "float_nan.h5") == 255, missing)


def test_a_scene_without_any_data_is_all_no_data_and_done(data, models, tmp_path):
    scene = data / "odd_inputs/all-nodata.tif"
    result = run(2, "predict", scene, "--model", models[4], "--out", tmp_path, "--core", "256")
    assert (labels_of(tmp_path / "all-nodata.h5") == 255).all()
    assert (store.read(tmp_path / "all-nodata.h5").status == store.EMPTY).all()
    assert value(result, "empty_tiles") == value(result, "tiles").partition(" ")[0] == "10"


def test_more_ranks_than_tiles_give_the_same_map_as_one(models, scene, tmp_path, hpcseg):
    words = ("predict", scene, "--model", models[3], "--core", "256", "--precision", "fp32")
    hpcseg(*words, "--out", tmp_path / "1")
    run(3, *words, "--out", tmp_path / "3")
    ranks = json.loads((tmp_path / "3/run.json").read_text())["ranks"]
    assert sorted(each["tiles"] for each in ranks) == [0, 1, 1]
    assert np.array_equal(labels_of(tmp_path / "1/field.h5"), labels_of(tmp_path / "3/field.h5"))


def test_ranks_without_work_wait_for_those_that_have_it(models, make_scene, tmp_path):
    scene = make_scene(tmp_path / "one.tif", 60, 60)
    result = run(4, "predict", scene, "--model", models[3], "--out", tmp_path / "maps", timeout=60)
    assert value(result, "tiles") == "1 of 1"


def test_many_small_scenes_share_files_over_many_ranks(models, make_scene, tmp_path, hpcseg):
    scenes = [make_scene(tmp_path / f"s{k}.tif", 70 + 64 * (k % 3), 200, seed=k) for k in range(7)]
    words = ("predict", *scenes, "--model", models[3], "--core", "64", "--precision", "fp32")
    hpcseg(*words, "--out", tmp_path / "1")
    run(4, *words, "--out", tmp_path / "4")
    for scene in scenes:
        assert np.array_equal(*(labels_of(tmp_path / n / f"{scene.stem}.h5") for n in ("1", "4"))), scene.stem


def test_a_map_of_another_kind_is_refused_saying_what_differs(models, scene, tmp_path, hpcseg):
    hpcseg("predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64")
    before = (tmp_path / "field.h5").read_bytes()
    result = run(2, "predict", scene, "--model", models[3], "--out", tmp_path, "--core", "128", code=2)
    (line,) = own_lines(result)
    assert "field.h5 is another map" in line
    assert "core is 64, wanted 128" in line
    assert "--overwrite" in line
    assert (tmp_path / "field.h5").read_bytes() == before


def test_another_network_is_refused_by_its_digest(models, make_model, scene, tmp_path, hpcseg):
    hpcseg("predict", scene, "--model", models[3], "--out", tmp_path / "maps", "--core", "64")
    other = make_model(tmp_path / "other", seed=9)
    (line,) = own_lines(run(2, "predict", scene, "--model", other, "--out", tmp_path / "maps", "--core", "64", code=2))
    assert "network is " in line


def test_another_scene_of_the_same_name_is_refused(models, scene, make_scene, tmp_path, hpcseg):
    hpcseg("predict", scene, "--model", models[3], "--out", tmp_path / "maps", "--core", "64")
    other = make_scene(tmp_path / "field.tif", 200, 300, seed=2)
    (line,) = own_lines(run(2, "predict", other, "--model", models[3], "--out", tmp_path / "maps", "--core", "64", code=2))
    assert "scene is " in line


def test_overwrite_starts_anew(models, scene, tmp_path, hpcseg):
    hpcseg("predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64")
    result = run(2, "predict", scene, "--model", models[3], "--out", tmp_path, "--core", "128", "--overwrite")
    assert value(result, "tiles") == "6 of 6"
    assert store.read(tmp_path / "field.h5").layout.grid.core == 128
    assert labels_of(tmp_path / "field.h5").max() < 3


def test_a_complete_map_is_left_as_it_is(models, scene, tmp_path):
    run(2, "predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64")
    before = (tmp_path / "field.h5").read_bytes()
    result = run(3, "predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64")
    assert value(result, "tiles") == "0 of 0"
    assert (tmp_path / "field.h5").read_bytes() == before


def test_what_cannot_change_a_map_does_not_refuse_it(models, scene, tmp_path, hpcseg):
    """Threads, batch and the paths of model and scene are no part of a map's identity."""
    hpcseg("predict", scene, "--model", models[3], "--out", tmp_path / "maps", "--core", "64", "--threads", "1")
    moved = shutil.copytree(models[3], tmp_path / "moved"), shutil.copy(scene, tmp_path / "field.tif")
    result = run(2, "predict", moved[1], "--model", moved[0], "--out", tmp_path / "maps", "--core", "64", "--threads", "2", "--batch", "3")
    assert value(result, "tiles") == "0 of 0"


def test_only_tiles_with_wrong_bytes_are_mapped_again(models, scene, tmp_path, hpcseg):
    hpcseg("predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64")
    good = labels_of(tmp_path / "field.h5")
    with h5py.File(tmp_path / "field.h5", "r+") as file:
        file["labels"][70, 70] ^= 1
    result = run(2, "predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64")
    assert value(result, "tiles") == "1 of 1"
    assert np.array_equal(labels_of(tmp_path / "field.h5"), good)


def test_a_file_that_is_no_map_is_refused_and_kept(models, scene, tmp_path):
    (tmp_path / "field.h5").write_text("something else")
    (line,) = own_lines(run(2, "predict", scene, "--model", models[3], "--out", tmp_path, "--core", "64", code=2))
    assert "field.h5 is not a prediction file" in line
    assert (tmp_path / "field.h5").read_text() == "something else"
