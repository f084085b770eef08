"""Training under mpirun by the command, gradients by Horovod: stopped, killed, gone wrong."""

from __future__ import annotations

import csv
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mpi.launch import Job, needs_mpirun, own_lines, run, start, value

from hpcseg.training.checkpoint import NAME
from training.field import truth_of, write_config, write_raster

pytestmark = [pytest.mark.mpi, pytest.mark.alone, needs_mpirun]
END_SECONDS = 10.0
STEPS = 8 * 6
NETWORKS = {
    "batch-norm": {"network": "unet-light", "options": {"down": [8, 8, 8], "up": [8, 8]}},
    "dropout": {"options": {"widths": [8, 16], "dropout": [0.2, 0.2]}, "loss": ["cross-entropy", "dice"], "clip": 0.5},
}


def configure(folder: Path, field: Path, **changes) -> tuple[object, ...]:
    """Arguments of a job of 48 steps that writes a checkpoint every second one."""
    keys = {"epochs": 8, "checkpoint_steps": 2, "readers": 2} | changes
    return ("train", write_config(folder / "run.toml", field, folder / "out", **keys), "--threads", "1")


def look(out: Path) -> dict:
    """The last checkpoint."""
    return torch.load(out / NAME, weights_only=True)


def wait_for_checkpoints(job: Job, out: Path, count: int) -> bool:
    """Whether `count` checkpoints were written while the job ran."""
    seen: set[int] = set()

    def enough() -> bool:
        try:
            seen.add((out / NAME).stat().st_mtime_ns)
        except FileNotFoundError:
            return False
        return len(seen) > count

    return job.wait_until(enough)


def assert_same_end(out: Path, whole: Path) -> None:
    """The same bits in the model, in the last checkpoint and in the losses of all epochs."""
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    found, wanted = look(out), look(whole)
    assert found["position"]["step"] == wanted["position"]["step"] == STEPS
    assert found["network"].keys() == wanted["network"].keys()
    for name, tensor in wanted["network"].items():
        assert torch.equal(found["network"][name], tensor), name
    for mine, theirs in zip(found["statistics"], wanted["statistics"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert losses_of(out) == losses_of(whole)
    assert not list(out.glob(".*"))


def losses_of(out: Path) -> list[tuple[str, str]]:
    with (out / "history.csv").open(newline="") as file:
        return [(row["epoch"], row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("ranks", "network"),
    [(2, "batch-norm"), *(pytest.param(*each, marks=pytest.mark.long) for each in ((1, "dropout"), (2, "dropout"), (3, "batch-norm"),
                                                                                  (1, "batch-norm"), (3, "dropout")))],
)  # fmt: skip
def test_a_run_stopped_by_a_signal_and_then_killed_ends_with_the_bits_of_one_that_was_not(ranks, network, field, tmp_path):
    chance = random.Random(f"{ranks} {network}")
    (tmp_path / "whole").mkdir()
    run(ranks, *configure(tmp_path / "whole", field, **NETWORKS[network]))
    command, out = configure(tmp_path, field, **NETWORKS[network]), tmp_path / "out"

    job = start(ranks, *command)
    assert wait_for_checkpoints(job, out, chance.randint(1, 4))
    job.process.send_signal(signal.SIGUSR1)
    result = job.wait(60)
    assert result.returncode == 75, result.stderr
    assert "stopped: run the same command again to resume" in result.stdout
    stopped = look(out)["position"]["step"]
    assert 0 < stopped < STEPS

    job = start(ranks, *command)
    assert wait_for_checkpoints(job, out, chance.randint(2, 5))
    time.sleep(chance.uniform(0, 0.03))
    victim = chance.randrange(ranks)
    job.send(victim, signal.SIGKILL)
    begin = time.monotonic()
    assert job.wait(60).returncode != 0
    assert time.monotonic() - begin < END_SECONDS
    assert stopped < look(out)["position"]["step"] < STEPS

    result = run(ranks, *command)
    assert "resumed at epoch " in result.stdout
    assert value(result, "averaging") == ("horovod" if ranks > 1 else "none")
    assert_same_end(out, tmp_path / "whole" / "out")


@pytest.mark.long
def test_a_run_that_diverges_is_one_line_and_no_hang(field, tmp_path):
    command = configure(tmp_path, field, rate=1e30, optimizer="sgd", warmup=0.0)
    result = run(2, *command, code=1, timeout=60)
    (line,) = own_lines(result)
    assert line.startswith("hpcseg: step ")
    assert "lower --rate" in line
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_an_unknown_label_that_one_rank_meets_is_one_line_and_no_hang(field, tmp_path):
    truth = truth_of()
    truth[5, 40] = 9
    labels = write_raster(tmp_path / "wrong/field_labels.tif", truth[None])
    result = run(3, *configure(tmp_path, field, labels=[str(labels)]), code=2, timeout=60)
    (line,) = own_lines(result)
    assert "9 is no class (0 to 1): say in [labels] map what it means" in line


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "code", "wanted"),
    [
        ({"options": {"width": 3}}, 2, "has no option width"),
        ({"block": 256}, 2, "the split leaves validation and test empty"),
        ({"scenes": ["absent.tif"]}, 3, "no scene is left to train on: absent"),
        ({"init": "no-such-model"}, 2, "no-such-model"),
        ({"labels": ["labels_of_nothing.tif"]}, 2, "no labels at labels_of_nothing.tif"),
    ],
)
def test_wrong_use_is_one_line_from_one_rank(field, tmp_path, changes, code, wanted):
    result = run(2, *configure(tmp_path, field, **changes), code=code, timeout=60)
    (line,) = own_lines(result)
    assert wanted in line
    assert "Traceback" not in result.stderr


@pytest.mark.long
def test_without_horovod_the_command_says_how_to_get_it(field, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'horovod' else find(name, package)\n"
    )
    command = configure(tmp_path, field, averaging="horovod")
    result = run(2, *command, code=2, env={"PYTHONPATH": str(tmp_path)})
    (line,) = own_lines(result)
    assert "averaging is horovod, which is not installed: bash run/setup.sh builds it, or say --averaging torch" in line


@pytest.mark.long
@pytest.mark.parametrize(("first", "second"), [(1, 3), (3, 2), (2, 4)])
def test_another_number_of_ranks_completes_a_run_that_was_killed(first, second, field, tmp_path):
    command, out = configure(tmp_path, field, **NETWORKS["batch-norm"]), tmp_path / "out"
    job = start(first, *command)
    assert wait_for_checkpoints(job, out, 3)
    job.send(first - 1, signal.SIGKILL)
    assert job.wait(60).returncode != 0
    result = run(second, *command)
    assert "resumed at epoch " in result.stdout
    assert look(out)["position"]["step"] == STEPS
    losses = [float(loss) for _, loss in losses_of(out)]
    assert len(losses) == 8
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.long
@pytest.mark.parametrize("averaging", ["horovod", "torch"])
def test_1_2_and_4_ranks_follow_the_same_loss(averaging, field, tmp_path):
    """20 steps of a whole command, the last of each epoch with fewer samples than ranks."""
    found = {}
    for ranks in (1, 2, 4):
        (tmp_path / str(ranks)).mkdir()
        command = configure(tmp_path / str(ranks), field, epochs=5, batch=13, optimizer="sgd", rate=0.02, averaging=averaging)
        run(ranks, *command)
        found[ranks] = np.array([float(loss) for _, loss in losses_of(tmp_path / str(ranks) / "out")])
    assert np.abs(found[2] - found[1]).max() < 1e-4
    assert np.abs(found[4] - found[1]).max() < 1e-4
