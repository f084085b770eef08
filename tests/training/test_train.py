"""Whole training runs on one rank: what they leave, what they begin with, and what they refuse."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from matplotlib import image
from osgeo import gdal
from safetensors.torch import load_file, save_file

from hpcseg import store
from hpcseg.cli import execute
from hpcseg.cli.train import command
from hpcseg.config import read_model
from hpcseg.errors import HpcsegError, SceneError, UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.models import build
from hpcseg.training import averaging
from hpcseg.training.feed import Batch
from hpcseg.training.judge import score_of
from hpcseg.training.loop import Trainer
from hpcseg.training.train import Outcome, exit_code, report_lines, train
from training.field import TRANSFORM, pixels_of, settings_of, truth_of, write_field, write_raster

NORMED = {"network": "unet-light", "options": {"down": [4, 8], "up": [4]}}


@pytest.fixture(scope="module")
def run(alone, field):
    """run(out, **settings) trains on the field and returns the outcome."""
    return lambda out, **changes: train(alone, settings_of(field, out, **changes), threading.Event())


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory) -> tuple[Path, Outcome]:
    """A folder and the outcome of a run of three epochs."""
    out = tmp_path_factory.mktemp("trained")
    return out, run(out, epochs=3, rate=1e-2)


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "weights.safetensors")


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# What a run leaves.


def test_it_learns_what_the_field_shows(trained):
    _, outcome = trained
    assert outcome.best > 0.8
    assert score_of(np.array(outcome.tables["test"]), "f1") > 0.8


def test_history_has_a_row_an_epoch(trained):
    out, _ = trained
    rows = rows_of(out)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["loss"]) < float(rows[0]["loss"])
    assert all(0 <= float(row[key]) <= 1 for row in rows for key in ("iou", "f1", "precision", "recall", "accuracy"))


def test_curves_are_a_picture(trained):
    assert image.imread(trained[0] / "curves.png").shape[0] > 300


def test_the_split_is_stored_as_it_was_dealt(trained, field):
    record = json.loads((trained[0] / "split.json").read_text())
    places = [(block["scene"], block["row"], block["col"]) for block in record["blocks"]]
    assert record["edge"] == 64
    assert len(set(places)) == len(places)
    assert {block["part"] for block in record["blocks"]} == {"train", "validation", "test"}


def test_the_best_epoch_is_the_model_and_its_tables_count_every_labelled_pixel(trained, field):
    _, outcome = trained
    for part in ("validation", "test"):
        assert np.array(outcome.tables[part]).sum() > 0
    assert score_of(np.array(outcome.tables["validation"]), "f1") == pytest.approx(outcome.best)
    assert outcome.best == pytest.approx(max(float(row["f1"]) for row in rows_of(trained[0])))


def test_the_report_is_lines_of_key_and_value(trained, field, tmp_path):
    lines = report_lines(settings_of(field, tmp_path), trained[1])
    assert {"epochs=3", "ranks=1", "averaging=none"} <= set(lines)
    assert sum(float(line.partition("=")[2].split()[0]) for line in lines if "_share=" in line) == pytest.approx(100, abs=0.1)
    assert any(line.startswith("test_f1=0.") for line in lines)


def test_the_model_folder_maps_scenes(trained, field, alone, tmp_path):
    settings = Options((str(field / "field.tif"),), str(trained[0]), tmp_path, core=128, precision="fp32")
    predict(alone, settings, threading.Event())
    stored = store.read(tmp_path / "field.h5")
    labels = store.read_window(stored, stored.layout.grid.extent)
    truth = truth_of()
    judged = (truth != 255) & (labels != 255)
    assert (labels[judged] == truth[judged]).mean() > 0.85


def test_pixels_are_normalised_by_the_scenes_own_mean_and_deviation(trained, field):
    norm = read_model(trained[0] / "model.toml").normalisation
    pixels = gdal.Open(str(field / "field.tif")).ReadAsArray().astype(float)
    seen = pixels.any(0)
    np.testing.assert_allclose(norm.mean, [plane[seen].mean() for plane in pixels], rtol=1e-5)
    np.testing.assert_allclose(norm.std, [plane[seen].std() for plane in pixels], rtol=1e-3)


def test_resolution_and_classes_are_kept(trained):
    spec = read_model(trained[0] / "model.toml")
    assert spec.resolution == pytest.approx(10, rel=0.01)
    assert [each.name for each in spec.classes] == ["dark", "bright"]


# Again, and on.


def test_the_same_run_gives_the_same_bits_and_another_seed_others(run, trained, tmp_path):
    run(tmp_path / "again", epochs=3, rate=1e-2)
    run(tmp_path / "other", epochs=3, rate=1e-2, seed=1)
    for name, value in weights_of(trained[0]).items():
        assert torch.equal(weights_of(tmp_path / "again")[name], value)
    assert any(not torch.equal(weights_of(tmp_path / "other")[name], value) for name, value in weights_of(trained[0]).items())


def test_a_finished_run_is_left_as_it_is(run, tmp_path):
    first = run(tmp_path)
    before = weights_of(tmp_path)
    second = run(tmp_path)
    assert second.tables == first.tables
    assert all(torch.equal(before[name], value) for name, value in weights_of(tmp_path).items())
    assert len(rows_of(tmp_path)) == 2


def test_more_epochs_go_on_with_the_history(run, tmp_path):
    run(tmp_path, epochs=1, schedule="constant")
    run(tmp_path, epochs=3, schedule="constant")
    assert [row["epoch"] for row in rows_of(tmp_path)] == ["1", "2", "3"]


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set once so many steps were made."""
    event, step = threading.Event(), Trainer.step

    def count(trainer: Trainer, batch: Batch, number: int, rate: float) -> float:
        if number + 1 == steps:
            event.set()
        return step(trainer, batch, number, rate)

    monkeypatch.setattr(Trainer, "step", count)
    return event


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long), pytest.param(9, marks=pytest.mark.long)])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(alone, field, tmp_path, step, monkeypatch):
    """Also in the middle of an epoch, with dropout and all that is random."""
    changes = {"options": {"widths": [4, 8], "dropout": [0.2, 0.2]}, "loss": ["cross-entropy", "dice"]}
    train(alone, settings_of(field, tmp_path / "whole", **changes), threading.Event())
    first = train(alone, settings_of(field, tmp_path / "cut", **changes), stop_after(step, monkeypatch))
    assert (first.stopped, first.steps, first.made) == (True, step, step)
    assert exit_code(alone, first) == 75
    second = train(alone, settings_of(field, tmp_path / "cut", **changes), threading.Event())
    assert not second.stopped
    assert second.made == second.steps - step
    whole = weights_of(tmp_path / "whole")
    assert all(torch.equal(value, whole[name]) for name, value in weights_of(tmp_path / "cut").items())
    keys = ("epoch", "loss", "rate", "f1")
    assert [[row[k] for k in keys] for row in rows_of(tmp_path / "cut")] == [[row[k] for k in keys] for row in rows_of(tmp_path / "whole")]


