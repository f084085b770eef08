"""Prefilters of networks: a filter is fitted to each scene by one reduce, and then readers show the scene through it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcseg.errors import SceneError
from hpcseg.kernels.filters import BANDS, FILTERS, Filter, Prefilter
from hpcseg.kernels.warm import compile_reading
from hpcseg.mapping.options import MapOptions, layout_of
from hpcseg.mapping.run import Pass, run_pass
from hpcseg.mapping.settle import plan_tiles
from hpcseg.mpi import Comm, Pulse, first_on_node, refuse_stop
from hpcseg.raster import Scene, plain_values
from hpcseg.share import merge_at_owners
from hpcseg.stream import Buffer, ReduceEngine
from hpcseg.tiles import Grid, Window

_TILE = 1024


def check_scene(scene: Scene, name: str) -> None:
    """Raises SceneError if a scene cannot pass a filter; name: "" = none."""
    if name and len(scene.bands) != BANDS:
        raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, prefilter {name} takes red, green and blue: --bands R,G,B")
    if name and scene.dtype != "uint8":
        what = "hpcseg label ice --stretch LOW,HIGH --filtered makes such pictures, filtered"
        raise SceneError(f"has pixels of {scene.dtype}, prefilter {name} takes uint8: {what}")


def fit_prefilters(
    comm: Comm, pulse: Pulse, name: str, scenes: Sequence[Scene], options: MapOptions
) -> tuple[list[Prefilter | None], list[str]]:
    """A filter fitted to each scene, on every rank, and what could not be read; name: "" = none for any. Collective.

    Exact for any number of ranks. Raises StoppedError, shared by all ranks, if a signal came, ReadError with `options.strict`.
    """
    if not name or not scenes:
        return [None] * len(scenes), []
    chosen = FILTERS[name]
    first_on_node(comm, lambda: _compile(chosen))
    layouts = [layout_of(scene, _TILE, chosen.halo, ()) for scene in scenes]
    grids = [layout.grid for layout in layouts]
    plan = plan_tiles(comm, scenes, layouts, [np.zeros(grid.size, bool) for grid in grids])
    engine = CountEngine(chosen, grids, options.threads)
    way = Pass(scenes, grids, [plain_values(options.nodata_rule)] * len(scenes), plan, engine)
    _, failed = run_pass(comm, pulse, way, options)
    refuse_stop(comm, pulse.stop, "the prefilter was fitted to all scenes")
    mine = {scene: chosen.fit(counts.values) for scene, counts in merge_at_owners(comm, plan, engine.results()).items()}
    fits = {scene: fit for each in comm.allgather(mine) for scene, fit in each.items()}
    nothing = chosen.fit(chosen.start())
    unread = [reason for each in comm.allgather(list(failed.values())) for reason in each]
    return [Prefilter(name, fits.get(scene, nothing)) for scene in range(len(scenes))], unread


def _compile(chosen: Filter) -> None:
    """Compile what a filter does on a window."""
    compile_reading(["uint8"], "uint8")
    one, pixel, out = Window(0, 0, 1, 1), np.zeros((1, BANDS), np.uint8), np.zeros((1, BANDS), np.uint8)
    counts = chosen.start()
    chosen.count(pixel, np.ones((1, 1), np.uint8), one, one, counts)
    chosen.clear(pixel, np.ones((1, 1), np.uint8), one, one, chosen.fit(counts), out)


class Counts:
    """A filter's counts of a scene, int64."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def merge(self, other: Counts) -> Counts:
        return Counts(self.values + other.values)


class CountEngine(ReduceEngine):
    """Threads that count windows for a filter, by scene."""

    dtype = np.uint8

    def __init__(self, chosen: Filter, grids: Sequence[Grid], threads: int) -> None:
        super().__init__(lambda scene: Counts(chosen.start()), grids, BANDS, threads)
        self._filter = chosen

    def feed(self, total: Counts, buffer: Buffer, core: Window, inside: Window) -> None:
        self._filter.count(buffer.values, buffer.valid, core, inside, total.values)
