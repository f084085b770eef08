"""Truth and map counted together: the reduce of `hpcseg evaluate`, exact for any number of ranks.

Tiles of 1024 pixels are shared out over ranks as in every reduce. Each rank adds pairs of classes per scene and block; the scenes'
owners merge them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from hpcseg import store
from hpcseg.config import Class, LabelSpec
from hpcseg.errors import HpcsegError, ReadError, StoppedError
from hpcseg.kernels.confusion import UNLABELLED, count_pairs, mark_borders
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.partition import Work, make_plan
from hpcseg.progress import Progress
from hpcseg.raster import CellCache, Scene
from hpcseg.share import merge_at_owners
from hpcseg.stream import Buffer, Item, Source, Stream
from hpcseg.tiles import Grid, Window
from hpcseg.truth import Truth, open_truth

_TILE = 1024
_PICTURE = 1200


@dataclass(frozen=True)
class Settings:
    """spec: what label values mean. border: pixels that are not judged on each side of the truth's class borders. block: edge of the
    blocks that are counted apart, 0 = the whole scene. pictures: how many scenes, the first ones, keep one. cache: bytes."""

    spec: LabelSpec = field(default_factory=LabelSpec)
    border: int = 0
    block: int = 0
    pictures: int = 0
    threads: int = 1
    cache: int = 64 << 20


class Case(NamedTuple):
    """A map and its truth. label: path of the truth."""

    stored: store.Stored
    label: str
    scene: Scene
    classes: list[Class]


@dataclass
class Tally:
    """What a scene's tiles add up to. blocks: by number, int64 (n, n + 1), [truth, map], the last column what is not mapped.

    picture: u8 (3, h, w), truth, map, and whether a border is near, of every few pixels; 255 where nothing was read. (3, 0, 0): none.
    """

    classes: int
    blocks: dict[int, np.ndarray]
    picture: np.ndarray

    @classmethod
    def of(cls, case: Case, pictured: bool) -> Tally:
        height, width = case.scene.height, case.scene.width
        shape = [math.ceil(size / picture_step(height, width)) if pictured else 0 for size in (height, width)]
        return cls(len(case.classes), {}, np.full((3, *shape), UNLABELLED, np.uint8))

    def block(self, number: int) -> np.ndarray:
        """The table of a block, to be added to."""
        if number not in self.blocks:
            self.blocks[number] = np.zeros((self.classes, self.classes + 1), np.int64)
        return self.blocks[number]

    def merge(self, other: Tally) -> Tally:
        blocks = dict(self.blocks)
        for number, table in other.blocks.items():
            blocks[number] = blocks[number] + table if number in blocks else table
        return Tally(self.classes, blocks, np.minimum(self.picture, other.picture))


def open_labels(case: Case, spec: LabelSpec, cache: CellCache) -> Truth:
    """The truth of a map. Raises as `open_truth`."""
    return open_truth(case.label, case.scene, spec, [each.name for each in case.classes], cache)


class _Opened(NamedTuple):
    """The truth and the map of a scene."""

    truth: Truth
    labels: store.PlaneReader


@dataclass(frozen=True)
class _Pairs(Source):
    """Windows of truth and cores of maps instead of a scene's values. broken: by scene, why it cannot be judged after all."""

    cases: Sequence[Case] = ()
    settings: Settings = field(default_factory=Settings)
    broken: dict[int, str] = field(default_factory=dict)

    def fill(self, item: Item) -> None:
        """Read an item's truth and, where there is any, its map; sets its state."""
        grid, (truth, labels) = self.grids[item.scene], item.buffer.planes
        core, h = grid.core_window(item.tile), grid.halo
        if item.scene in self.broken:
            item.state = "empty"
            return
        try:
            here = self._of(item.scene)
            here.truth.read(grid.window(item.tile), truth)
            if item.scene >= self.settings.pictures and (truth[h : h + core.height, h : h + core.width] == UNLABELLED).all():
                item.state = "empty"
                return
            here.labels.read(core, labels[: core.height, : core.width])
        except ReadError as error:
            item.state, item.reason = "failed", str(error)
        except HpcsegError as error:
            self.broken[item.scene], item.state = str(error), "empty"

    def _of(self, scene: int) -> _Opened:
        """The files of a scene, for all threads; those that were used long ago are closed."""
        return self.cache.opened.get(("pair", scene), partial(self._open, self.cases[scene]))

    def _open(self, case: Case) -> _Opened:
        return _Opened(open_labels(case, self.settings.spec, self.cache), store.PlaneReader(case.stored))