def test_overwrite_starts_anew_and_leaves_what_is_not_of_training(run, tmp_path):
    run(tmp_path, epochs=2)
    (tmp_path / "notes.txt").write_text("mine")
    assert run(tmp_path, epochs=1, rate=0.1, overwrite=True).epochs == 1
    assert len(rows_of(tmp_path)) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


# What it begins with.


def test_init_begins_with_the_weights_and_the_normalisation_of_a_model(run, trained, tmp_path, capsys):
    run(tmp_path, init=str(trained[0]), epochs=1, rate=1e-12, warmup=0.0)
    for name, value in weights_of(trained[0]).items():
        torch.testing.assert_close(weights_of(tmp_path)[name], value, rtol=1e-4, atol=1e-6)
    assert read_model(tmp_path / "model.toml").normalisation == read_model(trained[0] / "model.toml").normalisation
    assert "matched: tensors=" in capsys.readouterr().out


def test_init_makes_a_head_of_another_size_anew_and_names_it(alone, field, trained, tmp_path, capsys):
    truth = truth_of()
    truth[(truth == 1) & (np.indices(truth.shape)[0] % 4 == 0)] = 2
    labels = write_raster(tmp_path / "field_labels.tif", truth[None])
    settings = settings_of(field, tmp_path / "out", labels=[str(labels)], classes=["a", "b", "c"], init=str(trained[0]), epochs=1)
    train(alone, settings, threading.Event())
    assert "made anew: another number of classes" in capsys.readouterr().out
    assert weights_of(tmp_path / "out")["head.weight"].shape[0] == 3


