"""Counting over scenes: passes of the stream over the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpcseg.kernels.filters import Prefilter
from hpcseg.mapping.options import MapOptions, layout_of
from hpcseg.mapping.run import Pass, run_pass
from hpcseg.mapping.settle import plan_tiles
from hpcseg.mpi import Comm, Pulse, first_on_node, refuse_stop
from hpcseg.partition import Plan
from hpcseg.raster import NodataRule, Scene, Values
from hpcseg.share import merge_at_owners
from hpcseg.statistics.counts import Counts, Histogram, Limits
from hpcseg.statistics.summary import BandStatistics, summarise
from hpcseg.stream import ReduceEngine, Reducer

_LEVELS = 65536
_TILE = 1024


def statistics(
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], rule: NodataRule, percentiles: Sequence[float], threads: int, cache: int,
    filters: Sequence[Prefilter | None] = (),
) -> tuple[list[list[BandStatistics]], list[str]]:  # fmt: skip
    """Statistics of each band of each scene, on every rank, and what could not be read. Collective. Raises StoppedError, shared by all
    ranks, if a signal came.

    Each tile of 1024 pixels is read by one rank; owners of a scene merge their counts. filters: what each scene
    passes first, () = nothing.
    """
    values = [_values(scene, rule, each) for scene, each in zip(scenes, filters or [None] * len(scenes), strict=True)]
    found, failures = _count(comm, pulse, scenes, lambda empty: empty, values, threads, cache)
    return [summarise(histogram, percentiles) for histogram in found], failures


def count_scenes(
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], rule: NodataRule, threshold: float | None, threads: int, cache: int
) -> tuple[list[Counts], list[str]]:
    """The levels of each band of each scene, and of its pixels above a threshold, as `statistics` counts them. Collective."""
    values = [_values(scene, rule) for scene in scenes]
    return _count(comm, pulse, scenes, lambda empty: Counts.of(empty, threshold), values, threads, cache)


def _values(scene: Scene, rule: NodataRule, prefilter: Prefilter | None = None) -> Values:
    """How a scene is read to be counted."""
    bands = len(scene.bands)
    return Values((1.0,) * bands, (0.0,) * bands, rule, missing=np.nan, prefilter=prefilter)


def _count(
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], make: Callable[[Histogram], Any], values: Sequence[Values], threads: int, cache: int
) -> tuple[list[Any], list[str]]:
    """What make(empty histogram) gathers of each scene."""

    def reduce(chosen: list[int], make: Callable[[int], Any]) -> tuple[dict[int, Any], list[str]]:
        return _reduce(comm, pulse, scenes, chosen, make, values, threads, cache)

    first_on_node(comm, compile_counting)
    coarse = [k for k, scene in enumerate(scenes) if not _counts_integers(scene)]
    limits, _ = reduce(coarse, lambda k: Limits.of(len(scenes[k].bands)))
    found, failures = reduce(list(range(len(scenes))), lambda k: make(_histogram(scenes[k], limits.get(k))))
    return [found[k] for k in range(len(scenes))], failures


def compile_counting() -> None:
    """Compile what counts windows: cores of whole tiles fill theirs, those at a scene's edge a part, which is another memory layout."""
    values, valid = np.zeros((2, 2, 1), np.float32), np.ones((2, 2), np.uint8)
    for part in (slice(2), slice(1)):
        Limits.of(1).add(values[:, part], valid[:, part])
        Histogram(np.zeros(1), np.ones(1), np.zeros((1, 1), np.int64)).add(values[:, part], valid[:, part])


def _counts_integers(scene: Scene) -> bool:
    return scene.dtype in ("uint8", "uint16", "int16") and set(scene.scale) == {1.0} and set(scene.offset) == {0.0}


def _histogram(scene: Scene, limits: Limits | None) -> Histogram:
    bands = len(scene.bands)
    if limits is None:
        info = np.iinfo(scene.dtype)
        return Histogram(np.full(bands, float(info.min)), np.ones(bands), np.zeros((bands, info.max - info.min + 1), np.int64))
    empty = ~np.isfinite(limits.low)
    low = np.where(empty, 0.0, limits.low)
    step = np.where(empty, 1.0, np.maximum((np.where(empty, 0.0, limits.high) - low) / (_LEVELS - 1), np.finfo(float).tiny))
    return Histogram(low, step, np.zeros((bands, _LEVELS), np.int64))


def _reduce(
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], chosen: list[int], make: Callable[[int], Reducer],
    values: Sequence[Values], threads: int, cache: int,
) -> tuple[dict[int, Reducer], list[str]]:  # fmt: skip
    layouts = [layout_of(scene, _TILE, 0, ()) for scene in scenes]
    grids = [layout.grid for layout in layouts]
    passes: list[tuple[Plan, dict[int, Reducer]]] = []
    failures: list[str] = []
    for bands in sorted({len(scenes[k].bands) for k in chosen}):
        others = [np.full(grid.size, k not in chosen or len(scenes[k].bands) != bands) for k, grid in enumerate(grids)]
        plan, engine = plan_tiles(comm, scenes, layouts, others), ReduceEngine(make, grids, bands, threads)
        _, failed = run_pass(comm, pulse, Pass(scenes, grids, values, plan, engine), MapOptions((), cache=cache))
        passes.append((plan, engine.results()))
        failures += failed.values()
    refuse_stop(comm, pulse.stop, "all scenes were counted")
    merged = {k: part for plan, parts in passes for k, part in merge_at_owners(comm, plan, parts).items()}
    everything = {k: part for each in comm.allgather(merged) for k, part in each.items()}
    missing = [k for k in chosen if k not in everything]
    return everything | {k: make(k) for k in missing}, [text for each in comm.allgather(failures) for text in each]
