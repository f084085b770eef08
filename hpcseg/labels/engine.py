"""A teacher's step as an engine of the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hpcseg.errors import StoreError
from hpcseg.labels.teacher import Fit, Step, Teacher, View
from hpcseg.raster import CellCache
from hpcseg.store import SCRATCH, PlaneReader, Stored
from hpcseg.stream import Buffer, Item, merge_parts, place_of
from hpcseg.tiles import Grid

_NONE = np.empty((0, 0), np.uint8)


class StepEngine:
    """Threads that run a step, a tile each. fits: by scene number. stored: the scratch files by scene number, if the step reads them."""

    depth = 1

    def __init__(
        self, teacher: Teacher, step: Step, grids: Sequence[Grid], fits: Sequence[Fit], stored: Sequence[Stored | None], threads: int
    ) -> None:
        self.threads, self._teacher, self._step, self._grids, self._fits, self._stored = threads, teacher, step, grids, fits, stored
        self._edge = max((grid.core + 2 * grid.halo for grid in grids), default=1)
        self._core = max((grid.core for grid in grids), default=1)
        self._parts: list[dict[int, Any]] = []
        self._readers = CellCache(0).opened

    def make_buffer(self) -> Buffer:
        edge, core, teacher = self._edge, self._core, self._teacher
        last = self._step is teacher.steps[-1]
        dtypes = [np.uint8] * len(teacher.planes) if last else [self._step.scratch] if self._step.scratch else []
        planes = [np.empty((core, core), dtype) for dtype in dtypes]
        return Buffer(np.zeros((edge, edge * teacher.bands), teacher.dtype), np.zeros((edge, edge), np.uint8), planes)

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        mine: dict[int, Any] = {}
        for item in items:
            if item.scene not in mine:
                mine[item.scene] = self._step.start()
            self._step.run(self._view(item), self._fits[item.scene], mine[item.scene])
            done(item)
        self._parts.append({scene: total for scene, total in mine.items() if total is not None})

    def _view(self, item: Item) -> View:
        grid, buffer = self._grids[item.scene], item.buffer
        place = grid.core_window(item.tile)
        return View(
            buffer.values,
            buffer.valid,
            *place_of(grid, item.tile),
            place,
            self._scratch(item) if self._step.reads_scratch else _NONE,
            [plane[: place.height, : place.width] for plane in buffer.planes],
        )

    def _scratch(self, item: Item) -> np.ndarray:
        stored = self._stored[item.scene]
        if stored is None:
            raise StoreError("a step reads a scratch plane that no step wrote")
        reader = self._readers.get(item.scene, lambda: PlaneReader(stored, SCRATCH))
        place = self._grids[item.scene].core_window(item.tile)
        out = np.empty((place.height, place.width), stored.layout.dtype)
        reader.read(place, out)
        return out

    def results(self) -> dict[int, Any]:
        """The accumulators by scene, over all threads."""
        return merge_parts(self._parts)
