"""Detectors: trained on spots, judged by their peaks, and what their model folder says of itself."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import image
from torch import Tensor

from hpcseg.annotations import read_annotations
from hpcseg.config import LabelSpec, read_model
from hpcseg.errors import SceneError, UsageError
from hpcseg.kernels.heat import FULL
from hpcseg.mpi import Pulse
from hpcseg.raster import describe
from hpcseg.tiles import Grid, Window
from hpcseg.training.feed import Feed
from hpcseg.training.losses import PointLoss
from hpcseg.training.samples import Shares, deal, epoch_order
from hpcseg.training.settings import read_settings
from hpcseg.training.shelf import fill_shelf
from hpcseg.training.train import Outcome, report_lines, train
from hpcseg.training.truth import PointTruth
from training.spots import EDGE, point_flags, point_settings, write_spots


@pytest.fixture(scope="module")
def spots(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A folder with the scene, and the spots in it."""
    folder = tmp_path_factory.mktemp("spots")
    return folder, write_spots(folder)


@pytest.fixture(scope="module")
def trained(alone, spots, tmp_path_factory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("trained")
    outcome = train(alone, point_settings(spots[0], out), threading.Event())
    assert outcome is not None
    return out, outcome


@pytest.fixture
def truth(spots) -> PointTruth:
    scene = describe(str(spots[0] / "spots.tif"), "spots")
    settings = point_settings(spots[0], Path())
    return PointTruth(read_annotations(str(spots[0] / "spots.csv"), scene, LabelSpec(), settings.names), scene, settings)


# What they leave.


def test_a_detector_finds_the_spots_of_unseen_blocks_and_tells_their_classes_apart(trained):
    first, second = trained[1].points["test"]
    assert (first["within"], second["within"]) == (20.0, 10.0)
    assert first["f1"] > 0.85
    assert first["there"] > 10


def test_its_model_says_that_it_finds_points_with_a_threshold_and_a_calibration(trained):
    spec = read_model(trained[0] / "model.toml")
    assert (spec.task, spec.sigma, spec.distance, len(spec.classes)) == ("points", 15.0, 40.0, 2)
    assert len(spec.calibration) == 255
    assert spec.calibration[FULL] > 500_000 > spec.calibration[0]
    assert 0 < spec.threshold < 1


def test_the_threshold_is_that_of_the_best_validation_f1(trained):
    rows = list(csv.DictReader((trained[0] / "precision_recall.csv").open(newline="")))
    validation = [row for row in rows if row["part"] == "validation" and row["within"] == "20"]
    assert max(float(row["f1"]) for row in validation) == pytest.approx(trained[1].points["validation"][0]["f1"], abs=1e-4)
    assert {row["part"] for row in rows} == {"validation", "test"}
    assert image.imread(trained[0] / "precision_recall.png").shape[0] > 300


def test_the_report_has_f1_at_each_distance(trained, spots, tmp_path):
    lines = report_lines(point_settings(spots[0], tmp_path), trained[1])
    for part in ("validation", "test"):
        for distance in ("20", "10"):
            assert any(line.startswith(f"{part}_f1_within_{distance}=") for line in lines)
    assert json.loads((trained[0] / "train.json").read_text())["points"]["test"][0]["f1"] == trained[1].points["test"][0]["f1"]


def test_all_objects_of_a_part_are_judged_once_though_its_tiles_touch(alone, spots, trained):
    found = trained[1].points
    settings = point_settings(spots[0], Path())
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        samples = fill_shelf(alone, pulse, settings, None).samples
    for part in ("validation", "test"):
        assert found[part][0]["there"] == samples.class_counts(part).sum()


def test_without_validation_the_last_epoch_counts_with_the_usual_threshold_and_without_calibration(alone, spots, tmp_path, capfd):
    outcome = train(alone, point_settings(spots[0], tmp_path, epochs=2, validation=0.0), threading.Event())
    spec = read_model(tmp_path / "model.toml")
    assert (spec.threshold, spec.calibration) == (0.5, [])
    assert "no object in the validation samples" in capfd.readouterr().out
    assert (outcome.best, list(outcome.points)) == (1.0, ["test"])


# What they learn from.


def test_the_truth_is_full_heat_at_each_spot_in_the_plane_of_its_class(truth, spots):
    out = np.empty((2, EDGE, EDGE), np.uint8)
    truth.read(Window(0, 0, EDGE, EDGE), out)
    assert sorted(map(tuple, np.argwhere(out == FULL).tolist())) == sorted((k, r, c) for r, c, k in spots[1].tolist())


def test_a_window_shows_what_the_whole_scene_shows_and_nothing_beyond_it(truth):
    whole, part = np.empty((2, EDGE, EDGE), np.uint8), np.empty((2, 60, 50), np.uint8)
    truth.read(Window(0, 0, EDGE, EDGE), whole)
    truth.read(Window(EDGE - 40, -10, 60, 50), part)
    np.testing.assert_array_equal(part[:, :40, 10:], whole[:, EDGE - 40 :, :40])
    assert (part[:, 40:] == 255).all()
    assert (part[:, :, :10] == 255).all()


def test_a_batch_carries_the_spots_with_its_pixels_and_ignores_what_is_no_data(alone, spots):
    settings = point_settings(spots[0], Path(), brightness=0.0)
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        shelf = fill_shelf(alone, pulse, settings, None)
    numbers = np.arange(len(shelf.samples.scene))
    (batch,) = Feed(shelf, settings, iter([(3, numbers)]))
    assert batch.y.shape == (len(numbers), 2, 32, 32)
    centres = np.argwhere(batch.y.numpy() == FULL)
    assert len(centres) > 50
    for n, kind, row, col in centres:
        assert batch.x[n, 2 * kind, row, col] > 1.0
    dark = (batch.x == 0).all(1)
    assert dark.any()
    assert (batch.y.movedim(1, -1)[dark] == 255).all()


def test_samples_are_all_tiles_with_data_and_an_epoch_has_its_share_without_objects(spots):
    grid = Grid(64, 640, 32, 0)
    counts = np.zeros((grid.size, 1), np.int64)
    counts[:8] = 3
    seen = np.ones(grid.size, bool)
    seen[-4:] = False
    samples = deal(["a"], [grid], [counts], Shares(0, 0.0, 0.0, 0), [seen])
    assert len(samples.scene) == grid.size - 4
    orders = [epoch_order(samples, epoch, 0, False, 0.25) for epoch in range(3)]
    bare = [frozenset(order[~samples.counts[order].any(1)].tolist()) for order in orders]
    assert [len(order) - len(each) for order, each in zip(orders, bare, strict=True)] == [8, 8, 8]
    assert [len(each) for each in bare] == [3, 3, 3]
    assert len(set(bare)) > 1


def test_points_in_no_scene_are_said_with_their_number(alone, spots, tmp_path, capfd):
    table = tmp_path / "spots.csv"
    table.write_text((spots[0] / "spots.csv").read_text() + "0,0,red\n1,1,blue\n")
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        fill_shelf(alone, pulse, point_settings(spots[0], Path(), labels=[str(table)]), None)
    assert f"{table}: 2 of {len(spots[1]) + 2} points lie outside every scene" in capfd.readouterr().out


def formula(logits: Tensor, y: Tensor) -> Tensor:
    """The loss pixel by pixel in float64."""
    p, heat = logits.double().sigmoid()[y != 255], y[y != 255].double() / FULL
    terms = torch.where(heat == 1, (1 - p) ** 2 * p.log(), (1 - heat) ** 4 * p**2 * (1 - p).log())
    return -terms.sum() / max(1, int((y == FULL).sum()))


@pytest.mark.parametrize("centres", [0, 5])
def test_the_loss_is_the_formula_and_adds_up_over_parts(centres, spots):
    rng = np.random.default_rng(centres)
    y = rng.choice([0, 3, 90, 200, 255], (4, 2, 6, 5)).astype(np.uint8)
    y.flat[rng.choice(y.size, centres, replace=False)] = FULL
    y = torch.from_numpy(y)
    logits = torch.tensor(rng.normal(0, 3, y.shape), dtype=torch.float32, requires_grad=True)
    loss = PointLoss(point_settings(spots[0], Path()), torch.ones(2))
    total = sum(loss.total(part) for part in (y[:1], y[1:]))
    value = sum(loss(logits[k], y[k], total, loss.no_overlaps()) for k in (slice(0, 1), slice(1, 4)))
    value.backward()
    wanted = torch.autograd.grad(formula(logits, y), logits)[0]
    torch.testing.assert_close(value.double(), formula(logits, y))
    torch.testing.assert_close(logits.grad, wanted, rtol=1e-4, atol=1e-7)


# What they refuse.


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"sigma": 0.0}, "sigma is 0.0, wanted above 0"),
        ({"loss": ["focal"]}, r'its loss is \["points"\]'),
        ({"balance": "weights"}, 'its balance "none"'),
        ({"empty": 1.0}, "empty 0 or more and below 1"),
        ({"task": "classes"}, r'sigma, distance, within: of points: give task = "points"'),
        ({"within": [-1.0]}, "must not be negative"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(spots, tmp_path, changes, wanted):
    with pytest.raises(UsageError, match=wanted):
        read_settings(None, point_flags(spots[0], tmp_path, **changes))


def test_objects_of_one_kind_need_no_name(spots, tmp_path):
    flags = point_flags(spots[0], tmp_path)
    del flags["classes"]
    assert read_settings(None, flags).names == ["object"]


def test_labels_that_are_no_points_are_refused(alone, spots, tmp_path):
    notes = tmp_path / "spots.txt"
    notes.touch()
    with pytest.raises(SceneError, match=r"spots\.txt: points are read from"):
        train(alone, point_settings(spots[0], tmp_path, labels=[str(notes)]), threading.Event())