def test_init_takes_scenes_of_another_number_of_bands(run, trained, tmp_path, capsys):
    run(tmp_path, init=str(trained[0]), bands=[1, 2, 3, 2], epochs=1)
    assert "adapted: from 3 to 4 bands" in capsys.readouterr().out
    assert len(read_model(tmp_path / "model.toml").normalisation.mean) == 4


def test_a_frozen_encoder_keeps_its_weights_and_statistics(run, tmp_path):
    run(tmp_path / "first", **NORMED, epochs=1)
    run(tmp_path / "second", **NORMED, epochs=1, init=str(tmp_path / "first"), freeze="encoder", rate=0.05)
    first, second = weights_of(tmp_path / "first"), weights_of(tmp_path / "second")
    encoder = [name for name in first if name.startswith("encoder.")]
    assert any("running_mean" in name for name in encoder)
    assert all(torch.equal(first[name], second[name]) for name in encoder)
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_encoder_weights_come_from_a_file(run, tmp_path, capsys):
    options = {"widths": [8, 8], "depths": [1, 1]}
    encoder = build("segnet", 3, 2, options).encoder
    rename = encoder.torchvision_name
    torch.manual_seed(3)
    given = {name: torch.randn_like(value) if value.is_floating_point() else value for name, value in encoder.state_dict().items()}
    given = {name: value.abs() + 0.5 if "var" in name else value for name, value in given.items()}
    save_file({rename(name): value for name, value in given.items()}, tmp_path / "encoder.safetensors")
    run(tmp_path / "out", network="segnet", options=options, encoder_weights=str(tmp_path / "encoder.safetensors"), freeze="encoder",
        epochs=1)  # fmt: skip
    assert "matched: tensors=" in capsys.readouterr().out
    found = weights_of(tmp_path / "out")
    assert all(torch.equal(found[f"encoder.{name}"], value) for name, value in given.items() if value.is_floating_point())


@pytest.mark.parametrize("changes", [{"balance": "weights"}, {"balance": "sampling"}, {"normalisation": "scene"}, {"batch_per_rank": 3},
                                     {"validation": 0.0, "test": 0.0}, {"block": 0, "validation": 0.0, "test": 0.0},
                                     {"precision": "bf16", "accumulate": 3, "loss": ["dice"]}])  # fmt: skip
def test_variants_run_to_their_end(run, tmp_path, changes):
    outcome = run(tmp_path, epochs=1, **changes)
    assert outcome.epochs == 1
    assert np.isfinite(float(rows_of(tmp_path)[0]["loss"]))
    assert read_model(tmp_path / "model.toml").normalisation.kind == changes.get("normalisation", "fixed")


# What is not finite.


def test_a_run_that_diverges_stops(run, tmp_path):
    with pytest.raises(HpcsegError, match=r"step \d+: loss .*lower --rate"):
        run(tmp_path, rate=1e30, optimizer="sgd", warmup=0.0)


