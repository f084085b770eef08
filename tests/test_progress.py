"""How far a run is, as others read it: from a small file that is always whole."""

import json

import pytest

from hpcseg import progress
from hpcseg.progress import Pace, Progress, publish, read_paces


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds) moves the time that passes for a run."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_a_run_tells_how_far_it_is_until_it_ends(tmp_path, clock):
    shown = Progress("tiles", 40, True, tmp_path)
    assert [(each.done, each.total, each.seconds) for each in read_paces(tmp_path)] == [(0, 40, 0.0)]
    clock(5.0)
    shown.show(10)
    (pace,) = read_paces(tmp_path)
    assert (pace.done, pace.rate, pace.left) == (10, 2.0, 15.0)
    shown.close()
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_not_written_for_every_tile(tmp_path, clock):
    shown = Progress("tiles", 40, True, tmp_path)
    for count in range(20):
        clock(0.1)
        shown.show(count)
    assert read_paces(tmp_path)[0].done == 0


def test_jobs_over_parts_tell_side_by_side(tmp_path):
    for name in (".1of2", ".2of2"):
        Progress("tiles", 7, True, tmp_path, name)
    assert [pace.total for pace in read_paces(tmp_path)] == [7, 7]


@pytest.mark.parametrize(("total", "visible"), [(0, True), (5, False)])
def test_nothing_is_told_without_work_or_by_other_ranks(tmp_path, total, visible):
    Progress("tiles", total, visible, tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_work_removes_what_a_killed_one_left(tmp_path):
    Progress("tiles", 5, True, tmp_path)
    Progress("tiles", 0, True, tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_where_its_progress_cannot_be_written(tmp_path, clock):
    shown = Progress("tiles", 4, True, tmp_path / "gone")
    clock(9.0)
    shown.show(1)
    shown.close()


def test_a_run_that_has_done_nothing_has_no_end_yet():
    assert (Pace(0, 5, 10.0, 0.0).rate, Pace(0, 5, 10.0, 0.0).left) == (0.0, float("inf"))


def test_what_is_published_takes_the_place_of_what_was_there(tmp_path):
    for number in (1, 2):
        publish(tmp_path / "a.json", json.dumps(number).encode())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "2")]
