"""A rank's prediction files during a run: opened in an order that cannot deadlock, closed when nobody needs them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hpcseg.errors import StoreError
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Comm, Pulse, file_hints, self_comm
from hpcseg.partition import Plan
from hpcseg.share import owner_groups
from hpcseg.store import ANYWHERE, Access, Layout, Prediction
from hpcseg.stream import Item

_SYNC_SECONDS = 60.0


def access_of(options: MapOptions) -> Access:
    """How the files of a run lie and are opened."""
    hints = dict(hint.split("=", 1) for hint in options.mpi_io)
    return Access(options.stripe << 20, file_hints(hints), self_comm() if hints else None)


class Writer:
    """Writes finished items of this rank. Files of several owners are opened together before the first tile; those that are this
    rank's alone when their first tile comes, and closed after their last.

    create: makes the file of a scene if it is not there; called on the first owner only. access: to the files. allocation: seconds
    spent making files and writing 255 to the tiles of this rank.
    """

    def __init__(
        self, comm: Comm, pulse: Pulse, plan: Plan, layouts: list[Layout], paths: list[Path], create: Callable[[int], None],
        access: Access = ANYWHERE,
    ) -> None:  # fmt: skip
        self._access = access
        self._pulse, self._layouts, self._paths, self._create = pulse, layouts, paths, create
        self._span = dict(plan.of_rank(comm.rank))
        self._left = {scene: len(tiles) for scene, tiles in self._span.items()}
        self._shared: dict[int, Prediction] = {}
        self._own: dict[int, Prediction] = {}
        self._synced = time.monotonic()
        self.allocation = 0.0
        for scene, group in owner_groups(comm, plan):
            self._shared[scene] = self._open(scene, group)

    def _open(self, scene: int, group: Comm) -> Prediction:
        start = time.perf_counter()
        if group.rank == 0 and not self._paths[scene].exists():
            self._create(scene)
        group.Barrier()
        file = Prediction(self._paths[scene], self._layouts[scene], group, self._access)
        for tile in self._span[scene]:
            file.clear([int(tile)])
            self._pulse.step()
        self.allocation += time.perf_counter() - start
        return file

    def write(self, item: Item) -> None:
        """Store a finished item: its planes, or that it is empty or failed. Raises StoreError naming file and window."""
        try:
            self._write(item)
        except Exception as error:
            core = self._layouts[item.scene].grid.core_window(item.tile)
            raise StoreError(f"{self._paths[item.scene]}, {core}: cannot be written: {type(error).__name__}: {error}") from error

    def _write(self, item: Item) -> None:
        if item.scene not in self._shared and item.scene not in self._own:
            self._own[item.scene] = self._open(item.scene, self_comm())
        file = self._shared.get(item.scene) or self._own[item.scene]
        if item.state == "ready":
            layout, buffer = self._layouts[item.scene], item.buffer
            core, cells = layout.grid.core_window(item.tile), layout.cells_of(item.tile)
            planes = [plane[: core.height, : core.width] for plane in buffer.planes]
            file.write(item.tile, planes, buffer.buckets[: cells.height, : cells.width])
        elif item.state == "empty":
            file.write_empty(item.tile)
        else:
            file.write_failed(item.tile)
        self._left[item.scene] -= 1
        if not self._left[item.scene] and item.scene in self._own:
            self._own.pop(item.scene).close()
        self._sync_now_and_then()

    def _sync_now_and_then(self) -> None:
        """A lost node takes its page cache with it."""
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            for file in (*self._shared.values(), *self._own.values()):
                file.sync()
            self._synced = time.monotonic()

    def close(self) -> None:
        """Close what is open. Collective over the owners: only once all ranks are known to be there."""
        for file in (*self._own.values(), *self._shared.values()):
            file.close()
            self._pulse.step()
