"""A model gallery: what it leaves, whose samples train what, how it goes on after a stop, and what it refuses."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gallery.land import BUCKETS, CELL, order_of, write_gallery, write_land
from safetensors.torch import load_file
from training.field import settings_of, shelf_of, write_config

from hpcseg.cli.gallery_train import train as command
from hpcseg.config import decode_toml, read_model
from hpcseg.errors import HpcsegError, UsageError
from hpcseg.gallery.jobs import Order, buckets_of, make_jobs
from hpcseg.gallery.spec import MODELS, MONO_BUCKET, NO_BUCKET, ModelsSpec
from hpcseg.gallery.train import Report, train_gallery
from hpcseg.gallery.verdicts import verdict_lines
from hpcseg.models import load_model
from hpcseg.training.judge import score_of
from hpcseg.training.loop import Trainer


@pytest.fixture(autouse=True)
def one_thread():
    """As a rank of a busy node: torch's threads wait for each other where cores are few."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def land(tmp_path_factory) -> Path:
    """A folder with a scene and its labels."""
    folder = tmp_path_factory.mktemp("land")
    write_land(folder)
    return folder


def move_in(land: Path, folder: Path) -> Path:
    """Put the land and its gallery into a folder."""
    for path in land.glob("*.tif"):
        (folder / path.name).symlink_to(path)
    write_gallery(folder / "gallery", [folder / "field.tif"])
    return folder


@pytest.fixture
def place(land, tmp_path) -> Path:
    """A folder with the land and a gallery that knows its buckets."""
    return move_in(land, tmp_path)


@pytest.fixture(scope="module")
def trained(alone, land, tmp_path_factory) -> tuple[Path, Report]:
    """A model gallery and the report of its training."""
    folder = move_in(land, tmp_path_factory.mktemp("trained"))
    return folder / "gallery" / "roofs", train(alone, order_of(folder))


@pytest.fixture(scope="module")
def continued(alone, land, tmp_path_factory) -> tuple[Path, Report]:
    """The same of networks that begin as the mono model ends, and stay as it is: their rate is almost nothing."""
    folder = move_in(land, tmp_path_factory.mktemp("continued"))
    return folder / "gallery" / "roofs", train(alone, order_of(folder, from_mono=True, epochs=1, rate=1e-30, optimizer="sgd"))


def train(comm, order: Order, stop: threading.Event | None = None) -> Report:
    report = train_gallery(comm, order, stop or threading.Event())
    assert report is not None
    return report


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


# What it leaves.


def test_the_manifest_ties_buckets_to_their_networks(trained):
    folder, _ = trained
    spec = decode_toml(folder / MODELS, ModelsSpec)
    assert (folder / spec.gallery).resolve() == folder.parent.resolve()
    assert (spec.digest, spec.mono) == ("of the gallery", "mono")
    assert [(each.bucket, each.code, each.folder) for each in spec.models] == [
        (0, f"{0:016x}", "bucket_0"), (1, f"{1:016x}", "bucket_1"), (2, f"{2:016x}", "mono"), (3, f"{3:016x}", "mono"),
    ]  # fmt: skip
    assert spec.halo == max(load_model(str(folder / name)).halo for name in ("mono", "bucket_0", "bucket_1"))
    assert [Path(path).name for path in spec.data] == ["field.tif", "field_labels.tif"]


def test_a_bucket_with_too_little_is_left_to_the_mono_model_and_says_so(trained):
    folder, report = trained
    few, none = decode_toml(folder / MODELS, ModelsSpec).models[2:]
    assert few.why == f"{few.samples} train samples, wanted 5"
    assert none.why == "0 train samples, wanted 5"
    assert not (folder / "bucket_2").exists()
    assert [verdict.why for verdict in report.verdicts] == ["", "", few.why, none.why]
    assert report.verdicts[2].own == report.verdicts[2].mono


def test_all_networks_normalise_by_scene(trained):
    folder, _ = trained
    specs = [read_model(folder / name / "model.toml") for name in ("mono", "bucket_0", "bucket_1")]
    assert all(spec.normalisation.kind == "scene" for spec in specs)
    assert all(spec.classes == specs[0].classes for spec in specs)


def test_each_bucket_is_judged_beside_the_mono_model_on_the_same_pixels(trained):
    _, report = trained
    for verdict in report.verdicts:
        own, mono = np.array(verdict.own["validation"]), np.array(verdict.mono["validation"])
        np.testing.assert_array_equal(own.sum(1), mono.sum(1))
    own, mono = (sum(np.array(getattr(verdict, name)["validation"]) for verdict in report.verdicts[:2]) for name in ("own", "mono"))
    assert score_of(own, "f1") > 0.85
    assert score_of(own, "f1") > score_of(mono, "f1") + 0.1


def test_the_manifest_says_the_figures_that_decided(trained):
    folder, report = trained
    models = decode_toml(folder / MODELS, ModelsSpec).models
    for each, verdict in zip(models[:2], report.verdicts[:2], strict=True):
        own, mono = (score_of(np.array(table["validation"]), "f1") for table in (verdict.own, verdict.mono))
        assert (each.score, each.mono_score) == (own, mono)
        assert own > mono
    assert {(each.score, each.mono_score) for each in models[2:]} == {(None, None)}


