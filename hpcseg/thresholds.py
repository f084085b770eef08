"""Thresholds from histograms: Otsu's level, percentiles, and whether a histogram has two modes.

All take counts, so that what they find depends on the pixels alone, not on how tiles or ranks shared them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

_STEPS = 100
_LEAST_SHARE = 1e-12
# Narrower than this a mode is one level of rounded values.
_LEAST_VARIANCE = 1 / 12


def otsu(counts: np.ndarray) -> int | None:
    """The level that parts a histogram into two classes, `<= level` and above, of the greatest variance between them (Otsu 1979).

    counts: integers (bins,). Exact: sums and comparisons are of integers; of equal levels the lowest. On u8 images it parts pixels as
    OpenCV's THRESH_OTSU does. None where fewer than two levels occur: a constant image has no threshold.
    """
    used = [int(k) for k in np.flatnonzero(counts)]
    number, total = int(counts.sum()), sum(k * int(counts[k]) for k in used)
    best, level = (0, 1), None
    below = accumulate(int(counts[k]) for k in used[:-1])
    first = accumulate(k * int(counts[k]) for k in used[:-1])
    for k, n, moment in zip(used, below, first, strict=False):
        # Variance between the classes times number ** 3, as a fraction.
        share = (total * n - number * moment) ** 2, n * (number - n)
        if share[0] * best[1] > best[0] * share[1]:
            best, level = share, k
    return level


def percentile_levels(counts: np.ndarray, percentiles: Sequence[float]) -> list[int]:
    """For each percentile p the lowest level that at least p % of the counted values do not exceed. counts: integers (bins,), not all 0."""
    total = int(counts.sum())
    return [int(k) for k in np.searchsorted(np.cumsum(counts), [max(1, -(-total * p // 100)) for p in percentiles])]


class Modes(NamedTuple):
    """Two normal distributions fitted to each of n histograms, the lower first: float64 (n, 2) each, in levels.

    A histogram of fewer than two levels has share 0, mean 0 and deviation 1 for both.
    """

    share: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def separation(self) -> np.ndarray:
        """Ashman's D, float64 (n,): above 2 two normal modes part cleanly (Ashman, Bird and Zepf, Astron. J. 108, 1994)."""
        return np.sqrt(2.0) * np.diff(self.mean)[:, 0] / np.sqrt((self.deviation**2).sum(-1))


def fit_modes(counts: np.ndarray) -> Modes:
    """Fit two normal distributions to each histogram by expectation maximisation, begun at Otsu's classes. counts: integers (n, bins)."""
    levels = np.arange(counts.shape[-1], dtype=np.float64)
    cuts = [otsu(each) for each in counts]
    defined = np.array([cut is not None for cut in cuts], bool)
    weight = counts * defined[:, None] / np.maximum(counts.sum(-1, keepdims=True), 1)
    low = (levels <= np.array([-1 if cut is None else cut for cut in cuts])[:, None]).astype(np.float64)
    belongs = np.stack([low, 1 - low], 1)
    for _ in range(_STEPS):
        mass = belongs * weight[:, None]
        share = mass.sum(-1)
        safe = np.where(share > 0, share, 1.0)
        mean = (mass * levels).sum(-1) / safe
        spread = (mass * (levels - mean[..., None]) ** 2).sum(-1) / safe
        variance = np.maximum(np.where(share > 0, spread, 1.0), _LEAST_VARIANCE)
        height = np.log(np.maximum(share, _LEAST_SHARE) / np.sqrt(variance))
        score = height[..., None] - 0.5 * (levels - mean[..., None]) ** 2 / variance[..., None]
        odds = np.exp(score - score.max(1, keepdims=True))
        belongs = odds / odds.sum(1, keepdims=True)
    order = np.argsort(mean, -1, kind="stable")
    return Modes(*(np.take_along_axis(part, order, -1) for part in (share, mean, np.sqrt(variance))))


def bimodal(counts: np.ndarray, separation: float = 2.0, share: float = 0.1) -> np.ndarray:
    """Which histograms have two modes: bool (n,).

    counts: integers (n, bins). Two modes are two normal distributions whose Ashman's D is more than `separation` and of which each
    holds at least `share` of the values: the test of Chini et al., IEEE TGRS 55(12), 2017, for cells that hold both land and water.
    The broad, flat histogram of values that are spread evenly passes for two.
    """
    modes = fit_modes(counts)
    return (modes.separation() > separation) & (modes.share.min(-1) >= share)
