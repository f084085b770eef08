"""What counts of levels say: mean, deviation, percentiles, bins, what lies above a threshold; of one scene or of many together.

Sums are of integers and of exact fractions: level k of a scene stands for low + k * step, and both floats are fractions. Scenes whose
values are counted in different levels so pool without a common quantisation, and no rounding depends on how tiles were merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import msgspec
import numpy as np

from hpcseg.statistics.counts import Histogram


@dataclass(frozen=True)
class Levels:
    """One band of one scene: counts, int64 (n,), of the values low + k * step."""

    low: float
    step: float
    counts: np.ndarray


def levels_of(histogram: Histogram) -> list[Levels]:
    """A histogram's bands."""
    return [Levels(float(a), float(b), c) for a, b, c in zip(histogram.low, histogram.step, histogram.counts, strict=True)]


class BandStatistics(msgspec.Struct, frozen=True):
    """One band: number of valid pixels, mean, standard deviation, extremes, percentiles as asked, in the scene's units."""

    count: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    percentiles: list[float]


class Above(msgspec.Struct, frozen=True):
    """What of a band lies above a threshold: number, share of the valid pixels, their mean (None: there are none), and the mean of all
    valid pixels with the rest set to 0, which is the mean after thresholding."""

    threshold: float
    count: int
    share: float
    mean: float | None
    mean_rest_0: float


class Bins(msgspec.Struct, frozen=True):
    """Counts of values in bins of one width: bin k holds low + k * width <= value < low + (k + 1) * width, the last one its end too."""

    low: float
    width: float
    counts: list[int]


def summarise(histogram: Histogram, percentiles: Sequence[float]) -> list[BandStatistics]:
    """Statistics of each band of one scene: see describe."""
    return [describe([levels], percentiles) for levels in levels_of(histogram)]


def describe(parts: Sequence[Levels], percentiles: Sequence[float]) -> BandStatistics:
    """Statistics of the pixels of all parts together; all 0 where there are none.

    A percentile p is the lowest value that at least p % of the valid pixels do not exceed.
    """
    values, counts = _distinct(parts)
    n = int(counts.sum())
    if not n:
        return BandStatistics(0, 0.0, 0.0, 0.0, 0.0, [0.0] * len(percentiles))
    mean, square = (total / n for total in _sums(parts))
    ranks = np.searchsorted(np.cumsum(counts), [max(1, -(-n * p // 100)) for p in percentiles])
    value = [float(values[k]) for k in (0, -1, *ranks)]
    return BandStatistics(n, float(mean), math.sqrt(square - mean**2), value[0], value[1], value[2:])


def above(parts: Sequence[Levels], chosen: Sequence[Levels], threshold: float) -> Above:
    """What the pixels of `chosen`, those above the threshold, are to all pixels of `parts`."""
    n, count = (sum(int(part.counts.sum()) for part in each) for each in (parts, chosen))
    total = _sums(chosen)[0]
    mean = float(total / count) if count else None
    return Above(threshold, count, count / n if n else 0.0, mean, float(total / n) if n else 0.0)


def bin_levels(parts: Sequence[Levels], bins: int) -> Bins:
    """The values of all parts in at most `bins` bins from the least to the greatest.

    Whole numbers are put into bins of a whole width, so that each bin holds as many of them.
    """
    values, counts = _distinct(parts)
    if not values.size:
        return Bins(0.0, 1.0, [])
    low, span = float(values[0]), float(values[-1] - values[0])
    if all(part.step == 1 and part.low.is_integer() for part in parts):
        width = float(math.ceil((span + 1) / bins))
        number = math.ceil((span + 1) / width)
    else:
        width, number = (span / bins, bins) if span else (1.0, 1)
    result = np.zeros(number, np.int64)
    np.add.at(result, np.minimum((values - low) // width, number - 1).astype(np.int64), counts)
    return Bins(low, width, result.tolist())


def _distinct(parts: Sequence[Levels]) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, float64 (n,), ascending, and their counts, int64 (n,); scenes with the same levels are added first."""
    scales: dict[tuple[float, float, int], np.ndarray] = {}
    for part in parts:
        key = part.low, part.step, part.counts.size
        scales[key] = scales[key] + part.counts if key in scales else part.counts
    used = [(key, np.flatnonzero(counts), counts) for key, counts in scales.items()]
    values = np.concatenate([np.float64(low) + np.float64(step) * k for (low, step, _), k, _ in used] or [np.empty(0)])
    counts = np.concatenate([counts[k] for _, k, counts in used] or [np.empty(0, np.int64)])
    order = np.argsort(values, kind="stable")
    return values[order], counts[order]


def _sums(parts: Sequence[Levels]) -> tuple[Fraction, Fraction]:
    """Sum of the values and of their squares, exact."""
    first = second = Fraction(0)
    for part in parts:
        used = np.flatnonzero(part.counts).tolist()
        pairs = list(zip(used, part.counts[used].tolist(), strict=True))
        n, k, kk = sum(c for _, c in pairs), sum(k * c for k, c in pairs), sum(k * k * c for k, c in pairs)
        low, step = Fraction(part.low), Fraction(part.step)
        first += low * n + step * k
        second += low * low * n + 2 * low * step * k + step * step * kk
    return first, second
