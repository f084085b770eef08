"""What a stage takes: its tiles, its pace from the best source there is, its memory and its maps."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from hpcseg.errors import UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.pace import Pace
from hpcseg.mapping.options import MapOptions
from hpcseg.planning import look_ahead
from hpcseg.submission import demand
from hpcseg.submission.demand import Known, of_network, of_teacher, of_training
from hpcseg.training.settings import read_settings

CORE = 64
REPORT = {
    "refused": [], "notes": [], "scenes": 1, "planned_tiles": 4, "imbalance": 1.0, "wall": 9.0, "stopped": False, "device": "a GPU",
    "threads": 0,
    "ranks": [{"rank": k, "host": "n", "mapped_px": 1_000_000, "seconds": {"wall": 2.0}, "peak_memory_mb": 700.0 + k} for k in range(2)],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model, make_scene) -> Path:
    """A model, and two scenes of 2 x 3 and 1 x 1 tiles."""
    place = tmp_path_factory.mktemp("demand")
    make_model(place / "model", down=[4, 4], up=[4])
    make_scene(place / "a.tif", 100, 150)
    make_scene(place / "b.tif", 40, 40)
    return place


@pytest.fixture
def options(folder, tmp_path) -> Options:
    return Options((str(folder / "a.tif"), str(folder / "b.tif")), str(folder / "model"), tmp_path / "maps", core=CORE)


@pytest.fixture
def settings(folder, tmp_path):
    flags = {"scenes": [str(folder / "a.tif")], "labels": [str(folder / "b.tif")], "classes": ["no", "yes"], "out": str(tmp_path / "new"),
             "tile": 32, "block": 64, "epochs": 10, "batch": 4}  # fmt: skip
    return read_settings(None, flags)


def test_the_work_is_the_tiles_of_the_plan_and_a_given_rate_their_pace(options):
    found = of_network(options, Known(rate=2.0))
    assert (found.units, found.most) == (7, 7)
    assert found.seconds == pytest.approx(CORE**2 / 2e6)
    assert "2 Mpx/s of a rank, as given" in found.told


def test_a_part_of_the_scenes_is_a_part_of_the_work(options):
    halves = [of_network(replace(options, part=(k, 2)), Known(rate=1.0)).units for k in (1, 2)]
    assert halves == [6, 1]


def test_without_anything_else_the_pace_is_measured_and_says_where(options):
    found = of_network(options, Known(threads=2))
    assert 0 < found.seconds < 1
    assert any("measured here on" in line and "other nodes may differ" in line for line in found.told)
    assert 0.5e9 < found.memory < 2e9


def test_threads_share_a_cpu_and_readers_feed_a_gpu():
    cpu, gpu = namedtuple("Device", "type")("cpu"), namedtuple("Device", "type")("cuda")
    assert Pace(1.0, 0.1, 0, cpu).seconds(1) == pytest.approx(1.1)
    assert Pace(1.0, 0.1, 0, cpu).seconds(4) == pytest.approx(0.275)
    assert Pace(1.0, 0.5, 0, cpu).seconds(16) == 0.5
    assert Pace(0.1, 0.8, 0, gpu).seconds(5) == pytest.approx(0.2)
    assert Pace(0.1, 0.2, 0, gpu).seconds(5) == 0.1


@pytest.mark.parametrize("where", ["like", "out"])
def test_an_earlier_run_tells_pace_and_memory(options, tmp_path, where):
    earlier = tmp_path / "earlier" if where == "like" else options.out
    earlier.mkdir()
    (earlier / "run.json").write_text(json.dumps(REPORT))
    found = of_network(options, Known(like=earlier if where == "like" else None, gpu=True))
    assert found.seconds == pytest.approx(CORE**2 / 0.5e6)
    assert found.memory == 701e6
    assert f"0.5 Mpx/s of a rank, by {earlier}/run.json (a GPU, 2 ranks)" in found.told


def test_a_rank_of_fewer_threads_takes_as_much_longer_than_in_an_earlier_run(options, tmp_path):
    options.out.mkdir()
    (options.out / "run.json").write_text(json.dumps(REPORT | {"threads": 8}))
    assert of_network(options, Known(threads=2)).seconds == pytest.approx(4 * CORE**2 / 0.5e6)


def test_a_run_on_cpus_tells_nothing_of_gpus(options, tmp_path):
    options.out.mkdir()
    (options.out / "run.json").write_text(json.dumps(REPORT | {"threads": 8}))
    with pytest.raises(UsageError, match=r"--like .*: that run was on CPUs, the job is not"):
        of_network(options, Known(like=options.out, gpu=True))
    with pytest.raises(UsageError, match="none to measure their pace on"):
        of_network(options, Known(gpu=True))


@pytest.mark.parametrize("text", [None, "{}", '{"ranks": 3}', json.dumps(REPORT | {"ranks": []})])
def test_a_folder_that_tells_no_pace_is_refused_if_it_was_named_else_passed_over(options, tmp_path, text):
    options.out.mkdir()
    if text is not None:
        (options.out / "run.json").write_text(text)
    with pytest.raises(UsageError, match=r"no report .* of a run that mapped anything"):
        of_network(options, Known(like=options.out))
    assert any("measured here" in line for line in of_network(options, Known()).told)


def test_a_gpu_is_not_guessed_at_from_a_machine_without(options):
    with pytest.raises(UsageError, match="none to measure their pace on: give --like DIR of an earlier run, --rate of a rank, or --time"):
        of_network(options, Known(gpu=True))


def test_a_scene_that_does_not_fit_is_warned_of_and_only_such_are_refused(options, folder, make_scene):
    wide = str(make_scene(folder / "wide.tif", 50, 50, bands=5))
    found = of_network(Options((*options.scenes, wide), options.model, options.out, core=CORE), Known(rate=1.0))
    assert found.units == 7
    assert any(line.startswith("warning: wide is left out: gives 5 bands") for line in found.told)
    with pytest.raises(UsageError, match="no scene can be mapped: wide: gives 5 bands"):
        of_network(Options((wide,), options.model, options.out), Known(rate=1.0))


def test_maps_that_do_not_fit_on_the_disk_are_refused_less_what_is_there(options, monkeypatch):
    need = look_ahead(options, demand.Way(CORE), 1).output
    monkeypatch.setattr(demand.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(need - 1))
    with pytest.raises(UsageError, match=r"the maps need .* GB, .* GB are free"):
        of_network(options, Known(rate=1.0))
    options.out.mkdir()
    (options.out / "a.h5").write_bytes(bytes(1000))
    assert of_network(options, Known(rate=1.0)).units == 7


def test_a_teacher_needs_a_pace_that_is_given_or_earlier(options, tmp_path):
    scenes = MapOptions(options.scenes, core=CORE)
    assert of_teacher(scenes, tmp_path, Known(rate=4.0)).seconds == pytest.approx(CORE**2 / 4e6)
    with pytest.raises(UsageError, match="how fast this rule is is not known"):
        of_teacher(scenes, tmp_path, Known())


def test_training_takes_its_samples_times_its_epochs_by_at_most_as_many_ranks_as_a_batch_has(settings):
    found = of_training(settings, Known(rate=5.0))
    assert found.units == pytest.approx(4 * 5 * (1 - settings.validation - settings.test) * settings.epochs)
    assert (found.seconds, found.most) == (0.2, 4)


def test_an_earlier_training_tells_the_seconds_of_a_sample(settings, tmp_path):
    (tmp_path / "train.json").write_text(json.dumps({"steps": 900, "made": 50, "ranks": 2, "wall": 100.0}))
    assert of_training(settings, Known(like=tmp_path)).seconds == pytest.approx(100 * 2 / 50 / 4)


def test_a_start_that_found_all_done_tells_no_pace(settings, tmp_path):
    for folder in (tmp_path, settings.out):
        folder.mkdir(exist_ok=True)
        (folder / "train.json").write_text(json.dumps({"steps": 900, "made": 0, "ranks": 2, "wall": 1.0}))
    with pytest.raises(UsageError, match="its last start made no step"):
        of_training(settings, Known(like=tmp_path))
    assert "measured here" in of_training(settings, Known()).told[-1]


def test_a_training_is_measured_where_nothing_is_known(settings, tmp_path):
    assert 0 < of_training(settings, Known()).seconds < 5
    with pytest.raises(UsageError, match="no report of a training run"):
        of_training(settings, Known(like=tmp_path))


def test_samples_that_the_network_does_not_take_are_refused(settings):
    with pytest.raises(UsageError, match="tile is 24, wanted a multiple of the stride of unet-light"):
        of_training(msgspec.structs.replace(settings, tile=24, block=48), Known(rate=1.0))


def test_a_given_time_leaves_the_pace_alone(options, settings):
    assert of_network(options, Known(given=True, gpu=True)).seconds == 0
    assert of_training(settings, Known(given=True, gpu=True)).seconds == 0
