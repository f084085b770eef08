"""What is counted of a scene: limits, levels, and levels above a threshold; each merges exactly in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcseg.kernels.histogram import count_levels, update_limits


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


@dataclass
class Counts:
    """Levels of all valid pixels and, in the same levels, of those whose value is above a threshold (None: of none)."""

    every: Histogram
    above: Histogram
    threshold: float | None

    @classmethod
    def of(cls, empty: Histogram, threshold: float | None) -> Counts:
        return cls(empty, Histogram(empty.low, empty.step, np.zeros_like(empty.counts)), threshold)

    def add(self, values: np.ndarray, valid: np.ndarray) -> None:
        self.every.add(values, valid)
        if self.threshold is not None:
            self.above.add(np.where(values > np.float64(self.threshold), values, np.float32(np.nan)), valid)

    def merge(self, other: Counts) -> Counts:
        return Counts(self.every.merge(other.every), self.above.merge(other.above), self.threshold)