def test_the_report_is_kept_and_printed(trained):
    folder, report = trained
    assert json.loads((folder / "train.json").read_text())["groups"] == [[1, ["mono", "bucket_0", "bucket_1"]]]
    lines = verdict_lines(report.verdicts)
    assert "networks=2" in lines
    table = sum(np.array(verdict.own["validation"]) for verdict in report.verdicts)
    assert f"validation_gallery_f1={score_of(table, 'f1'):.4f}" in lines


# Whose samples.


def test_a_sample_belongs_to_the_bucket_of_its_cell(place):
    settings = settings_of(place, place / "out")
    shelf = shelf_of(settings)
    found = buckets_of(place / "gallery", CELL, shelf.scenes, shelf.samples)
    for sample, bucket in enumerate(found):
        window = shelf.samples.grids[0].core_window(int(shelf.samples.tile[sample]))
        assert bucket == BUCKETS[window.row // CELL, window.col // CELL]
    assert len(found) == 64


def test_a_sample_in_a_cell_without_a_code_is_in_no_bucket(place, land):
    holes = BUCKETS.copy()
    holes[:, 3] = NO_BUCKET
    write_gallery(place / "other", [place / "field.tif"], holes)
    shelf = shelf_of(settings_of(place, place / "out"))
    found = buckets_of(place / "other", CELL, shelf.scenes, shelf.samples)
    assert (found == NO_BUCKET).sum() == 16
    assert (found[shelf.samples.tile % 8 >= 6] == NO_BUCKET).all()


def test_a_bucket_tests_on_nothing_that_the_mono_model_trained_on(place):
    order = order_of(place, test=0.25, min_samples=1)
    shelf = shelf_of(order.settings)
    mono, *buckets = make_jobs(order, shelf)
    assert mono.bucket == MONO_BUCKET
    for part in ("train", "validation", "test"):
        whole = set(shelf.samples.tile[shelf.samples.of(part)].tolist())
        parts = [set(job.samples.tile[job.samples.of(part)].tolist()) for job in buckets]
        assert set().union(*parts) == whole
        assert sum(map(len, parts)) == len(whole)


# How it goes.


def test_buckets_begin_as_the_mono_model_ends(continued):
    folder, report = continued
    mono, own = (weights_of(folder / name) for name in ("mono", "bucket_1"))
    assert all(torch.allclose(own[name], value, rtol=0, atol=1e-20) for name, value in mono.items())
    assert report.groups == [(1, ["mono"]), (1, ["bucket_0", "bucket_1"])]


def test_a_network_that_is_no_better_on_validation_samples_is_not_used_and_both_figures_say_why(continued):
    folder, report = continued
    spec = decode_toml(folder / MODELS, ModelsSpec)
    assert [each.folder for each in spec.models] == ["mono"] * 4
    for each, verdict in zip(spec.models[:2], report.verdicts[:2], strict=True):
        f1 = score_of(np.array(verdict.mono["validation"]), "f1")
        assert each.why == f"f1 on its validation samples is {f1:.4f} by its own network, {f1:.4f} by the mono model"
        assert verdict.own == verdict.mono
    assert "networks=0" in verdict_lines(report.verdicts)


@pytest.mark.long
def test_without_validation_samples_a_bucket_is_left_to_the_mono_model(alone, place):
    report = train(alone, order_of(place, epochs=1, validation=0.0))
    assert [verdict.why for verdict in report.verdicts[:2]] == ["no validation samples to judge it by"] * 2
    models = decode_toml(place / "gallery/roofs" / MODELS, ModelsSpec).models
    assert {(each.folder, each.score, each.mono_score) for each in models} == {("mono", None, None)}


def test_samples_in_no_bucket_are_judged_by_the_mono_model(alone, place):
    buckets = BUCKETS.copy()
    buckets[0] = NO_BUCKET
    write_gallery(place / "other/gallery", [place / "field.tif"], buckets)
    order = order_of(place, epochs=1)
    *_, rest = make_jobs(Order(place / "other/gallery", "roofs", order.settings, min_samples=5), shelf_of(order.settings))
    assert (rest.bucket, rest.why, len(rest.samples.scene)) == (MONO_BUCKET, "in no bucket", 16)


@pytest.mark.parametrize("steps", [pytest.param(3, marks=pytest.mark.long), 9], ids=["mono", "bucket"])
def test_a_stopped_gallery_goes_on_to_the_same_bits(alone, place, steps, monkeypatch):
    stop, made, step = threading.Event(), [0], Trainer.step

    def count(trainer, *arguments) -> float:
        made[0] += 1
        if made[0] == steps:
            stop.set()
        return step(trainer, *arguments)

    monkeypatch.setattr(Trainer, "step", count)
    keys = {"epochs": 1, "batch": 8}
    report = train(alone, order_of(place, **keys), stop)
    assert report.stopped
    assert not (place / "gallery/roofs" / MODELS).exists()
    assert not train(alone, order_of(place, **keys)).stopped
    train(alone, order_of(place, application="whole", **keys))
    for name in ("mono", "bucket_0", "bucket_1"):
        assert (place / "gallery/roofs" / name / "weights.safetensors").read_bytes() == (
            place / "gallery/whole" / name / "weights.safetensors"
        ).read_bytes()
    # Both applications are in the gallery, and a run of what is finished takes no step.
    before = made[0]
    assert not train(alone, order_of(place, **keys)).stopped
    assert made[0] == before


def test_an_error_of_one_network_is_raised_when_the_others_have_ended(alone, place):
    with pytest.raises(HpcsegError, match=r"mono: step \d+: loss .*lower --rate"):
        train(alone, order_of(place, epochs=1, optimizer="sgd", rate=1e30, warmup=0.0))
    assert not (place / "gallery/roofs" / MODELS).exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "changes"),
    # The halo of the last is wider than the land: judging would take minutes.
    [("unet", {}), ("segnet", {}), ("resnet50-fcn", {}), ("deeplab", {"validation": 0.0})],
)
def test_the_networks_of_table_2_train_in_a_gallery(alone, place, network, changes):
    keys = {"network": network, "options": {}, "epochs": 1, "rate": 1e-4, "batch": 16} | changes
    report = train(alone, order_of(place, **keys))
    spec = decode_toml(place / "gallery/roofs" / MODELS, ModelsSpec)
    folders = ["bucket_0", "bucket_1", *(each.folder for each in spec.models)]
    assert {load_model(str(place / "gallery/roofs" / each)).spec.network for each in folders} == {network}
    # So little training decides by chance which network is better.
    assert ["train samples, wanted" in verdict.why for verdict in report.verdicts] == [False, False, True, True]


