"""Passes over maps: all tiles of prediction files, shared out over the ranks, through an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hpcseg.errors import StoppedError, StoreError
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.partition import Plan, Work, make_plan
from hpcseg.progress import Progress
from hpcseg.stream import Engine, Item, Source, Stream
from hpcseg.tiles import Grid


def plan_maps(grids: Sequence[Grid], ranks: int) -> Plan:
    """The partition of all tiles of maps; each costs the same."""
    return make_plan([Work(grid, False, np.ones(grid.size, np.int64), np.zeros(grid.size, bool)) for grid in grids], ranks)


def pass_over(comm: Comm, pulse: Pulse, plan: Plan, source: Source, engine: Engine, take: Callable[[Item], None]) -> None:
    """Read this rank's tiles, and give each to `take` once the engine is done with it. Collective.

    Raises StoreError for a tile that cannot be read, StoppedError if a signal ended it early.
    """
    tasks = [(k, int(tile)) for k, tiles in plan.of_rank(comm.rank) for tile in tiles]
    progress, done = Progress("tiles", plan.size, comm.rank == 0), 0
    for item in Stream(source, tasks, engine, stop=pulse.stop):
        if item.state == "failed":
            raise StoreError(item.reason)
        take(item)
        done += 1
        pulse.step_tile()
        progress.show(pulse.total_tiles)
    progress.close()
    total = comm.allreduce(done)
    on_root(comm, lambda: _check_complete(total, plan.size))


def _check_complete(done: int, wanted: int) -> None:
    if done < wanted:
        raise StoppedError(f"stopped after {done} of {wanted} tiles: nothing was written; run the same command again")