def test_steps_that_are_not_finite_are_left_out_of_the_loss_and_counted(alone, tmp_path):
    truth = truth_of()
    values = pixels_of(truth).astype(np.float32)
    path = tmp_path / "field.tif"
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), 256, 256, 3, gdal.GDT_Float32)
    dataset.SetGeoTransform(TRANSFORM)
    values[:, 40:44, 40:44] = 3e34
    for k in range(3):
        dataset.GetRasterBand(k + 1).WriteArray(values[k])
    dataset = None
    truth[32:64, 32:64] = 1
    write_raster(tmp_path / "field_labels.tif", truth[None])
    spec = {"on_nan": "skip", "validation": 0.0, "test": 0.0, "init": str(_start(tmp_path / "start"))}
    train(alone, settings_of(tmp_path, tmp_path / "out", **spec), threading.Event())
    rows = rows_of(tmp_path / "out")
    assert all(float(row["skipped"]) >= 7 and np.isfinite(float(row["loss"])) for row in rows)
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path / "out").values())


def _start(folder: Path) -> Path:
    """A model with fixed normalisation, so that one value beyond all measure does not spoil the statistics."""
    network = build("unet-ice", 3, 2, {"widths": [8, 16], "dropout": [0.0, 0.0]})
    folder.mkdir()
    save_file(network.state_dict(), folder / "weights.safetensors")
    (folder / "model.toml").write_text(
        'network = "unet-ice"\nbands = 3\noptions = {widths = [8, 16], dropout = [0.0, 0.0]}\n'
        "[normalisation]\nmean = [90.0, 90.0, 90.0]\nstd = [0.001, 0.001, 0.001]\n"
        '[[classes]]\nname = "dark"\ncolor = "#000000"\n[[classes]]\nname = "bright"\ncolor = "#ffffff"\n'
    )
    return folder


# What is refused.


def test_a_label_value_without_a_class_is_named_with_file_and_window(alone, field, tmp_path):
    truth = truth_of()
    truth[200, 100] = 7
    labels = write_raster(tmp_path / "field_labels.tif", truth[None])
    with pytest.raises(UsageError, match=r"field_labels\.tif, rows \d+:\d+, cols \d+:\d+: 7 is no class \(0 to 1\)") as caught:
        train(alone, settings_of(field, tmp_path / "out", labels=[str(labels)]), threading.Event())
    assert caught.value.shared


def test_a_mask_of_0_and_255_is_refused_with_the_line_to_add(alone, field, tmp_path):
    labels = write_raster(tmp_path / "field_labels.tif", np.where(truth_of() == 1, 255, 0).astype(np.uint8)[None])
    with pytest.raises(UsageError, match=r'add \[labels\] map = \{"0" = "dark", "255" = "bright"\}'):
        train(alone, settings_of(field, tmp_path / "out", labels=[str(labels)], ignore=()), threading.Event())


@pytest.mark.parametrize(
    ("edge", "shift", "wanted"), [(128, 0.0, "is 128x128 pixels, the scene 256x256"), (256, 40.0, "has the geotransform")]
)
def test_labels_on_another_grid_are_refused(alone, field, tmp_path, edge, shift, wanted):
    place = (TRANSFORM[0] + shift, *TRANSFORM[1:])
    labels = write_raster(tmp_path / "field_labels.tif", truth_of()[None, :edge, :edge], place)
    with pytest.raises(SceneError, match=f"labels on another grid than field: it {wanted}") as caught:
        train(alone, settings_of(field, tmp_path / "out", labels=[str(labels)]), threading.Event())
    assert caught.value.shared


def test_an_empty_split_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="the split leaves validation and test empty"):
        run(tmp_path, block=256)


def test_a_class_that_training_never_sees_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="no train sample has a pixel of third"):
        run(tmp_path, classes=["dark", "bright", "third"])


