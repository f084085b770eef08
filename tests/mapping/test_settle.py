"""What a run finds in its folder before the first tile."""

from __future__ import annotations

import threading

import pytest

from hpcseg.mapping.settle import find_earlier
from hpcseg.mpi import Pulse, share_out


def test_what_killed_ranks_had_begun_is_removed_and_what_may_be_another_job_s_is_kept(alone, tmp_path):
    ours = [".a.h5.4711.part", "a.h5-177340417-26225.lock"]
    others = [".b.h5.4711.part", "b.h5-177340417-26225.lock", "notes.lock"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    assert find_earlier(alone, tmp_path, [tmp_path / "a.h5"], False) == [None]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.fixture
def steps(monkeypatch):
    """Counts what pulses are told."""
    told = []
    monkeypatch.setattr(Pulse, "step", lambda self, count=1: told.append(self))
    return told


def test_each_item_that_ranks_share_out_is_a_step_of_the_pulse_they_are_in(alone, steps):
    with Pulse(alone, 60.0, threading.Event()) as pulse:
        share_out(alone, range(5), str)
    share_out(alone, range(5), str)
    assert steps == [pulse] * 5


def test_each_map_that_is_looked_for_is_a_step_and_so_is_its_reading(alone, steps, tmp_path):
    with Pulse(alone, 60.0, threading.Event()):
        find_earlier(alone, tmp_path, [tmp_path / f"{name}.h5" for name in "abc"], True)
    assert len(steps) == 6
