"""A model gallery on several ranks: each network by ranks of its own, gradients by one start of Horovod; stopped, and gone wrong."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
from gallery.land import write_gallery, write_land
from mpi.launch import needs_mpirun, own_lines, run, start, value
from training.field import write_config

from hpcseg.config import decode_toml
from hpcseg.gallery.spec import MODELS, ModelsSpec

pytestmark = [pytest.mark.mpi, pytest.mark.long, needs_mpirun]
NETWORKS = ("mono", "bucket_0", "bucket_1")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a land and a gallery that knows its buckets."""
    folder = tmp_path_factory.mktemp("place")
    write_gallery(folder / "gallery", [write_land(folder)])
    return folder


def command(place: Path, name: str, *flags: str, **changes) -> tuple[object, ...]:
    """Arguments of a job that trains three small networks."""
    keys = {"options": {"widths": [4, 8], "dropout": [0.0, 0.0]}, "validation": 0.25, "test": 0.0, "seed": 1, "optimizer": "sgd"}
    config = write_config(place / f"{name}.toml", place, place / "unused", **(keys | {"epochs": 2, "rate": 0.02} | changes))
    arguments = ("gallery", "train", place / "gallery", config, "--application", name, "--min-samples", "5", "--threads", "1")
    return (*arguments, *flags)


def losses_of(place: Path, name: str) -> list[float]:
    rows = []
    for network in NETWORKS:
        with (place / "gallery" / name / network / "history.csv").open(newline="") as file:
            rows += [float(row["loss"]) for row in csv.DictReader(file)]
    return rows


def test_all_ranks_train_the_mono_model_and_then_each_a_bucket(place):
    result = run(2, *command(place, "two"))
    assert value(result, "averaging") == "horovod"
    assert [line for line in result.stdout.splitlines() if " rank" in line] == ["2 ranks: mono", "1 rank: bucket_0", "1 rank: bucket_1"]
    spec = decode_toml(place / "gallery/two" / MODELS, ModelsSpec)
    assert [each.why == "" for each in spec.models] == [each.folder == f"bucket_{each.bucket}" for each in spec.models]
    assert ["train samples, wanted" in each.why for each in spec.models] == [False, False, True, True]
    losses = losses_of(place, "two")
    assert len(losses) == 6
    # The buckets' networks go on where the mono model ended.
    assert max(losses[2:]) < losses[0]


@pytest.mark.parametrize(("averaging", "flags"), [("horovod", ("--from-scratch",)), ("horovod", ()), ("torch", ("--from-scratch",))])
def test_any_number_of_ranks_follows_the_same_losses(place, averaging, flags):
    """On four ranks parts of them train at once, each by sums of its own; Horovod starts once for all."""
    found = {}
    for ranks in (1, 2, 4):
        name = f"{averaging}{ranks}{'' if flags else 'mono'}"
        result = run(ranks, *command(place, name, *flags, averaging=averaging))
        assert ranks != 4 or "2 ranks: " in result.stdout
        found[ranks] = losses_of(place, name)
    for losses in found.values():
        assert losses == pytest.approx(found[1], abs=1e-4)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_signal_stops_all_networks_and_the_same_command_goes_on(place, ranks):
    """Checkpoints every step: what was stopped and resumed has the bits of what was not."""
    keys = {"epochs": 12, "checkpoint_steps": 1}
    run(ranks, *command(place, f"whole{ranks}", **keys))
    job = start(ranks, *command(place, f"stopped{ranks}", **keys))
    folder = place / "gallery" / f"stopped{ranks}"
    assert job.wait_until(lambda: any(folder.glob("*/checkpoint.pt")))
    job.process.send_signal(signal.SIGUSR1)
    result = job.wait(60)
    assert result.returncode == 75, result.stderr
    assert "stopped: run the same command again to resume" in result.stdout
    assert not (folder / MODELS).exists()
    run(ranks, *command(place, f"stopped{ranks}", **keys))
    for network in NETWORKS:
        whole = place / "gallery" / f"whole{ranks}" / network / "weights.safetensors"
        assert (folder / network / "weights.safetensors").read_bytes() == whole.read_bytes()


def test_a_network_that_diverges_is_one_line_and_no_hang(place):
    result = run(4, *command(place, "diverged", rate=1e30, warmup=0.0), code=1)
    (line,) = own_lines(result)
    assert "mono: step " in line
    assert "lower --rate" in line
    assert "Traceback" not in result.stderr


def test_wrong_use_is_one_line_from_one_rank(place):
    result = run(3, *command(place, "wrong", tile=48, block=96), code=2)
    (line,) = own_lines(result)
    assert "tile is 48, wanted a divisor of the gallery's cell, 64" in line