def test_the_folder_of_another_run_is_refused_and_kept(run, trained, tmp_path):
    run(tmp_path, epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"checkpoint.pt is of another run: options is .*; choose another --out, or --overwrite"):
        run(tmp_path, options={"widths": [8, 8], "dropout": [0.0, 0.0]})
    with pytest.raises(UsageError, match=r"is of another run: .*split_seed is 0, wanted 5"):
        run(tmp_path, split_seed=5)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_labels_that_changed_since_are_another_run(alone, tmp_path):
    write_field(tmp_path)
    train(alone, settings_of(tmp_path, tmp_path / "out", epochs=1), threading.Event())
    write_raster(tmp_path / "field_labels.tif", truth_of(seed=1)[None])
    with pytest.raises(UsageError, match="is of another run: labels and split is"):
        train(alone, settings_of(tmp_path, tmp_path / "out", epochs=2), threading.Event())


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"options": {"depth": 3}}, "network unet-ice has no option depth; wanted widths, dropout"),
        ({"tile": 32, "network": "unet", "options": {"down": [2] * 8, "up": [2] * 7}}, "wanted a multiple of the stride of unet, 128"),
        ({"network": "one-convolution", "options": {}, "freeze": "encoder"}, "network one-convolution has no such part"),
        ({"init": "no-such-model"}, "no-such-model"),
        ({"encoder_weights": "absent.pth"}, "absent.pth: no weights can be read"),
        ({"scenes": ["absent.tif"]}, "absent.tif"),
        ({"labels": ["absent.tif"]}, "no labels at absent.tif"),
        ({"averaging": "torch", "adasum": True}, "adasum is offered by Horovod alone"),
    ],
)
def test_wrong_use_is_one_line_on_all_ranks(run, tmp_path, changes, wanted):
    with pytest.raises(HpcsegError) as caught:
        run(tmp_path / "out", **changes)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.shared
    assert caught.value.exit_code in (2, 3)


def test_a_missing_horovod_is_named_with_the_way_out(run, tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "horovod", None)
    with pytest.raises(UsageError, match=r"horovod, which is not installed: bash run/setup.sh builds it, or say --averaging torch"):
        run(tmp_path, averaging="horovod")


def test_a_scene_that_cannot_be_opened_is_left_out_and_the_end_says_3(alone, field, tmp_path, capsys):
    (tmp_path / "broken.tif").write_text("no raster")
    write_raster(tmp_path / "broken_labels.tif", truth_of()[None])
    settings = settings_of(
        field, tmp_path / "out", scenes=[str(field / "field.tif"), str(tmp_path / "broken.tif")], epochs=1,
        labels=[str(field / "field_labels.tif"), str(tmp_path / "broken_labels.tif")],
    )  # fmt: skip
    outcome = train(alone, settings, threading.Event())
    assert "left out: broken cannot be opened" in capsys.readouterr().out
    assert exit_code(alone, outcome) == 3


def test_no_scene_that_can_be_opened_ends_with_3(alone, tmp_path):
    (tmp_path / "field.tif").write_text("no raster")
    write_raster(tmp_path / "field_labels.tif", truth_of()[None])
    with pytest.raises(SceneError, match="no scene is left to train on") as caught:
        train(alone, settings_of(tmp_path, tmp_path / "out"), threading.Event())
    assert caught.value.exit_code == 3


# The command.


def test_flags_alone_train(alone, field, tmp_path, capsys):
    truth = np.where(truth_of() == 1, 1, 0).astype(np.uint8)
    labels = write_raster(tmp_path / "field_labels.tif", truth[None])
    words = ["--scenes", field / "field.tif", "--labels", labels, "--classes", "dark,bright", "--model", "one-convolution", "--tile", 256,
             "--epochs", 1, "--batch", 2, "--out", tmp_path / "out"]  # fmt: skip
    assert execute(command, list(map(str, words)), alone, True) == 2
    assert "the split leaves" in capsys.readouterr().err


def test_wrong_flags_are_one_line(alone, capsys):
    assert execute(command, ["--epochs", "0"], alone, True) == 2
    assert execute(command, ["absent.toml"], alone, True) == 2
    assert execute(command, [], alone, True) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_help_lists_the_options():
    text = CliRunner().invoke(command, ["--help"], env={"HPCSEG_THREADS": "1"}).output
    assert "--encoder-weights" in text
    assert "--averaging [auto|horovod|torch]" in text
