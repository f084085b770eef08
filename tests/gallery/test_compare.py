"""A gallery beside one model: the figures are those of `evaluate` on each, by region, and the rates those of their reports."""

from __future__ import annotations

import csv
import json
import shutil
import threading

import h5py
import numpy as np
import pytest
from gallery.made import CELL, patchwork, write_gallery, write_models

from hpcseg import store
from hpcseg.cli.gallery import command
from hpcseg.errors import UsageError
from hpcseg.gallery.predict import open_gallery_route
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.inference.route import open_route
from hpcseg.metrics import figures
from hpcseg.raster import read_array
from hpcseg.tiles import Window

WHOLE = Window(0, 0, 256, 256)
REGIONS = {"a": "north", "b": "south", "c": "north"}


@pytest.fixture(scope="module")
def folder(make_model, make_scene, tmp_path_factory, alone):
    """Three scenes of two regions with truth, a gallery, and the maps of both."""
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(1)
    for k, name in enumerate(REGIONS):
        make_scene(folder / f"{name}.tif", 256, 256, pixels=patchwork(4, 4, 256, 256, seed=k))
        truth = np.kron(rng.integers(0, 2, (32, 32)), np.ones((8, 8), int))[None]
        make_scene(folder / f"truth/{name}.tif", 256, 256, 1, pixels=truth)
    rows = [f"{name}.tif,truth/{name}.tif,{region}" for name, region in REGIONS.items()]
    (folder / "scenes.csv").write_text("\n".join(["scene,label,region", *rows]))
    write_models(write_gallery(folder / "g", make_model, folder / "a.tif"), make_model, classes=2)
    for out, model, choose in (("own", "g/roofs", open_gallery_route), ("mono", "g/roofs/mono", open_route)):
        options = Options((str(folder / "scenes.csv"),), str(folder / model), folder / out, core=2 * CELL, precision="fp32")
        predict(alone, options, threading.Event(), choose)
    return folder


@pytest.fixture(scope="module")
def evaluate(alone, folder):
    def run(*words):
        arguments = ["evaluate", folder / "g/roofs", "--maps", folder / "own", "--mono", folder / "mono", *words]
        return command.main([str(each) for each in arguments], standalone_mode=False, obj=alone)

    return run


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def table_of(folder, out, names):
    """[truth, map] of some scenes, pixel by pixel."""
    total = np.zeros((2, 2), np.int64)
    for name in names:
        stored = store.read(folder / out / f"{name}.h5")
        labels, truth = store.read_window(stored, WHOLE), read_array(folder / f"truth/{name}.tif", WHOLE)
        np.add.at(total, (truth.ravel(), labels.ravel()), 1)
    return total


def test_regions_are_judged_side_by_side(folder, evaluate, capsys):
    assert evaluate() == 0
    said = capsys.readouterr().out
    scores = rows(folder / "own/scores.csv")
    assert [(each["region"], each["model"]) for each in scores] == [
        (region, model) for region in ("north", "south", "all") for model in ("mono", "gallery")
    ]
    for each in scores:
        names = [name for name, region in REGIONS.items() if each["region"] in (region, "all")]
        wanted = figures(table_of(folder, "mono" if each["model"] == "mono" else "own", names))
        assert float(each["iou"]) == pytest.approx(wanted[0, 1], abs=1e-6)
        assert float(each["f1"]) == pytest.approx(wanted[1, 1], abs=1e-6)
        assert int(each["judged_px"]) == 256 * 256 * len(names)
    assert len({each["iou"] for each in scores}) > 3, "the two differ"
    assert f"iou_gallery={scores[-1]['iou']}" in said


def test_rates_and_stages_are_those_of_the_reports(folder, evaluate):
    evaluate("--region", "nothing")
    speeds = {each["model"]: each for each in rows(folder / "own/speeds.csv")}
    for name, out in (("mono", "mono"), ("gallery", "own")):
        rank = json.loads((folder / out / "run.json").read_text())["ranks"][0]
        assert float(speeds[name]["mpx_per_s"]) == pytest.approx(rank["mapped_px"] / rank["seconds"]["wall"] / 1e6, rel=1e-4)
        assert float(speeds[name]["gb_per_day"]) == pytest.approx(86400 * 3 * float(speeds[name]["mpx_per_s"]) / 1000, rel=1e-4)
        assert float(speeds[name]["features_s"]) == pytest.approx(rank["seconds"].get("features", 0.0), abs=1e-3)
    assert float(speeds["mono"]["segment_s"]) > 0
    assert {each["region"] for each in rows(folder / "own/scores.csv")} == {"a", "b", "c", "all"}


def test_a_run_in_parts_has_no_rates(folder, evaluate, tmp_path, capsys):
    for out in ("own", "mono"):
        shutil.copytree(folder / out, tmp_path / out)
    report = tmp_path / "mono/run.json"
    for name in ("run.1of2.json", "run.2of2.json"):
        shutil.copy(report, report.with_name(name))
    report.unlink()
    evaluate("--maps", tmp_path / "own", "--mono", tmp_path / "mono")
    said = capsys.readouterr().out
    assert "note: no rates of mono: its run.json is of several parts" in said
    assert "throughput_mono=nan Mpx/s" in said
    speeds = {each["model"]: each for each in rows(tmp_path / "own/speeds.csv")}
    assert speeds["mono"]["km2_per_day"] == "nan"
    assert float(speeds["mono"]["segment_s"]) > 0
    assert float(speeds["gallery"]["mpx_per_s"]) > 0


@pytest.mark.parametrize("record", [{}, {"ranks": [{"host": "a"}]}, {"ranks": 3}], ids=["none", "rank", "number"])
def test_a_report_of_another_kind_is_one_line(folder, evaluate, tmp_path, record):
    shutil.copytree(folder / "mono", tmp_path / "mono")
    (tmp_path / "mono/run.json").write_text(json.dumps({"wall": 1.0} | record))
    with pytest.raises(UsageError, match=r"mono/run.json: no report of a run of predict: "):
        evaluate("--mono", tmp_path / "mono")


def test_maps_are_drawn_by_bucket(evaluate, tmp_path):
    evaluate("--pictures", "1", "--out", tmp_path)
    assert (tmp_path / "a_buckets.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "b_buckets.png").exists()


def test_maps_of_other_networks_and_of_other_pixels_are_refused(folder, evaluate, tmp_path):
    with pytest.raises(UsageError, match=r"is not a map of .*roofs as it is now"):
        evaluate("--maps", folder / "mono")
    for out in ("own", "mono"):
        shutil.copytree(folder / out, tmp_path / out)
    with h5py.File(tmp_path / "mono/b.h5", "r+") as file:
        file["labels"][:10] = 255
    (tmp_path / "mono/c.h5").unlink()
    assert evaluate("--maps", tmp_path / "own", "--mono", tmp_path / "mono") == 3
    assert {each["region"] for each in rows(tmp_path / "own/scores.csv")} == {"north", "all"}
    (tmp_path / "mono/a.h5").unlink()
    (tmp_path / "mono/b.h5").unlink()
    with pytest.raises(UsageError, match=r"have no prediction file .* of the same name"):
        evaluate("--maps", tmp_path / "own", "--mono", tmp_path / "mono")
