"""How faults come, and how their cause ends."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from mpi.launch import Job

from faults.draw import Fault
from faults.strike import Place, Stopped, bring_scenes_back, continue_due, fill_disk, strike

WRITER = "import sys; sys.stdin.readline(); open(sys.argv[1], 'wb').write(bytes(10**6))"


@pytest.fixture
def place(tmp_path) -> Place:
    """Two scenes of 1000 bytes, and no disk."""
    for folder in ("own", "original"):
        (tmp_path / folder).mkdir()
        for k in range(2):
            (tmp_path / folder / f"{k}.tif").write_bytes(bytes([k]) * 1000)
    return Place(sorted((tmp_path / "own").iterdir()), sorted((tmp_path / "original").iterdir()), None, 6.0)


@pytest.fixture
def job(tmp_path):
    """A process in a session of its own that is rank 0, and writes a megabyte once it is told to."""
    words, environment = [sys.executable, "-c", WRITER, str(tmp_path / "written")], {"OMPI_COMM_WORLD_RANK": "0"}
    process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    job = Job(process, time.monotonic())
    yield job
    job.kill()
    job.process.communicate()


@pytest.mark.parametrize("kind", ["scene vanishes", "scene truncated"])
def test_a_scene_is_changed_and_brought_back(kind, place, job):
    assert strike(place, Fault(kind, 0.5, 0.9, 0.25), job, 2)
    assert place.changed() == [(place.scenes[1], place.originals[1])]
    assert place.scenes[1].exists() is (kind == "scene truncated")
    bring_scenes_back(place)
    assert not place.changed()
    assert place.scenes[1].read_bytes() == place.originals[1].read_bytes()


def test_a_limit_to_the_size_of_files_stands_for_a_full_disk(place, job, tmp_path):
    fill_disk(place, Fault("disk full", 0.5, 0.0, 0.1), job)
    job.process.communicate(b"go\n")
    assert job.process.returncode == 1
    assert (tmp_path / "written").stat().st_size == 15_000


def test_a_full_disk_has_the_room_that_was_drawn(place, job, monkeypatch, tmp_path):
    small = Place(place.scenes, place.originals, tmp_path, 6.0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 500_000}))
    fill_disk(small, Fault("disk full", 0.5, 0.0, 0.5), job)
    assert small.ballast.stat().st_size == 425_000


def test_a_stopped_rank_goes_on_when_its_time_has_come(place, job):
    stopped = strike(place, Fault("SIGSTOP short", 0.5, 0.0, 1.0), job, 1)
    assert isinstance(stopped, Stopped)
    assert state_of(job) == "T"
    waiting = [stopped]
    continue_due(waiting, stopped.until - 1)
    assert state_of(job) == "T"
    continue_due(waiting, stopped.until + 1)
    assert state_of(job) != "T"
    assert not waiting


def state_of(job: Job) -> str:
    """Of its process, once a signal has had the time to come."""
    time.sleep(0.05)
    with open(f"/proc/{job.process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_rank_that_does_not_run_yet_is_waited_for(place, job):
    assert strike(place, Fault("SIGKILL rank", 0.5, 0.9, 0.0), job, 2) is False
