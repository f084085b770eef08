"""Smoothing over squares of valid pixels: mean, and Lee's speckle filter. A pixel's result does not depend on its tile.

Sums start anew at each pixel: of a row's values from left to right, in float64, then of the rows from top to bottom. Pixels outside
the window count as no data.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def valid_mean(values, valid, radius, core, out):
    """Mean of the valid pixels of a square, centre included or not; NaN where it has none.

    values: float32 (H, W). valid: u8 (H, W), 0 = no data, whose values are not looked at. radius: the square is 2 radius + 1 wide.
    core: Window within them. out: float32 (core.height, core.width).
    """
    counts, sums = np.empty(core.width), np.empty(core.width)
    rows = np.zeros((2 * radius + 1, 2, core.width))
    for i in range(core.height):
        _slide(values, valid, radius, core, i, False, rows)
        _total(rows[:, 0], i, counts)
        _total(rows[:, 1], i, sums)
        for j in range(core.width):
            out[i, j] = np.float32(sums[j] / counts[j]) if counts[j] > 0 else np.float32(np.nan)


@njit(nogil=True, cache=True)
def lee(values, valid, radius, looks, core, out):
    """Lee's filter of multiplicative speckle: mean + k (value - mean), k the share of the square's variance that is not speckle.

    J.-S. Lee, "Digital image enhancement and noise filtering by use of local statistics", IEEE PAMI 2(2), 1980, with the weight of
    least squared error: of valid pixels with mean m and variance v, k = (v - m^2 s) / (v (1 + s)), s = 1 / looks, held in 0 to 1.
    values: float32 (H, W), intensities, 0 or more. looks: their number; of amplitudes give 3.66 times as many. The rest as in
    `valid_mean`; NaN where the pixel itself is no data.
    """
    counts, sums, squares = np.empty(core.width), np.empty(core.width), np.empty(core.width)
    rows = np.zeros((2 * radius + 1, 3, core.width))
    speckle = 1 / looks
    for i in range(core.height):
        _slide(values, valid, radius, core, i, True, rows)
        _total(rows[:, 0], i, counts)
        _total(rows[:, 1], i, sums)
        _total(rows[:, 2], i, squares)
        for j in range(core.width):
            if valid[core.row + i, core.col + j] == 0:
                out[i, j] = np.float32(np.nan)
                continue
            mean = sums[j] / counts[j]
            variance = squares[j] / counts[j] - mean * mean
            share = 0.0
            if variance > 0:
                share = min(max((variance - mean * mean * speckle) / (variance * (1 + speckle)), 0.0), 1.0)
            out[i, j] = np.float32(mean + share * (values[core.row + i, core.col + j] - mean))


@njit(nogil=True, cache=True)
def _slide(values, valid, radius, core, i, squared, rows):
    """Bring the sums along rows that row i of a core needs into their places: all for its first, one more for each other.

    rows: float64 (2 radius + 1, 2 or 3, core.width): of each row of the square the number of valid pixels, their sum, that of squares.
    """
    size = 2 * radius + 1
    for k in range(0 if i == 0 else size - 1, size):
        _sum_row(values, valid, radius, core, core.row + i - radius + k, squared, rows[(i + k) % size])


@njit(nogil=True, cache=True)
def _sum_row(values, valid, radius, core, row, squared, sums):
    """Sums over the 2 radius + 1 pixels of a row about each column of a core."""
    sums[:] = 0
    if row < 0 or row >= values.shape[0]:
        return
    for step in range(-radius, radius + 1):
        first, last = max(0, -(core.col + step)), min(core.width, values.shape[1] - core.col - step)
        for j in range(first, last):
            known = valid[row, core.col + step + j] != 0
            value = np.float64(values[row, core.col + step + j]) if known else 0.0
            sums[0, j] += known
            sums[1, j] += value
            if squared:
                sums[2, j] += value * value


@njit(nogil=True, cache=True)
def _total(rows, i, total):
    """Add up the rows of a square, top to bottom; that of row i lies where `_slide` put it."""
    size = rows.shape[0]
    total[:] = 0
    for k in range(size):
        row = rows[(i + k) % size]
        for j in range(total.size):
            total[j] += row[j]
