"""Counting values: the base of all statistics, exact in integers."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def count_levels(values, valid, low, step, counts):
    """Add a window to the histogram of each band: level = round((value - low) / step), clipped to the bins.

    values: float32 (h, w, b), NaN = this band has no data. valid: u8 (h, w). low, step: float64 (b,). counts: int64 (b, bins), added to.
    """
    height, width, bands = values.shape
    last = counts.shape[1] - 1
    for i in range(height):
        for j in range(width):
            if valid[i, j]:
                for b in range(bands):
                    if values[i, j, b] != values[i, j, b]:
                        continue
                    level = int(np.floor((values[i, j, b] - low[b]) / step[b] + 0.5))
                    counts[b, min(max(level, 0), last)] += 1


@njit(nogil=True, cache=True)
def update_limits(values, valid, low, high):
    """Widen the limits of each band to a window's valid values. values: float32 (h, w, b). low, high: float64 (b,). Returns how many."""
    height, width, bands = values.shape
    total = 0
    for i in range(height):
        for j in range(width):
            if valid[i, j]:
                total += 1
                for b in range(bands):
                    if values[i, j, b] == values[i, j, b]:
                        low[b] = min(low[b], values[i, j, b])
                        high[b] = max(high[b], values[i, j, b])
    return total
