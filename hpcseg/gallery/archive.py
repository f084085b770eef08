"""An archive as a gallery sees it: scenes of one kind of bands, and passes of the stream that hand out its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hpcseg import device
from hpcseg.config import Normalisation
from hpcseg.errors import StoppedError
from hpcseg.inference.prepare import percentile_values
from hpcseg.mapping.options import MapOptions, layout_of
from hpcseg.mapping.report import RankReport
from hpcseg.mapping.run import Pass, run_pass
from hpcseg.mapping.settle import plan_tiles
from hpcseg.mpi import Comm, Pulse, on_root, patient_barrier
from hpcseg.progress import Progress
from hpcseg.raster import Scene, Values
from hpcseg.statistics import statistics
from hpcseg.stream import Buffer, Item
from hpcseg.tiles import Grid, Window


class Cell(NamedTuple):
    """A cell as it was read. place: in the scene, cut at its edges. pixels: float32 (cell, cell * bands), normalised; beyond the scene
    anything. valid: u8 (height, width) of `place`. Both are the reader's own: copy what is kept."""

    scene: int
    place: Window
    pixels: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Archive:
    """Scenes and how they are normalised, and the cell that they are cut into. unread: what could not be read for it."""

    scenes: Sequence[Scene]
    values: Sequence[Values]
    cell: int
    unread: Sequence[str] = ()

    def grids(self, core: int) -> list[Grid]:
        """Tiles of whole cells, core a multiple of the cell."""
        return [Grid(scene.height, scene.width, core, 0) for scene in self.scenes]


def measure(
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], cell: int, options: MapOptions, known: Mapping[str, Values] | None = None
) -> Archive:
    """Normalise scenes by their own percentiles, those by digest in `known` excepted. Collective. Raises StoppedError."""
    found = dict(known or {})
    new = [scene for scene in scenes if scene.digest not in found]
    low_high = Normalisation().percentiles
    bands, unread = statistics(comm, pulse, new, options.nodata_rule, low_high, options.threads, options.cache)
    refuse_stop(comm, pulse)
    values = percentile_values(bands, options.nodata_rule, [None] * len(new))
    found |= {scene.digest: value for scene, value in zip(new, values, strict=True)}
    return Archive(scenes, [found[scene.digest] for scene in scenes], cell, unread)


def refuse_stop(comm: Comm, pulse: Pulse) -> None:
    """Raises StoppedError, shared by all ranks, if a signal came. Collective."""
    patient_barrier(comm)
    stopped = any(comm.allgather(pulse.stop.is_set()))

    def refuse() -> None:
        if stopped:
            raise StoppedError("stopped")

    on_root(comm, refuse)


@contextmanager
def advising(words: str) -> Iterator[None]:
    """A StoppedError that leaves this block says what is kept and what to do."""
    try:
        yield
    except StoppedError as error:
        error.args = (f"stopped: {words}",)
        raise


class CellEngine:
    """Hands each cell that has a valid pixel to `look`, in any order; what it gives, unless None, is in `found`. core: of its tiles."""

    depth = 1

    def __init__(self, archive: Archive, core: int, threads: int, look: Callable[[Cell], Any]) -> None:
        self.threads, self.core, self._cell, self._look = threads, core, archive.cell, look
        self._grids, self._bands = archive.grids(core), len(archive.scenes[0].bands)
        self.found: list[Any] = []

    def make_buffer(self) -> Buffer:
        edge = self.core
        return Buffer(np.empty((edge, edge * self._bands), np.float32), np.empty((edge, edge), np.uint8), [])

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        device.settle_threads()
        for item in items:
            looks = (self._look(cell) for cell in self._cells(item) if cell.valid.any())
            self.found += [each for each in looks if each is not None]
            done(item)

    def _cells(self, item: Item) -> Iterator[Cell]:
        window, buffer, edge, bands = self._grids[item.scene].core_window(item.tile), item.buffer, self._cell, self._bands
        for row in range(0, window.height, edge):
            for col in range(0, window.width, edge):
                place = Window(window.row + row, window.col + col, edge, edge).intersect(window)
                pixels = buffer.values[row : row + edge, col * bands : (col + edge) * bands]
                yield Cell(item.scene, place, pixels, buffer.valid[place.relative_to(window).slices])


def visit(
    comm: Comm, pulse: Pulse, archive: Archive, engine: CellEngine, options: MapOptions,
    skip: Sequence[np.ndarray] | None = None, progress: Progress | None = None,
) -> RankReport:  # fmt: skip
    """Pass over all tiles of an archive but those in `skip`, bool (ny * nx,) by scene. Collective; raises StoppedError, and ReadError
    with `options.strict`. Returns this rank's report, with what could not be read."""
    grids = archive.grids(engine.core)
    layouts = [layout_of(scene, engine.core, 0, ()) for scene in archive.scenes]
    plan = plan_tiles(comm, archive.scenes, layouts, skip or [np.zeros(grid.size, bool) for grid in grids])
    way = Pass(archive.scenes, grids, archive.values, plan, engine, options.readers or 1)
    report, _ = run_pass(comm, pulse, way, options, progress=progress)
    refuse_stop(comm, pulse)
    return report