# What it refuses.


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"tile": 48, "block": 96}, "tile is 48, wanted a divisor of the gallery's cell, 64"),
        ({"application": "tiles"}, "--application 'tiles': wanted the name of a new folder"),
        ({"application": "a/b"}, "--application 'a/b': wanted the name of a new folder"),
        ({"bands": [1, 2]}, "the scenes give 2 bands, .*gallery.toml takes 3"),
        ({"min_samples": 1000}, r"no bucket can have a network of its own; the fullest, \d: \d+ train samples, wanted 1000"),
        ({"prefilter": "ice"}, "prefilter is ice: a gallery's networks see what its encoder sees"),
        ({"adasum": True}, "adasum adds up over all ranks"),
    ],
)
def test_an_order_that_cannot_be_met_is_one_line(alone, place, changes, wanted):
    with pytest.raises(UsageError, match=wanted):
        train(alone, order_of(place, **changes))
    assert not (place / "gallery/roofs").exists()


def test_a_folder_that_is_no_gallery_is_one_line(alone, land):
    with pytest.raises(UsageError, match=r"holds no gallery \(gallery.toml\)"):
        train(alone, order_of(land))


def test_a_start_model_of_another_normalisation_is_one_line(alone, place, make_model):
    make_model(place / "start")
    with pytest.raises(UsageError, match="--init start: other normalisation or filter than the gallery's"):
        train(alone, order_of(place, init=str(place / "start"), network="", options={}))


def test_a_scene_that_was_not_assigned_is_named(alone, place):
    write_land(place, "new", 1 - BUCKETS % 2)
    flags = {"scenes": [str(place / "new.tif")], "labels": [str(place / "new_labels.tif")]}
    with pytest.raises(UsageError, match=r"not in the image gallery: new; first say: hpcseg gallery assign .*gallery SCENES"):
        train(alone, order_of(place, **flags))


def test_a_scene_on_another_grid_is_named(alone, place):
    with pytest.raises(UsageError, match="field is in the image gallery on another grid"):
        train(alone, order_of(place, resolution=20.0))


def test_other_settings_are_refused_and_overwrite_starts_anew(alone, place):
    train(alone, order_of(place, epochs=1))
    with pytest.raises(UsageError, match=r"order.json is of another run: rate is 0.02, wanted 0.1; .*--overwrite starts anew"):
        train(alone, order_of(place, epochs=1, rate=0.1))
    assert not train(alone, order_of(place, epochs=1, rate=0.1, min_samples=20, overwrite=True)).stopped


# The command.


def test_the_command_trains_as_its_file_says(alone, place):
    options = {"widths": [4, 8], "dropout": [0.0, 0.0]}
    config = write_config(place / "run.toml", place, place / "unused", options=options, epochs=1, normalisation="scene")
    arguments = [str(place / "gallery"), str(config), "--application", "roofs", "--min-samples", "5", "--threads", "1"]
    result = CliRunner().invoke(command, arguments, obj=alone, standalone_mode=False)
    assert result.exception is None, result.output
    assert result.return_value == 0
    assert "bucket_3: samples train=0 validation=0 test=0: left to the mono model: 0 train samples, wanted 5" in result.output
    assert "networks=" in result.output
    assert (place / "gallery/roofs" / MODELS).exists()
