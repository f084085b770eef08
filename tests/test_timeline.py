"""The timeline: busy time lands in the bins it belongs to, whatever the length of the run."""

from __future__ import annotations

import time

import pytest

from hpcseg.timeline import BINS, Timeline


def total(line: Timeline, stage: str) -> float:
    """Seconds of a stage, to the rounding of its percents."""
    profile = line.profile()
    return sum(profile.percents()[stage]) / 100 * profile.width


def test_an_interval_is_shared_out_over_the_bins_it_crosses():
    line = Timeline()
    line.add_interval("read", 0.5 * line.width, 2.25 * line.width)
    assert line.profile().percents() == {"read": [50, 100, 25]}


def test_threads_that_work_at_once_add_up():
    line = Timeline()
    for _ in range(3):
        line.add_interval("forward", 0.0, 0.5 * line.width)
    assert line.profile().percents()["forward"][0] == 150


def test_stages_are_of_one_length():
    line = Timeline()
    line.add_interval("read", 0.0, line.width / 2)
    line.add_interval("write", 3 * line.width, 3.5 * line.width)
    assert line.profile().percents() == {"read": [50, 0, 0, 0], "write": [0, 0, 0, 50]}


@pytest.mark.parametrize("seconds", [1.0, 60.0, 86400.0])
def test_a_run_of_any_length_keeps_its_seconds_in_as_many_bins(seconds):
    line = Timeline()
    steps = 200
    for k in range(steps):
        line.add_interval("forward", k / steps * seconds, (k + 0.5) / steps * seconds)
    profile = line.profile()
    assert BINS / 4 < len(profile.percents()["forward"]) <= BINS or seconds < BINS * 0.05
    assert total(line, "forward") == pytest.approx(seconds / 2, rel=0.01)
    assert profile.width * BINS < 4 * max(seconds, BINS * 0.05)


def test_what_ended_just_now_lies_at_the_end():
    line = Timeline()
    time.sleep(0.02)
    line.add("read", 5.0)
    assert 0.02 <= total(line, "read") < 1, "no more than since the timeline was made"


def test_nothing_done_is_an_empty_profile():
    assert Timeline().profile().busy == {}
