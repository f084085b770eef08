"""The reduce that finds the peaks of maps of heat: each is found in the tile whose core holds it, which sees as far around as it must."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from hpcseg import store
from hpcseg.errors import ReadError
from hpcseg.evaluation import scene_of
from hpcseg.kernels.heat import FLOOR
from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.mpi import Comm, Pulse, first_on_node
from hpcseg.objects.cells import no_cells_seen, see_cells
from hpcseg.objects.passes import pass_over, plan_maps
from hpcseg.raster import CellCache
from hpcseg.share import merge_at_owners
from hpcseg.stream import Buffer, Item, Source
from hpcseg.tiles import Grid, Window

TILE = 1024
SCORES = 255
_CACHE = 64 << 20


class HeatMap(NamedTuple):
    """A map of heat. steps: to the pixels around a peak that must not be higher, see kernels.peaks. level: least score of the points
    that are kept. cell: edge in pixels of the squares that are looked at for data, 0 = none."""

    stored: store.Stored
    steps: np.ndarray
    level: int
    cell: float = 0.0

    def grid(self, tile: int) -> Grid:
        """The tiles of its search, with the halo that the steps need."""
        grid = self.stored.layout.grid
        return Grid(grid.height, grid.width, tile, int(np.abs(self.steps).max(initial=0)))


@dataclass
class Peaks:
    """What tiles of a map add up to.

    scores: int64 (kinds, 255), how many peaks from the floor on have each score. points: int64 (n, 4), row, column, kind and score of
    those that reach the level; in raster order once `settled`. seen: bool, cells that have data.
    """

    scores: np.ndarray
    parts: list[np.ndarray]
    seen: np.ndarray

    def add(self, found: tuple[np.ndarray, list[np.ndarray], Window, np.ndarray]) -> None:
        """Take in a tile."""
        scores, points, cells, seen = found
        self.scores += scores
        self.parts += points
        self.seen[cells.slices] |= seen

    def merge(self, other: Peaks) -> Peaks:
        return Peaks(self.scores + other.scores, self.parts + other.parts, self.seen | other.seen)

    @property
    def points(self) -> np.ndarray:
        """All points in the order of their rows, columns and kinds."""
        points = np.concatenate([np.empty((0, 4), np.int64), *self.parts])
        return points[np.lexsort((points[:, 2], points[:, 1], points[:, 0]))]


@dataclass(frozen=True)
class _Maps(Source):
    """Windows of heat instead of a scene's values."""

    maps: Sequence[HeatMap] = ()

    def fill(self, item: Item) -> None:
        """Read all planes of an item's window, as far as the scene goes; sets its state."""
        window = self.window(item)
        try:
            for reader, plane in zip(self._opened(item.scene), item.buffer.planes, strict=True):
                reader.read(window, plane[: window.height, : window.width])
        except ReadError as error:
            item.state, item.reason = "failed", str(error)

    def window(self, item: Item) -> Window:
        """An item's core and what is around it within the scene."""
        grid = self.grids[item.scene]
        return grid.window(item.tile).intersect(grid.extent)

    def _opened(self, scene: int) -> list[store.PlaneReader]:
        """The planes of a map, for all threads; those that were used long ago are closed."""
        return self.cache.opened.get(("heat", scene), partial(_open, self.maps[scene].stored))


def _open(stored: store.Stored) -> list[store.PlaneReader]:
    return [store.PlaneReader(stored, name) for name in stored.layout.planes]


class _Finder:
    """An engine that leaves the peaks of each tile in its buffer."""

    depth = 1

    def __init__(self, source: _Maps, threads: int) -> None:
        self.threads, self._source = threads, source

    def make_buffer(self) -> Buffer:
        edge = max(grid.core + 2 * grid.halo for grid in self._source.grids)
        planes = [np.empty((edge, edge), np.uint8) for _ in self._source.maps[0].stored.layout.planes]
        return Buffer(np.empty((0, 0), np.float32), np.empty((0, 0), np.uint8), planes)

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        for item in items:
            item.buffer.extra = self._find(item)
            done(item)

    def _find(self, item: Item) -> tuple[np.ndarray, list[np.ndarray], Window, np.ndarray]:
        case, window = self._source.maps[item.scene], self._source.window(item)
        core = self._source.grids[item.scene].core_window(item.tile)
        inner = core.relative_to(window)
        # What is beyond the window in its buffer is of other tiles.
        planes = [plane[: window.height, : window.width] for plane in item.buffer.planes]
        scores, points = np.zeros((len(planes), SCORES), np.int64), []
        for kind, plane in enumerate(planes):
            row, col, score = find_peaks(plane, inner, case.steps, min(FLOOR, case.level)).T
            scores[kind] = np.bincount(score, minlength=SCORES) * (np.arange(SCORES) >= FLOOR)
            keep = score >= case.level
            points.append(np.stack([row + window.row, col + window.col, np.full_like(row, kind), score], -1)[keep])
        cells, seen = see_cells(planes[0][inner.slices], core, case.cell)
        return scores, points, cells, seen


def _compile() -> None:
    # Windows at a scene's edge are a part of their buffer: another memory layout, another compilation.
    for plane in (np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8)[:, :1]):
        find_peaks(plane, Window(0, 0, 1, 1), neighbours(1.0), FLOOR)


def find_all(comm: Comm, pulse: Pulse, maps: Sequence[HeatMap], threads: int, tile: int = TILE) -> list[Peaks]:
    """The peaks of all maps, which have the same planes, on rank 0; none on others. Collective. tile: edge of tiles in pixels.

    Raises StoreError for a map that cannot be read, StoppedError if a signal ended it early.
    """
    first_on_node(comm, _compile)
    grids = [each.grid(tile) for each in maps]
    plan = plan_maps(grids, comm.size)
    mine = {k: _start(maps[k]) for k, _ in plan.of_rank(comm.rank)}
    source = _Maps([scene_of(each.stored) for each in maps], grids, (), CellCache(_CACHE), maps=maps)
    pass_over(comm, pulse, plan, source, _Finder(source, threads), lambda item: mine[item.scene].add(item.buffer.extra))
    parts = comm.gather(merge_at_owners(comm, plan, mine))
    found = {k: each for part in parts or [] for k, each in part.items()}
    return [found[k] for k in sorted(found)]


def _start(case: HeatMap) -> Peaks:
    layout = case.stored.layout
    seen = no_cells_seen(layout.grid.height, layout.grid.width, case.cell)
    return Peaks(np.zeros((len(layout.planes), SCORES), np.int64), [], seen)
