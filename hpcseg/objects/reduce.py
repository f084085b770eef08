"""The reduce that finds the connected components of maps: tiles are labelled alone, what touches their borders is merged exactly.

What is finished leaves memory at once, into a scratch file a rank and scene; the first of a scene's owners then reads those in order.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg import store
from hpcseg.errors import ReadError
from hpcseg.kernels.components import Place, Space, label_window, make_space
from hpcseg.mpi import Comm, Pulse, first_on_node, on_root
from hpcseg.objects.cells import no_cells_seen, see_cells
from hpcseg.objects.ground import Ground
from hpcseg.objects.passes import pass_over, plan_maps
from hpcseg.objects.seams import Seams, seam_lines
from hpcseg.objects.spool import Spool
from hpcseg.raster import CellCache, Scene
from hpcseg.share import merge_at_owners
from hpcseg.stream import Buffer, Item, Source
from hpcseg.tiles import Grid, Window

TILE = 1024
_NO_SCORES = np.empty((0, 0), np.uint8)


class Case(NamedTuple):
    """A map whose objects are wanted. chosen: bool (256,), the classes that count. scratch: a file name to which ranks add theirs.
    cell: edge in pixels of the squares that are looked at for data, 0 = none."""

    stored: store.Stored
    scene: Scene
    chosen: np.ndarray
    scratch: Path
    cell: float = 0.0


@dataclass(frozen=True)
class Settings:
    """connectivity: 8 = pixels that touch at a corner belong to one object. tile: edge of the tiles in pixels. cache: bytes."""

    connectivity: int = 8
    threads: int = 1
    tile: int = TILE
    cache: int = 64 << 20

    @property
    def reach(self) -> int:
        """0 = pixels touch at edges, 1 = at corners too."""
        return int(self.connectivity == 8)


class Labels(NamedTuple):
    """The components of a tile: those that touch none of its borders, those that do, and where they do. cells, seen: see `see_cells`."""

    inner: np.ndarray
    border: np.ndarray
    runs: np.ndarray
    cells: Window
    seen: np.ndarray


@dataclass
class Part:
    """What tiles of a scene add up to: components that wait for more tiles, finished ones in scratch files, and cells that have data.

    left: how many tiles are still to come. kept: how many waited after the last settling. peak: most bytes that waited at once.
    touching: components of single tiles that touch a border.
    """

    seams: Seams
    spool: Spool
    seen: np.ndarray
    left: int = 0
    kept: int = 0
    peak: int = 0
    touching: int = 0

    def add(self, tile: int, found: Labels) -> None:
        """Take in a tile. What waits is settled whenever it has doubled, so that the work stays in proportion, and after the last tile."""
        self.left -= 1
        self.spool.append(found.inner)
        self.seams.add(tile, found.border, found.runs)
        self.seen[found.cells.slices] |= found.seen
        self.touching += len(found.border)
        self.peak = max(self.peak, self.seams.nbytes)
        if not self.left or len(self.seams.components) > 2 * self.kept:
            self.settle()

    def settle(self) -> None:
        """Let go of what needs no more tiles."""
        self.spool.append(self.seams.settle())
        self.kept = len(self.seams.components)

    def merge(self, other: Part) -> Part:
        """Both together; what is finished later goes to the first one's scratch file."""
        seams, spool = self.seams.merge(other.seams), Spool(self.spool.path, self.spool.blocks + other.spool.blocks)
        peak, touching = max(self.peak, other.peak, seams.nbytes), self.touching + other.touching
        return Part(seams, spool, self.seen | other.seen, 0, 0, peak, touching)


class _Opened(NamedTuple):
    planes: list[store.PlaneReader]
    ground: Ground