class _Comparer:
    """An engine that counts pairs of classes in the cores of windows, by block; each thread into tallies of its own."""

    depth = 1

    def __init__(self, source: _Pairs) -> None:
        self.threads, self._source = source.settings.threads, source
        self._parts: list[dict[int, Tally]] = []

    def make_buffer(self) -> Buffer:
        """Planes: the truth with its halo, the map without."""
        edges = (_TILE + 2 * self._source.settings.border, _TILE)
        return Buffer(np.empty((0, 0), np.float32), np.empty((0, 0), np.uint8), [np.empty((edge, edge), np.uint8) for edge in edges])

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        mine: dict[int, Tally] = {}
        near = np.zeros((_TILE, _TILE), np.uint8)
        for item in items:
            if item.scene not in mine:
                mine[item.scene] = Tally.of(self._source.cases[item.scene], item.scene < self._source.settings.pictures)
            if not self._count(item, near, mine[item.scene]):
                self._source.broken[item.scene] = "the map has labels that its legend does not name"
            done(item)
        self._parts.append(mine)

    def _count(self, item: Item, near: np.ndarray, tally: Tally) -> bool:
        """Add a tile to a scene's tally. Returns whether the legend names all labels."""
        grid, n = self._source.grids[item.scene], tally.classes
        core, (truth, labels) = grid.core_window(item.tile), item.buffer.planes
        if grid.halo:
            mark_borders(truth, grid.halo, near)
        inner = truth[grid.halo : grid.halo + _TILE, grid.halo : grid.halo + _TILE]
        unknown = 0
        for number, window in blocks_of(grid, self._source.settings.block, core):
            part = window.relative_to(core).slices
            table = tally.block(number)
            unknown += count_pairs(inner[part], labels[part], near[part], table[:, :n], table[:, n])
        if tally.picture.size:
            _sample(tally.picture, core, (inner, labels, near), picture_step(grid.height, grid.width))
        return unknown == 0

    def results(self) -> dict[int, Tally]:
        """The tallies by scene, over all threads."""
        total: dict[int, Tally] = {}
        for part in self._parts:
            for scene, tally in part.items():
                total[scene] = total[scene].merge(tally) if scene in total else tally
        return total


def picture_step(height: int, width: int) -> int:
    """Every how many pixels a picture takes one, so that its longer edge has at most 1,200."""
    return math.ceil(max(height, width) / _PICTURE)


def _sample(picture: np.ndarray, core: Window, planes: Sequence[np.ndarray], step: int) -> None:
    """Write every step-th pixel of a core, counted from the scene's origin, at its place in the picture."""
    row, col = -core.row % step, -core.col % step
    place = picture[:, (core.row + row) // step :, (core.col + col) // step :]
    for target, plane in zip(place, planes, strict=True):
        part = plane[row : core.height : step, col : core.width : step]
        target[: part.shape[0], : part.shape[1]] = part


def blocks_of(grid: Grid, edge: int, window: Window) -> Iterator[tuple[int, Window]]:
    """The blocks of a scene that a window touches, with the part of it in each. edge: 0 = one block, the whole scene."""
    if not edge:
        yield 0, window
        return
    across = math.ceil(grid.width / edge)
    for row in range(window.row // edge, math.ceil(window.stop[0] / edge)):
        for col in range(window.col // edge, math.ceil(window.stop[1] / edge)):
            yield row * across + col, Window(row * edge, col * edge, edge, edge).intersect(window)


class Reduced(NamedTuple):
    """Tallies by scene, tiles that could not be read (map, window, reason), and why scenes cannot be judged after all."""

    tallies: dict[int, Tally]
    failed: list[tuple[str, str, str]]
    broken: dict[int, str]


def reduce(comm: Comm, pulse: Pulse, cases: Sequence[Case], settings: Settings) -> Reduced:
    """Read and count all tiles; what all ranks found is on rank 0. Collective. Raises StoppedError if a signal ended it early."""
    grids = [Grid(case.scene.height, case.scene.width, _TILE, settings.border) for case in cases]
    plan = make_plan([Work(grid, False, np.ones(grid.size, np.int64), np.zeros(grid.size, bool)) for grid in grids], comm.size)
    tasks = [(k, int(tile)) for k, tiles in plan.of_rank(comm.rank) for tile in tiles]
    source = _Pairs([case.scene for case in cases], grids, (), CellCache(settings.cache), cases=cases, settings=settings)
    engine = _Comparer(source)
    progress, done, failed = Progress("tiles", plan.size, comm.rank == 0), 0, []
    for item in Stream(source, tasks, engine, stop=pulse.stop):
        done += 1
        if item.state == "failed":
            failed.append((cases[item.scene].scene.name, str(grids[item.scene].core_window(item.tile)), item.reason))
        pulse.step_tile()
        progress.show(pulse.total_tiles)
    progress.close()
    total = comm.allreduce(done)
    on_root(comm, lambda: _check_complete(total, plan.size))
    parts = comm.gather(Reduced(merge_at_owners(comm, plan, engine.results()), failed, source.broken)) or []
    return Reduced(
        {k: tally for part in parts for k, tally in part.tallies.items()},
        [each for part in parts for each in part.failed],
        # The first rank's reason, which is that of the first tile in the plan, counts.
        {k: reason for part in reversed(parts) for k, reason in part.broken.items()},
    )


def _check_complete(done: int, wanted: int) -> None:
    if done < wanted:
        raise StoppedError(f"stopped after {done} of {wanted} tiles: nothing was written; run the same command again")
