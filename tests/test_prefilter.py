"""Networks that see ice through a filter: as if they were given the filtered pictures."""

from __future__ import annotations

import csv
import threading

import numpy as np
import pytest
from osgeo import gdal

from hpcseg import store
from hpcseg.config import Normalisation, decode_toml, read_model
from hpcseg.errors import StoppedError, UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.labels.ice import ice_teacher
from hpcseg.labels.run import LabelOptions, label
from hpcseg.synthetic import ice
from hpcseg.training.settings import read_settings
from hpcseg.training.train import train

TEACHERS = {"ice": "default", "ice-published": "published"}
SCENE = Normalisation(kind="scene")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, alone, make_scene, make_model):
    """Scenes a and b under cloud with a strip without data, their filtered pictures and labels, and a model without a filter."""
    folder = tmp_path_factory.mktemp("prefilter")
    ice(folder / "synth", 2, 300, 260, seed=3, clouds=0.3, scale=0.05)
    for k, name in enumerate("ab"):
        pixels = gdal.Open(str(folder / f"synth/ice_00{k}.tif")).ReadAsArray()
        pixels[:, :, 30:60] = 0
        make_scene(folder / f"scenes/{name}.tif", 300, 260, pixels=pixels, nodata=0)
    for name, filtered in TEACHERS.items():
        chosen = LabelOptions((str(folder / "scenes"),), out=folder / name, core=128)
        label(alone, ice_teacher(filtered, picture=True), chosen, threading.Event())
    make_model(folder / "m")
    return folder


def run(alone, folder, out, model, scenes="scenes", stop=None, **changes):
    chosen = {"core": 64, "precision": "fp32", "confidence": True, "out": out} | changes
    return predict(alone, Options((str(folder / scenes),), model=str(model), **chosen), stop or threading.Event())


def planes(out, name):
    """Labels and confidence, u8 (2, h, w)."""
    stored = store.read(out / f"{name}.h5")
    return np.stack([store.read_window(stored, stored.layout.grid.extent, plane) for plane in ("labels", "confidence")])


@pytest.mark.parametrize("name", TEACHERS)
@pytest.mark.parametrize("norm", [Normalisation(mean=[120.0] * 3, std=[60.0] * 3), SCENE], ids=["fixed", "scene"])
def test_a_map_through_a_filter_is_that_of_the_filtered_pictures(alone, folder, make_model, tmp_path, name, norm):
    plain = make_model(tmp_path / "plain", spec={"normalisation": norm})
    through = make_model(tmp_path / "through", spec={"normalisation": norm, "prefilter": name})
    summary = run(alone, folder, tmp_path / "one", through)
    assert (summary.exit_code, summary.scenes) == (0, 2)
    run(alone, folder, tmp_path / "two", plain, f"{name}/filtered")
    run(alone, folder, tmp_path / "other", plain)
    for scene in "ab":
        one, two, other = (planes(tmp_path / out, scene) for out in ("one", "two", "other"))
        np.testing.assert_array_equal(one, two)
        assert (one[1] != other[1]).mean() > 0.05
        assert (one[:, :, 30:60] == 255).all()


def test_a_map_through_a_filter_is_one_of_its_own(alone, folder, make_model, tmp_path):
    make_model(tmp_path / "m")
    run(alone, folder, tmp_path / "out", tmp_path / "m")
    plain = store.read(tmp_path / "out/a.h5").identity
    make_model(tmp_path / "m", spec={"prefilter": "ice"})
    with pytest.raises(UsageError, match="is another map: prefilter is None, wanted"):
        run(alone, folder, tmp_path / "out", tmp_path / "m")
    run(alone, folder, tmp_path / "out", tmp_path / "m", overwrite=True)
    found = {name: store.read(tmp_path / f"out/{name}.h5").identity["prefilter"] for name in "ab"}
    assert "prefilter" not in plain
    assert {each["name"] for each in found.values()} == {"ice"}
    assert found["a"]["fit"] != found["b"]["fit"]
    assert run(alone, folder, tmp_path / "out", tmp_path / "m").planned_tiles == 0


def test_scenes_that_a_filter_cannot_take_are_named(alone, make_scene, make_model, tmp_path):
    make_scene(tmp_path / "scenes/deep.tif", 70, 80, dtype="uint16")
    make_scene(tmp_path / "scenes/flat.tif", 70, 80)
    model = make_model(tmp_path / "m", spec={"prefilter": "ice"})
    summary = run(alone, tmp_path, tmp_path / "out", model)
    assert (summary.exit_code, summary.scenes) == (3, 1)
    ((name, reason),) = summary.refused
    assert (name, reason.partition(":")[0]) == ("deep", "has pixels of uint16, prefilter ice takes uint8")


def test_a_filter_needs_three_bands_and_a_name_that_is_known(make_model, tmp_path):
    with pytest.raises(UsageError, match="prefilter is 'ice', of red, green and blue, and bands is 4"):
        read_model(make_model(tmp_path / "m", bands=4, spec={"prefilter": "ice"}) / "model.toml")
    with pytest.raises(UsageError, match="prefilter"):
        read_model(make_model(tmp_path / "n", spec={"prefilter": "snow"}) / "model.toml")


def test_a_stop_while_the_filter_is_fitted_leaves_no_map(alone, folder, make_model, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError, match="stopped before the prefilter"):
        run(alone, folder, tmp_path / "out", make_model(tmp_path / "m", spec={"prefilter": "ice"}), stop=stop)
    assert not (tmp_path / "out").exists()


def teach(alone, folder, out, scenes, **changes):
    """Train a little; the history without its times, and the model."""
    values = {"scenes": [str(folder / scenes)], "labels": [str(folder / "ice/?.h5")], "out": str(out), "tile": 32, "block": 64,
              "epochs": 1, "batch": 8, "network": "unet-light", "options": {"down": [6, 8], "up": [6]}}  # fmt: skip
    classes = ["open water", "thin ice", "thick ice"]
    train(alone, read_settings(None, values | {"classes": classes} | changes), threading.Event())
    with (out / "history.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return rows, read_model(out / "model.toml")


def test_training_through_a_filter_is_training_on_the_filtered_pictures(alone, folder, tmp_path):
    through, model = teach(alone, folder, tmp_path / "through", "scenes", prefilter="ice")
    plain, other = teach(alone, folder, tmp_path / "plain", "ice/filtered")
    assert through == plain
    assert (model.prefilter, other.prefilter) == ("ice", "")
    assert model.normalisation == other.normalisation
    assert 'prefilter = "ice"' in (tmp_path / "through/model.toml").read_text()
    # What begins from a model that filters goes on filtering.
    _, next_one = teach(alone, folder, tmp_path / "next", "scenes", init=str(tmp_path / "through"), options={})
    assert next_one.prefilter == "ice"
    assert decode_toml(tmp_path / "plain/model.toml", dict).get("prefilter") is None


def test_tiles_that_cannot_be_read_fail_and_the_rest_is_mapped(alone, make_scene, make_model, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 256, (3, 600, 300))
    path = make_scene(tmp_path / "scenes/cut.tif", 600, 300, pixels=pixels, block=128)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    summary = run(alone, tmp_path, tmp_path / "out", make_model(tmp_path / "m", spec={"prefilter": "ice"}), core=128)
    assert summary.exit_code == 3
    assert summary.refused[0][0] == "prefilter"
    status = store.read(tmp_path / "out/cut.h5").status
    assert (status[0] == store.DONE).all()
    assert (status[-1] == store.FAILED).all()
    assert "cut" in (tmp_path / "out/failed.csv").read_text()
