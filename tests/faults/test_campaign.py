"""Random faults cost nothing but what was in hand: a short form of `bash run/faults.sh`, and what it draws."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mpi.launch import environment, needs_mpirun

from faults.draw import KINDS, draw_trials

SCRIPT = Path(__file__).resolve().parents[2] / "run/faults.sh"
BOTH = ("predict", "train")


def test_a_seed_always_draws_the_same():
    assert list(draw_trials(100, 7, BOTH, 4)) == list(draw_trials(100, 7, BOTH, 4))
    assert list(draw_trials(100, 7, BOTH, 4)) != list(draw_trials(100, 8, BOTH, 4))


def test_the_faults_are_as_many_as_asked_for_and_of_all_kinds():
    trials = list(draw_trials(100, 7, BOTH, 4))
    faults = [fault for trial in trials for run in trial.runs for fault in run.faults]
    assert len(faults) == 100
    assert {fault.kind for fault in faults} == set(KINDS)
    assert {run.ranks for trial in trials for run in trial.runs} == {1, 2, 3, 4}
    assert any(len(run.faults) == 2 for trial in trials for run in trial.runs)
    assert any(len(trial.runs) == 2 for trial in trials)


def test_maps_go_on_with_other_numbers_of_ranks_and_training_with_the_same():
    for trial in draw_trials(100, 7, BOTH, 4):
        assert (trial.heirs == trial.runs[0].ranks) is (trial.stage == "train")


def campaign(*options: object) -> dict[str, int]:
    """The figures of a campaign that found nothing wrong."""
    done = subprocess.run(["bash", SCRIPT, *map(str, options)], env=environment(), capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    lines = [line.partition("=") for line in done.stdout.splitlines()]
    return {key: int(value) for key, equals, value in lines if equals and value.isdigit()}


def assert_harmless(found: dict[str, int], faults: int, at_work: int) -> None:
    assert found["faults"] == faults
    assert found["unreadable"] == found["wrong_tiles"] == found["hangs"] == found["bad_trials"] == 0
    assert found["at_work"] >= at_work


@pytest.mark.mpi
@pytest.mark.alone
@needs_mpirun
def test_four_faults_do_no_harm():
    """A disk is full when a scene vanishes, to a job that maps; a rank is killed when a disk is full, to one that trains."""
    assert_harmless(campaign("--faults", 4, "--seed", 52007, "--ranks", 2), 4, 4)


@pytest.mark.long
@pytest.mark.mpi
@pytest.mark.alone
@needs_mpirun
def test_thirty_faults_do_no_harm():
    assert_harmless(campaign("--faults", 30, "--seed", 11), 30, 12)
