"""The page of a run: it tells what its folder holds, also where the run failed, stopped or said nothing, and needs nothing beside it."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import pytest
from maps import write_map
from osgeo import osr
from pages import read_page

from hpcseg import __version__, store
from hpcseg.config import Class
from hpcseg.errors import UsageError
from hpcseg.georeference import Georeference
from hpcseg.mpi import Pulse
from hpcseg.products.cog import ClassShare
from hpcseg.products.html import write_page
from hpcseg.products.page import Run, run_values, write_run_page
from hpcseg.products.page_maps import Look

MADE = {
    "model": "sea-ice", "made_at": "2026-01-01T00:00:00Z", "made_by": json.dumps({"user": "ada", "host": "node7", "device": "a processor"}),
    "versions": json.dumps({"hpcseg": "0.1.0", "torch": "2.13.0"}),
    "model_toml": json.dumps({"network": "unet-light", "bands": 3}),
}  # fmt: skip


def place() -> Georeference:
    system = osr.SpatialReference()
    system.ImportFromEPSG(32633)
    return Georeference(wkt=system.ExportToWkt(), transform=(5e5, 10.0, 0.0, 5e6, 0.0, -10.0))


def labels() -> np.ndarray:
    """A quarter roofs, a corner without data."""
    found = np.zeros((300, 400), np.uint8)
    found[:150, :200] = 1
    found[290:, 390:] = 255
    return found


def record(ranks: int = 2, **changes) -> dict:
    """A run.json."""
    busy = {"read": "50 10", "forward": "50 90"}
    told = [
        {"rank": k, "host": f"node{k}", "tiles": 2, "empty": 0, "mapped_px": 60_000, "mapped_m2": 6e6, "allocation": 0.0,
         "seconds": {"read": 0.5, "decode": 0.3, "forward": 4.0 - k % 2, "write": 0.1, "wait": 0.2, "wall": 5.0}, "failed": [],
         "peak_memory_mb": 300.0, "timeline": [{"begin": 1000.0, "width": 2.5, "busy": busy}]}
        for k in range(ranks)
    ]  # fmt: skip
    given = {
        "ranks": told, "refused": [], "notes": [], "scenes": 1, "planned_tiles": 4, "imbalance": 1.0, "wall": 9.0, "stopped": False,
        "precision": "bf16", "device": "a processor", "manifest": {}, "exit_code": 0,
        "provenance": {"command": "hpcseg predict a.tif --out maps", "user": "ada", "host": "node7", "finished": "2026-01-01T00:01:00Z"},
    }  # fmt: skip
    return given | changes


@pytest.fixture
def page_of(alone, tmp_path):
    """page_of(record, where, **attributes) writes one map and, if there is one, run.json; returns the parsed page."""

    def make(told: dict | None, where: Georeference | None = None, **attributes: str):
        write_map(tmp_path / "a.h5", labels(), ("ground", "roof"), where, **(MADE | attributes))
        if told is not None:
            (tmp_path / "run.json").write_text(json.dumps(told))
        return write(alone, tmp_path)

    return make


def write(comm, folder: Path):
    with Pulse(comm, 600, Event()) as pulse:
        path = write_run_page(comm, pulse, folder)
    assert path == folder / "report.html"
    return read_page(path)


def test_a_run_is_told_with_its_picture_classes_times_and_origin(page_of):
    text = page_of(record(), place()).text
    assert "1 scene mapped with sea-ice complete" in text
    assert "roof 25.0 % 3.002 km² 30,000" in text
    assert "ground 75.0 % 8.997 km² 89,900" in text
    assert "0.0240 Mpx/s while mapping" in text
    assert "87.5 % load balance" in text
    assert "hpcseg predict a.tif --out maps" in text
    assert "2 ranks on node0, node1 (a processor)" in text
    assert "forward 7.00 s" in text


def test_the_picture_of_a_map_and_the_timeline_are_in_the_page(page_of):
    alts = [alt for alt, _ in page_of(record()).images]
    assert alts == ["map of a", "What each rank did", "Busy seconds by rank"]


def test_the_methods_name_program_network_and_area_with_their_papers(page_of):
    text = page_of(record(), place()).text
    assert f"1 scene was mapped with hpcseg {__version__} [1], using the model sea-ice, a unet-light network [2] of 3 bands" in text
    assert "an equal-area plane [3]" in text
    assert "Ronneberger" in text
    assert "Snyder" in text
    assert "The manifest names no source of the data" in text


def test_the_data_are_cited_as_the_manifest_says(page_of):
    told = record(manifest={"a": {"date": "2024-11-02", "region": "Ross Sea", "doi": "10.1000/182"}})
    text = page_of(told).text
    assert "The scenes were taken on 2024-11-02. They show Ross Sea. The data are cited as their manifest says [3]." in text
    assert "10.1000/182" in text
    assert "names no source" not in text


def test_without_a_reference_system_there_are_pixels_and_no_areas(page_of):
    text = page_of(record()).text
    assert "roof 25.0 % – 30,000" in text
    assert "Mpx of valid pixels" in text
    assert "ellipsoid" not in text


def test_without_run_json_the_maps_alone_are_told(page_of):
    page = page_of(None)
    assert "no run.json: the run goes on, or was killed" in page.text
    assert "made by ada" in page.text
    assert [alt for alt, _ in page.images] == ["map of a"]


def test_what_failed_is_named_first_and_in_full(page_of, alone, tmp_path):
    told = record(refused=[["b", "cannot be opened: no such file"]], notes=["bf16 agrees"])
    told["ranks"][0]["failed"] = [["a", "rows 0:256, cols 0:256", "IReadBlock failed"]]
    page_of(told)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["tiles/status"][0, 0] = store.FAILED
        file["tiles/status"][1, 1] = store.MISSING
    text = write(alone, tmp_path).text
    assert "1 tiles not yet mapped 1 tiles could not be read 1 scene could not be used" in text
    assert "b cannot be opened: no such file" in text
    assert "rows 0:256, cols 0:256 IReadBlock failed" in text
    assert "1 of 4 tiles could not be read and hold no data." in text


def test_a_run_that_was_stopped_says_how_to_go_on(page_of):
    assert "stopped before its end: run the same command again to resume" in page_of(record(stopped=True)).text


@pytest.mark.parametrize(("filtered", "how"), [("default", "by brightness, against thin cloud and shadow"), ("none", "by brightness")])
def test_a_teacher_is_named_with_its_rule_and_paper(page_of, filtered, how):
    text = page_of(record(), model="label ice", teacher=json.dumps({"name": "ice", "filter": filtered, "water": 30})).text
    assert "1 scene labelled by the ice teacher" in text
    assert f"{how} [2] (filter {filtered}, water 30)." in text
    assert "arXiv:2403.13135" in text


def test_a_count_is_told_by_its_table(alone, tmp_path):
    path = write_map(tmp_path / "a.h5", labels(), **MADE)
    with h5py.File(path, "r+") as file:
        file.move("labels", "heat")
    (tmp_path / "counts.csv").write_text("scene,class,objects\na,seal,1234\nb,seal,6\n")
    text = write(alone, tmp_path).text
    assert "Objects counted in 1 scene with sea-ice" in text
    assert "a seal 1234 b seal 6" in text
    assert "1,240 seal" in text
    assert "Found were 1,240 of class seal." in text
    assert "all are in counts.csv" not in text


def test_a_long_table_of_counts_says_that_it_was_cut(alone, tmp_path):
    write_map(tmp_path / "a.h5", labels())
    (tmp_path / "counts.csv").write_text("scene,class,objects\n" + "a,seal,1\n" * 1001)
    text = write(alone, tmp_path).text
    assert "The first 1,000 of 1,001 rows; all are in counts.csv." in text
    assert "1,001 seal" in text


@pytest.mark.parametrize("row", [b"a,seal,many", b"a", b"a,seal,\xff"])
def test_a_damaged_table_of_counts_is_named(alone, tmp_path, row):
    write_map(tmp_path / "a.h5", labels())
    (tmp_path / "counts.csv").write_bytes(b"scene,class,objects\n" + row + b"\n")
    with Pulse(alone, 600, Event()) as pulse, pytest.raises(UsageError, match=r"counts\.csv.*count again"):
        write_run_page(alone, pulse, tmp_path)


def test_the_version_is_that_which_made_the_maps(page_of, tmp_path):
    told = record()
    told["provenance"]["hpcseg"] = "0.0.9"
    text = page_of(told, hpcseg_version="0.0.8").text
    assert "mapped with hpcseg 0.0.9 [1]" in text
    assert "Version 0.0.9." in text
    (tmp_path / "run.json").unlink()
    assert "mapped with hpcseg 0.0.8 [1]" in page_of(None, hpcseg_version="0.0.8").text


def test_jobs_that_shared_the_scenes_have_no_speed_together(page_of):
    text = page_of(record() | {"ranks": 3 * record()["ranks"]}).text
    assert "6 ranks 3 jobs 9.00 s of the longest job" in text
    assert "Mpx/s" not in text
    assert "load balance" not in text


def test_parts_that_have_not_reported_are_missed(page_of, tmp_path):
    page = page_of(None)
    (tmp_path / "run.2of10.json").write_text(json.dumps(record()))
    assert "1 of 10 parts of the scenes have reported so far" in page_of(None).text
    assert "parts of the scenes" not in page.text


def test_a_gallery_of_networks_is_not_one_training(alone, tmp_path):
    for name in ("models.toml", "train.json"):
        (tmp_path / name).write_text("{}")
    with Pulse(alone, 600, Event()) as pulse, pytest.raises(UsageError, match="report its folders mono and bucket_K"):
        write_run_page(alone, pulse, tmp_path)


def test_a_thousand_scenes_and_ranks_stay_a_small_page(tmp_path):
    classes = [Class(name="ground", color="#808080"), Class(name="roof", color="#a03020")]
    shares = {"ground": ClassShare(900, 0.9, 9e4), "roof": ClassShare(100, 0.1, 1e4)}
    tiles = {"done": 4, "missing": 0, "failed": 0, "nothing to do": 0}
    looks = [Look(f"scene_{k:04d}", 100, 100, tiles, classes, shares, {}) for k in range(1500)]
    run = Run(tmp_path, record(ranks=1000, scenes=1500), "predict", [])
    write_page(tmp_path / "report.html", "run.html", **run_values(run, looks))
    page = read_page(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert "All 1,500 scenes, one by one" in page.text
    assert "The first 1,000 of 1,500" in page.text
    assert page.tags.count("details") >= 2, "long tables are folded"


def test_a_folder_without_a_run_is_wrong_use(alone, tmp_path):
    with Pulse(alone, 600, Event()) as pulse, pytest.raises(UsageError, match="no run here"):
        write_run_page(alone, pulse, tmp_path)


def test_a_broken_run_json_is_named(alone, tmp_path):
    write_map(tmp_path / "a.h5", labels())
    (tmp_path / "run.json").write_text("{")
    with Pulse(alone, 600, Event()) as pulse, pytest.raises(UsageError, match=r"run\.json"):
        write_run_page(alone, pulse, tmp_path)


def test_an_old_page_is_replaced_whole_or_not_at_all(page_of, tmp_path):
    page_of(record())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "report.html", "run.json"]


def test_the_command_says_where_the_page_is(hpcseg, tmp_path):
    write_map(tmp_path / "a.h5", labels())
    assert hpcseg("report", tmp_path) == (0, f"wrote {tmp_path / 'report.html'}\n", "")


def test_the_command_without_a_run_is_wrong_use(hpcseg, tmp_path):
    code, _, said = hpcseg("report", tmp_path)
    assert code == 2
    assert "no run here; wanted the folder that predict, label, count or train wrote to with --out" in said
