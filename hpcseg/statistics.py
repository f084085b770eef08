"""Statistics of scenes, the same bits for any number of ranks: the first reducers on the stream.

Values are counted in levels: u8, u16 and i16 as they are, all others in 65,536 steps between the scene's own limits, which an
earlier pass finds. Mean, deviation and percentiles follow from the counts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from hpcseg.kernels.histogram import count_levels, update_limits
from hpcseg.mpi import Comm, Pulse
from hpcseg.partition import Work, make_plan
from hpcseg.raster import CellCache, NodataRule, Scene, Values
from hpcseg.share import merge_at_owners
from hpcseg.stream import ReduceEngine, Reducer, Source, Stream
from hpcseg.tiles import Grid

_LEVELS = 65536
_TILE = 1024


@dataclass
class Limits:
    """Smallest and largest valid value of each band, float64 (b,), and the number of valid pixels."""

    low: np.ndarray
    high: np.ndarray
    count: int = 0

    @classmethod
    def of(cls, bands: int) -> Limits:
        return cls(np.full(bands, np.inf), np.full(bands, -np.inf))

    def add(self, values: np.ndarray, valid: np.ndarray) -> None:
        self.count += update_limits(values, valid, self.low, self.high)

    def merge(self, other: Limits) -> Limits:
        return Limits(np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.count + other.count)


@dataclass
class Histogram:
    """Counts of levels, int64 (b, bins); level k of band b stands for the value low[b] + k * step[b]."""

    low: np.ndarray
    step: np.ndarray
    counts: np.ndarray

    def add(self, values: np.ndarray, valid: np.ndarray) -> None:
        count_levels(values, valid, self.low, self.step, self.counts)

    def merge(self, other: Histogram) -> Histogram:
        return Histogram(self.low, self.step, self.counts + other.counts)


class BandStatistics(msgspec.Struct, frozen=True):
    """One band: number of valid pixels, mean, standard deviation, extremes, percentiles as asked, in the scene's units."""

    count: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    percentiles: list[float]


def summarise(histogram: Histogram, percentiles: Sequence[float]) -> list[BandStatistics]:
    """Statistics of each band from its counts. Sums are of Python integers: no rounding depends on how tiles were merged.

    A percentile p is the lowest value that at least p % of the valid pixels do not exceed.
    """
    result = []
    for low, step, counts in zip(histogram.low, histogram.step, histogram.counts, strict=True):
        used = np.flatnonzero(counts)
        n = int(counts.sum())
        if not n:
            result.append(BandStatistics(0, 0.0, 0.0, 0.0, 0.0, [0.0] * len(percentiles)))
            continue
        first = sum(int(k) * int(counts[k]) for k in used)
        second = sum(int(k) ** 2 * int(counts[k]) for k in used)
        variance = (second * n - first**2) / n**2
        ranks = np.searchsorted(np.cumsum(counts), [max(1, -(-n * p // 100)) for p in percentiles])
        value = [float(low + step * k) for k in (used[0], used[-1], *ranks)]
        result.append(
            BandStatistics(n, float(low + step * (first / n)), float(step * variance**0.5), value[0], value[1], value[2:])
        )
    return result


def statistics(
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], rule: NodataRule, percentiles: Sequence[float], threads: int, cache: int
) -> tuple[list[list[BandStatistics]], list[str]]:
    """Statistics of each band of each scene, on every rank, and what could not be read. Collective.

    Each tile of 1024 pixels is read by one rank; owners of a scene merge their counts.
    """

    def reduce(chosen: list[int], make: Callable[[int], Any]) -> tuple[dict[int, Any], list[str]]:
        return _reduce(comm, pulse, scenes, chosen, make, rule, threads, cache)

    coarse = [k for k, scene in enumerate(scenes) if not _counts_integers(scene)]
    limits, _ = reduce(coarse, lambda k: Limits.of(len(scenes[k].bands)))
    found, failures = reduce(list(range(len(scenes))), lambda k: _histogram(scenes[k], limits.get(k)))
    return [summarise(found[k], percentiles) for k in range(len(scenes))], failures


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
    comm: Comm, pulse: Pulse, scenes: Sequence[Scene], chosen: list[int], make: Callable[[int], Reducer], rule: NodataRule,
    threads: int, cache: int,
) -> tuple[dict[int, Reducer], list[str]]:  # fmt: skip
    grids = [Grid(scene.height, scene.width, _TILE, 0) for scene in scenes]
    works = [
        Work(grid, scene.striped, np.ones(grid.size, np.int64), np.full(grid.size, k not in chosen))
        for k, (grid, scene) in enumerate(zip(grids, scenes, strict=True))
    ]
    plan = make_plan(works, comm.size)
    span = plan.of_rank(comm.rank)
    values = [Values((1.0,) * len(scene.bands), (0.0,) * len(scene.bands), rule, missing=np.nan) for scene in scenes]
    source = Source(scenes, grids, values, CellCache(cache))
    parts: dict[int, Reducer] = {}
    failures = []
    for bands in sorted({len(scenes[k].bands) for k, _ in span}):
        tasks = [(k, int(tile)) for k, tiles in span if len(scenes[k].bands) == bands for tile in tiles]
        engine = ReduceEngine(make, grids, bands, threads)
        for item in Stream(source, tasks, engine, stop=pulse.stop):
            if item.state == "failed":
                failures.append(item.reason)
            pulse.step()
        parts |= engine.results()
    merged = merge_at_owners(comm, plan, parts)
    everything = {k: part for each in comm.allgather(merged) for k, part in each.items()}
    missing = [k for k in chosen if k not in everything]
    return everything | {k: make(k) for k in missing}, [text for each in comm.allgather(failures) for text in each]