@dataclass(frozen=True)
class _Maps(Source):
    """Cores of maps instead of a scene's values."""

    cases: Sequence[Case] = ()

    def fill(self, item: Item) -> None:
        """Read an item's labels and, where the map has it, its confidence; sets its state."""
        core = self.grids[item.scene].core_window(item.tile)
        try:
            for reader, plane in zip(self.opened(item.scene).planes, item.buffer.planes, strict=False):
                reader.read(core, plane[: core.height, : core.width])
        except ReadError as error:
            item.state, item.reason = "failed", str(error)

    def opened(self, scene: int) -> _Opened:
        """The file of a scene, for all threads; those that were used long ago are closed."""
        return self.cache.opened.get(("objects", scene), partial(self._open, self.cases[scene].stored))

    @staticmethod
    def _open(stored: store.Stored) -> _Opened:
        grid, planes = stored.layout.grid, [name for name in ("labels", "confidence") if name in stored.layout.planes]
        return _Opened([store.PlaneReader(stored, name) for name in planes], Ground.of(stored.place, grid.height, grid.width))


class _Labeller:
    """An engine that leaves the components of each tile in its buffer."""

    depth = 1

    def __init__(self, source: _Maps, settings: Settings) -> None:
        self.threads, self._source, self._settings = settings.threads, source, settings

    def make_buffer(self) -> Buffer:
        """Planes: labels and confidence of a core."""
        edge = self._settings.tile
        return Buffer(np.empty((0, 0), np.float32), np.empty((0, 0), np.uint8), [np.empty((edge, edge), np.uint8) for _ in range(2)])

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        space = make_space(self._settings.tile)
        for item in items:
            item.buffer.extra = self._label(item, space)
            done(item)

    def _label(self, item: Item, space: Space) -> Labels:
        grid, opened = self._source.grids[item.scene], self._source.opened(item.scene)
        core = grid.core_window(item.tile)
        labels, scores = item.buffer.planes
        scores = scores if len(opened.planes) > 1 else _NO_SCORES
        place, case = Place(*core, seam_lines(grid, item.tile)), self._source.cases[item.scene]
        inner, border, runs = label_window(labels, scores, case.chosen, self._settings.reach, opened.ground.running(core), place, space)
        cells = see_cells(labels[: core.height, : core.width], core, case.cell)
        return Labels(space.components[:inner].copy(), space.border[:border].copy(), space.seams[:runs].copy(), *cells)


def _compile() -> None:
    """Run the kernels over a few pixels, so that one process of a node compiles them for all."""
    grid, every = Grid(2, 1, 1, 0), np.ones(256, bool)
    place, ground = Place(0, 0, 1, 1, seam_lines(grid, 0)), np.zeros((1, 2), np.int64)
    label_window(np.zeros((1, 1), np.uint8), _NO_SCORES, every, 0, ground, place, make_space(1))
    Seams.start(grid, 0).settle()


def remove_scratch(cases: Sequence[Case]) -> None:
    """Remove the scratch files of all ranks, those of an earlier run included."""
    for case in cases:
        for path in case.scratch.parent.glob(f"{glob.escape(case.scratch.name)}.*"):
            path.unlink(missing_ok=True)


def find_components(comm: Comm, pulse: Pulse, cases: Sequence[Case], settings: Settings) -> dict[int, Part]:
    """Label all tiles; for each scene, all its components in `spool`, on the first of its owners alone. Collective.

    The caller removes the scratch files. Raises StoppedError if a signal ended it early.
    """
    on_root(comm, lambda: remove_scratch(cases))
    first_on_node(comm, _compile)
    grids = [Grid(case.scene.height, case.scene.width, settings.tile, 0) for case in cases]
    plan = plan_maps(grids, comm.size)
    parts = {k: _start(cases[k], grids[k], settings, comm.rank, len(tiles)) for k, tiles in plan.of_rank(comm.rank)}
    source = _Maps([case.scene for case in cases], grids, (), CellCache(settings.cache), cases=cases)
    pass_over(comm, pulse, plan, source, _Labeller(source, settings), lambda item: parts[item.scene].add(item.tile, item.buffer.extra))
    merged = merge_at_owners(comm, plan, parts)
    for part in merged.values():
        part.settle()
    return merged


def _start(case: Case, grid: Grid, settings: Settings, rank: int, tiles: int) -> Part:
    spool = Spool(case.scratch.with_name(f"{case.scratch.name}.{rank}"))
    return Part(Seams.start(grid, settings.reach), spool, no_cells_seen(grid.height, grid.width, case.cell), tiles)
