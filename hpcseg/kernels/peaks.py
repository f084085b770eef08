"""Peaks of heat: where it is highest within a distance, one pixel a peak, the same wherever tiles lie."""

from __future__ import annotations

import numpy as np
from numba import njit

from hpcseg.kernels.labels import NODATA


def neighbours(distance: float, pixel: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Steps to the other pixels within a distance, int64 (n, 2), rows and columns, the nearest first.

    pixel: its height and width in the unit of the distance. The halo that `find_peaks` needs is the largest step.
    """
    rows, cols = (int(distance / size) for size in pixel)
    down, right = np.mgrid[-rows : rows + 1, -cols : cols + 1]
    squared = (down * pixel[0]) ** 2 + (right * pixel[1]) ** 2
    steps = np.stack([down, right], -1)[(squared <= distance**2) & (squared > 0)]
    return steps[np.argsort(squared[(squared <= distance**2) & (squared > 0)], kind="stable")]


@njit(nogil=True, cache=True)
def find_peaks(heat, core, steps, level):
    """Peaks in a core of heat: pixels of at least `level` where none of the `steps` leads to a higher one, nor to an equal one that
    comes before it in (row, col) order.

    heat: u8 (H, W), 255 = no data, which is lower than all. core: Window within it. steps: of `neighbours`; what they reach outside
    `heat` does not count. Returns int64 (n, 3), row and column in `heat` and its value there, in raster order.
    """
    found, hot = np.empty((256, 3), np.int64), np.empty(core.width, np.int64)
    count = 0
    for i in range(core.row, core.row + core.height):
        # Few pixels are hot: a loop that does nothing else finds them many times faster.
        for j in hot[: _find_hot(heat[i, core.col : core.col + core.width], level, hot)]:
            if _is_peak(heat, i, core.col + j, steps):
                if count == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                found[count, 0], found[count, 1], found[count, 2] = i, core.col + j, heat[i, core.col + j]
                count += 1
    return found[:count]


@njit(nogil=True, cache=True)
def _find_hot(row, level, out):
    """Write the columns of a row, u8 (w,), that are at least `level` and not no data; returns how many."""
    count = 0
    for j in range(len(row)):
        if row[j] >= level and row[j] != NODATA:
            out[count] = j
            count += 1
    return count


@njit(nogil=True, cache=True)
def _is_peak(heat, row, col, steps):
    value = heat[row, col]
    for k in range(len(steps)):
        down, right = steps[k]
        i, j = row + down, col + right
        if 0 <= i < heat.shape[0] and 0 <= j < heat.shape[1] and heat[i, j] != NODATA:
            before = down < 0 or (down == 0 and right < 0)
            if heat[i, j] > value or (before and heat[i, j] == value):
                return False
    return True
