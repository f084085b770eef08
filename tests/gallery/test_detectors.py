"""Galleries of detectors: each cell is searched by the detector of its own bucket, each object counted once; and their training."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from gallery.land import write_gallery as write_cells
from gallery.made import CELL, SCENE, patchwork, write_gallery
from mpi.launch import needs_mpirun
from mpi.launch import run as launch
from safetensors.torch import save_file
from training.spots import EDGE, point_flags, point_settings, write_spots

from hpcseg import store
from hpcseg.config import Class, ModelSpec, decode_toml, encode_toml, read_model
from hpcseg.errors import UsageError
from hpcseg.gallery.compare import Question, compare
from hpcseg.gallery.jobs import Order
from hpcseg.gallery.members import open_gallery
from hpcseg.gallery.predict import opener_of
from hpcseg.gallery.spec import GALLERY, MODELS, MONO, NO_BUCKET, BucketModel, GallerySpec, ModelsSpec
from hpcseg.gallery.train import Report, train_gallery
from hpcseg.gallery.verdicts import verdict_lines
from hpcseg.inference.options import Options
from hpcseg.kernels.heat import level_of
from hpcseg.models import build
from hpcseg.mpi import Pulse
from hpcseg.objects.count import Choice, count
from hpcseg.tally import Settings

ROWS, COLS = 5, 6
HEIGHT, WIDTH = ROWS * CELL - 10, COLS * CELL - 20
# On corners and edges of cells, in their middles, and at the scene's edges.
SPOTS = [(r, c) for r in (0, 63, 64 + 32, 128, 191, 309) for c in (0, 40, 63, 72, 128, 200, 255, 264, 363)]
CALIBRATION = (0,) * 128 + (900_000,) * 127


def write_detector(folder: Path, band: int, **keys) -> None:
    """A model folder: heat where one band alone is bright."""
    network = build("one-convolution", 3, 1, task="points")
    with torch.no_grad():
        for each in network.parameters():
            each.zero_()
        network.head.weight[0, :, 1, 1] = torch.tensor([12.0 if k == band else -12.0 for k in range(3)])
        network.head.bias += -10.0
    spec = {"network": "one-convolution", "bands": 3, "classes": [Class(name="seal", color="#b5483a")], "normalisation": SCENE,
            "task": "points", "sigma": 1.0} | keys  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_bytes(encode_toml(ModelSpec(**spec)))
    save_file(network.state_dict(), folder / "weights.safetensors")


def write_detectors(gallery: Path, **keys) -> Path:
    """A model gallery of three detectors, of red, green and blue, and the mono model, of red; its folder."""
    folder, spec = gallery / "seals", msgspec.toml.decode((gallery / GALLERY).read_bytes(), type=GallerySpec)
    for name, band in ((MONO, 0), ("bucket_0", 0), ("bucket_1", 1), ("bucket_2", 2)):
        write_detector(folder / name, band)
    models = [BucketModel(bucket=k, code=each.code, folder=f"bucket_{k}", samples=1) for k, each in enumerate(spec.buckets)]
    said = ModelsSpec(gallery="..", digest=spec.digest, mono=MONO, halo=0, models=models, **keys)
    (folder / MODELS).write_bytes(encode_toml(said))
    return folder


@pytest.fixture(scope="module")
def folder(make_model, make_scene, tmp_path_factory) -> Path:
    """A scene with spots of one band each, taking turns, and a gallery of three detectors."""
    folder = tmp_path_factory.mktemp("detectors")
    pixels = patchwork(ROWS, COLS, HEIGHT, WIDTH)
    for k, (row, col) in enumerate(SPOTS):
        pixels[:, row, col] = 1
        pixels[k % 3, row, col] = 255
    scene = make_scene(folder / "ice.tif", HEIGHT, WIDTH, pixels=pixels, nodata=0)
    write_detectors(write_gallery(folder / "g", make_model, scene), threshold=0.7, calibration=CALIBRATION)
    return folder


@pytest.fixture(scope="module")
def run(folder, alone):
    """run(out, **options) counts with the gallery; gives the map and all that was written of it."""

    def work(out: str, **changes):
        chosen = Options((str(folder / "ice.tif"),), str(folder / "g/seals"), folder / out, precision="fp32", **changes)
        told = count(alone, chosen, Choice(sheet=0), threading.Event(), opener_of(chosen.model))
        return store.read(folder / out / "ice.h5"), {path.name: path.read_bytes() for path in told.files}

    return work


@pytest.fixture(scope="module")
def counted(run):
    return run("one", core=2 * CELL)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_object_is_found_once_by_the_detector_of_its_cell_and_by_no_other(folder, counted):
    stored, _ = counted
    wanted = {(r, c) for k, (r, c) in enumerate(SPOTS) if stored.buckets[r // CELL, c // CELL] == k % 3}
    found = [(int(float(row["row"])), int(float(row["col"]))) for row in rows_of(folder / "one/points.csv")]
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert len(np.unique(stored.buckets)) == 3
    assert len(wanted) > 10


def test_the_threshold_and_calibration_are_those_of_the_gallery(folder, counted):
    (row,) = rows_of(folder / "one/counts.csv")
    assert row["threshold"] == f"{level_of(0.7) / 254:.4f}"
    assert float(row["expected"]) == pytest.approx(0.9 * int(row["objects"]))


@pytest.mark.parametrize("changes", [{"core": CELL}, {"core": 8 * CELL, "threads": 2}], ids=["cell", "whole"])
def test_cores_and_threads_do_not_change_a_file(counted, run, changes):
    stored, files = run(f"core{changes['core']}", **changes)
    assert files["points.csv"] == counted[1]["points.csv"]
    assert files["counts.csv"] == counted[1]["counts.csv"]
    extent = stored.layout.grid.extent
    for name in stored.layout.planes:
        np.testing.assert_array_equal(store.read_window(stored, extent, name), store.read_window(counted[0], extent, name))


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"threshold": 1.5}, "wanted a threshold between 0 and 1"), ({"calibration": (1, 2)}, "255 rising numbers of calibration")],
    ids=["threshold", "calibration"],
)
def test_a_manifest_that_cannot_be_meant_is_refused(folder, tmp_path, keys, message):
    (tmp_path / "g").symlink_to(folder / "g")
    spec = decode_toml(folder / "g/seals" / MODELS, ModelsSpec)
    (tmp_path / MODELS).write_bytes(encode_toml(msgspec.structs.replace(spec, gallery="g", **keys)))
    with pytest.raises(UsageError, match=message):
        open_gallery(tmp_path)


@pytest.mark.parametrize("keys", [{"sigma": 2.0}, {"distance": 5.0}], ids=str)
def test_detectors_of_other_objects_are_refused(folder, tmp_path, keys):
    gallery = tmp_path / "g"
    gallery.symlink_to(folder / "g")
    other = tmp_path / "seals"
    for name in (MONO, "bucket_0", "bucket_1", "bucket_2"):
        write_detector(other / name, 0, **(keys if name == "bucket_1" else {}))
    spec = decode_toml(folder / "g/seals" / MODELS, ModelsSpec)
    (other / MODELS).write_bytes(encode_toml(msgspec.structs.replace(spec, gallery="../g")))
    with pytest.raises(UsageError, match=r"bucket_1, .*: finds points \(sigma .*, the mono model finds points \(sigma 1, distance 2\)"):
        open_gallery(other)


def test_maps_of_detectors_are_judged_by_another_command(alone, folder, counted):
    question = Question(folder / "g/seals", folder / "one", folder / "one", ())
    with Pulse(alone, 60.0, threading.Event()) as pulse, pytest.raises(UsageError, match="finds points: judge each folder of hpcseg count"):
        compare(alone, pulse, question, Settings())


# Training.

BUCKETS = np.array([[0, 0, 1, 1]] * 4, np.uint8)


@pytest.fixture(scope="module")
def trained(alone, tmp_path_factory) -> tuple[Path, Report]:
    """A model gallery of detectors, trained on spots, whose cells in one corner have no code; and its report."""
    place = tmp_path_factory.mktemp("spots")
    write_spots(place)
    buckets = BUCKETS.copy()
    buckets[0, 0] = NO_BUCKET
    write_cells(place / "gallery", [place / "spots.tif"], buckets, count=2, cell=EDGE // 4)
    settings = point_settings(place, place / "unused", epochs=6)
    report = train_gallery(alone, Order(place / "gallery", "spots", settings, min_samples=2), threading.Event())
    assert report is not None
    return place / "gallery/spots", report


@pytest.mark.long
def test_a_gallery_of_detectors_trains_and_says_one_threshold_and_calibration(trained):
    folder, _ = trained
    said = decode_toml(folder / MODELS, ModelsSpec)
    assert [each.bucket for each in said.models] == [0, 1]
    assert 0 < said.threshold < 1
    assert len(said.calibration) == 255
    opened = open_gallery(folder)
    assert (opened.said.threshold, opened.said.calibration) == (said.threshold, list(said.calibration))
    assert opened.said.sigma == read_model(folder / MONO / "model.toml").sigma


@pytest.mark.long
def test_all_marked_objects_are_judged_once_at_the_threshold_of_the_gallery(trained):
    folder, report = trained
    single = json.loads((folder / MONO / "train.json").read_text())["points"]
    for part in ("validation", "test"):
        there = sum(np.array(verdict.own[part])[1].sum() for verdict in report.verdicts)
        assert there == single[part][0]["there"]
    assert [verdict.bucket for verdict in report.verdicts] == [0, 1, 254]
    assert report.verdicts[2].why == "in no bucket"
    assert any(line.startswith("validation_gallery_f1=") for line in verdict_lines(report.verdicts))


# Ranks.


@pytest.mark.mpi
@pytest.mark.long
@needs_mpirun
def test_two_ranks_count_what_one_counts(folder, counted):
    out = folder / "ranks"
    result = launch(2, "count", folder / "ice.tif", "--model", folder / "g/seals", "--out", out, "--core", CELL, "--precision", "fp32",
                    "--sheet", "0", "--threads", "1")  # fmt: skip
    assert result.returncode == 0, result.stderr
    for name in ("points.csv", "counts.csv"):
        assert (out / name).read_bytes() == counted[1][name]


@pytest.mark.mpi
@pytest.mark.long
@needs_mpirun
def test_two_ranks_train_detectors_and_judge_each_object_once(trained, tmp_path):
    place = trained[0].parents[1]
    config = tmp_path / "spots.toml"
    flags = point_flags(place, tmp_path, epochs=2)
    flags |= {"labels": {"files": flags["labels"]}, "classes": [{"name": name, "color": "#b5483a"} for name in flags["classes"]]}
    del flags["out"]
    config.write_bytes(msgspec.toml.encode(flags))
    result = launch(2, "gallery", "train", place / "gallery", config, "--application", "two", "--min-samples", "2", "--threads", "1")
    assert result.returncode == 0, result.stderr
    two, one = (json.loads((place / "gallery" / name / "train.json").read_text())["verdicts"] for name in ("two", "spots"))
    for part in ("validation", "test"):
        there = [[sum(each["mono"][part][1]) for each in verdicts] for verdicts in (two, one)]
        assert there[0] == there[1]
    assert len(decode_toml(place / "gallery/two" / MODELS, ModelsSpec).calibration) == 255
