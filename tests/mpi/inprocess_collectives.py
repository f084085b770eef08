"""What ranks do together, checked in process: run as `mpirun -n N python -m mpi4py -m pytest -x` by test_collectives.py."""

from __future__ import annotations

import atexit
import threading
import time

import numpy as np
import pytest
from mpi4py import MPI

from hpcseg.errors import StoreError, UsageError
from hpcseg.mpi import Pulse, create_group, fair_threads, node_comm, on_root, self_comm, share_out
from hpcseg.partition import Work, make_plan
from hpcseg.share import merge_at_owners, owner_groups
from hpcseg.tiles import Grid

if not MPI.Is_initialized():
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
    atexit.register(MPI.Finalize)
COMM = MPI.COMM_WORLD
STALL = 30.0


class Count:
    """The simplest accumulator: which tiles it has seen."""

    def __init__(self, seen: frozenset[tuple[int, int]]) -> None:
        self.seen = seen

    def merge(self, other: Count) -> Count:
        assert not self.seen & other.seen, "a tile was counted twice"
        return Count(self.seen | other.seen)


def works(*shapes: tuple[int, int], done: float = 0.0) -> list[Work]:
    """Scenes of (ny, nx) tiles, a share of them done already."""
    rng = np.random.default_rng(5)
    return [Work(Grid(ny * 64, nx * 64, 64, 16), False, np.ones(ny * nx, np.int64), rng.random(ny * nx) < done) for ny, nx in shapes]


SCENES = [
    works((5, 7)),
    works((1, 1), (4, 4), (2, 3)),
    works((1, 1), (1, 1), (1, 1)),
    works((6, 6), (3, 3), done=0.5),
    works((2, 2), done=1.0),
]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 17])
def test_work_shared_out_comes_back_in_order_on_every_rank(count):
    assert share_out(COMM, list(range(count)), lambda k: k * k) == [k * k for k in range(count)]


def test_each_item_is_worked_on_once():
    calls = []
    share_out(COMM, list(range(23)), calls.append)
    assert sorted(each for part in COMM.allgather(calls) for each in part) == list(range(23))


def test_items_differ_by_at_most_one_between_ranks():
    calls = []
    share_out(COMM, list(range(23)), calls.append)
    counts = COMM.allgather(len(calls))
    assert max(counts) - min(counts) <= 1


def test_the_root_works_alone_and_all_get_its_result():
    calls = []
    assert on_root(COMM, lambda: calls.append(COMM.rank) or {"rank": COMM.rank}) == {"rank": 0}
    assert COMM.allgather(calls) == [[0]] + [[]] * (COMM.size - 1)


@pytest.mark.parametrize("kind", [UsageError, StoreError])
def test_an_error_of_the_root_is_raised_by_all_and_marked_as_shared(kind):
    def refuse():
        raise kind("no such thing; wanted another")

    with pytest.raises(kind, match="no such thing; wanted another") as caught:
        on_root(COMM, refuse)
    assert caught.value.shared
    assert COMM.allreduce(1) == COMM.size


@pytest.mark.parametrize("scenes", SCENES)
def test_accumulators_merge_at_one_owner_whole_and_without_doubles(scenes):
    plan = make_plan(scenes, COMM.size)
    mine = {k: Count(frozenset((k, int(t)) for t in tiles)) for k, tiles in plan.of_rank(COMM.rank)}
    found = merge_at_owners(COMM, plan, mine)
    parts = [part for rank in COMM.allgather({k: each.seen for k, each in found.items()}) for part in rank.items()]
    wanted = {k: frozenset((k, int(t)) for t in tiles) for k, tiles in enumerate(plan.tiles) if len(tiles)}
    assert len(parts) == len(wanted)
    assert dict(parts) == wanted


@pytest.mark.parametrize("scenes", SCENES)
def test_the_first_owner_holds_what_was_merged(scenes):
    plan = make_plan(scenes, COMM.size)
    found = merge_at_owners(COMM, plan, {k: Count(frozenset()) for k, _ in plan.of_rank(COMM.rank)})
    assert all(plan.owners(k)[0] == COMM.rank for k in found)


@pytest.mark.parametrize("scenes", SCENES)
def test_groups_hold_exactly_the_owners_of_shared_scenes(scenes):
    plan = make_plan(scenes, COMM.size)
    seen = {}
    for scene, group in owner_groups(COMM, plan):
        seen[scene] = group.allgather(COMM.rank)
        group.Free()
    assert seen == {k: plan.owners(k) for k in plan.shared_scenes() if COMM.rank in plan.owners(k)}


def test_a_group_of_some_ranks_needs_only_those():
    if COMM.rank == 0:
        group = create_group(COMM, [0], tag=7)
        assert group.size == 1
        group.Free()
    assert self_comm().size == 1


def test_threads_of_a_node_are_shared_fairly():
    assert node_comm(COMM).size == COMM.size
    assert fair_threads(COMM) >= 1


def test_the_pulse_adds_the_tiles_of_all_ranks():
    with Pulse(COMM, STALL, threading.Event(), interval=0.01) as pulse:
        for _ in range(COMM.rank + 1):
            pulse.step_tile()
    assert pulse.total_tiles == COMM.size * (COMM.size + 1) // 2


def test_nobody_leaves_the_pulse_before_the_last_has_come():
    late = COMM.size - 1
    with Pulse(COMM, STALL, threading.Event(), interval=0.01):
        if COMM.rank == late:
            time.sleep(0.5)
        reached = time.time()
    left = time.time()
    assert left >= max(COMM.allgather(reached)) - 0.05


def test_a_stop_asked_for_on_one_rank_reaches_all():
    stop = threading.Event()
    with Pulse(COMM, STALL, stop, interval=0.01):
        if COMM.rank == COMM.size - 1:
            stop.set()
        assert stop.wait(10)


def test_an_error_that_all_ranks_share_leaves_the_pulse_in_order():
    def refuse():
        raise UsageError("not so")

    with pytest.raises(UsageError, match="not so"), Pulse(COMM, STALL, threading.Event(), interval=0.01) as pulse:
        on_root(COMM, refuse)
    assert not pulse._thread.is_alive()


def test_collective_calls_work_beside_a_pulse():
    with Pulse(COMM, STALL, threading.Event(), interval=0.001) as pulse:
        for k in range(200):
            assert COMM.allreduce(k) == k * COMM.size
            pulse.step()
    assert COMM.allgather(pulse._total[0]) == [200 * COMM.size] * COMM.size
