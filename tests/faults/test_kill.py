"""Ranks killed at random times: the job ends, what is done is kept, and any number of ranks completes the same map."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from mpi.launch import needs_mpirun, run

from faults.conftest import Work
from faults.left import check_files, done_tiles

pytestmark = [pytest.mark.mpi, pytest.mark.alone, needs_mpirun]
DEATH_SECONDS = 10.0


class Kill(NamedTuple):
    """One of `ranks` is killed once `tiles` tiles are done, or `delay` seconds after the start; `heirs` ranks go on."""

    ranks: int
    victim: int
    heirs: int
    tiles: int
    delay: float


def draw_kills(count: int, tiles: int, seed: int) -> list[Kill]:
    """Random kills: one in six by the clock, from the start of MPI on, the others by the number of tiles done."""
    rng = np.random.default_rng(seed)
    kills = []
    for k in range(count):
        ranks = int(rng.integers(2, 5))
        heirs = int(rng.choice([n for n in (1, 2, 3, 4) if n != ranks]))
        by_clock = k % 6 == 5
        kills.append(
            Kill(ranks, int(rng.integers(ranks)), heirs, int(rng.integers(1, 3 * tiles // 4)), rng.uniform(0.5, 4) if by_clock else 0)
        )
    return kills


def kill_and_resume(work: Work, kill: Kill, out: Path) -> bool:
    """Run, kill, look at what is left, resume. Whether the kill fell between the first tile and the last."""
    job = work.start(kill.ranks, out)

    def due() -> bool:
        return time.monotonic() - job.begin > kill.delay and (kill.delay > 0 or done_tiles(out) >= kill.tiles)

    if job.wait_until(lambda: due() and job.rank_pid(kill.victim) is not None):
        job.send(kill.victim, signal.SIGKILL)
    killed = time.monotonic()
    result = job.wait(60)
    assert time.monotonic() - killed < DEATH_SECONDS
    left = check_files(out)
    assert result.returncode != 0 or left == work.tiles
    run(kill.heirs, *work.command(out))
    return 0 < left < work.tiles


def assert_kills_are_harmless(work: Work, kills: list[Kill], wanted: int, assert_whole, tmp_path: Path) -> None:
    inside = 0
    for number, kill in enumerate(kills):
        out = tmp_path / str(number)
        inside += kill_and_resume(work, kill, out)
        assert_whole(out)
        shutil.rmtree(out)
    print(f"kills={len(kills)} inside={inside}")
    assert inside >= wanted, f"{inside} of {len(kills)} kills fell while some tiles were done and some not, wanted {wanted}"


@pytest.mark.long
def test_twenty_kills_cost_nothing_but_the_tiles_in_hand(work, assert_whole, tmp_path):
    assert_kills_are_harmless(work, draw_kills(20, work.tiles, seed=2), 15, assert_whole, tmp_path)


def test_a_job_killed_again_and_again_gets_on(work, assert_whole, tmp_path):
    """What one job has done the next keeps: the second kill finds more than the first."""
    left = []
    for ranks, more in ((3, 20), (2, 20)):
        job = work.start(ranks, tmp_path)
        goal = (left[-1] if left else 0) + more
        assert job.wait_until(lambda job=job, goal=goal: done_tiles(tmp_path) >= goal)
        job.send(ranks - 1, signal.SIGKILL)
        assert job.wait(60).returncode != 0
        left.append(check_files(tmp_path))
    assert 20 <= left[0] < left[1] < work.tiles
    result = run(4, *work.command(tmp_path))
    assert f"of {work.tiles - left[1]}\n" in result.stdout
    assert_whole(tmp_path)


def test_all_ranks_killed_at_once_lose_only_the_tiles_in_hand(work, assert_whole, tmp_path):
    """A node that goes down, as far as one machine can show it."""
    job = work.start(3, tmp_path)
    assert job.wait_until(lambda: done_tiles(tmp_path) >= 40)
    job.kill()
    job.wait(10)
    assert 40 <= check_files(tmp_path) < work.tiles
    run(2, *work.command(tmp_path))
    assert_whole(tmp_path)
