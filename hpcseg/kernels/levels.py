"""Levels of 0 to 255 in place of measurements: means, counts and cuts of them, exact in integers."""

from __future__ import annotations

import numpy as np
from numba import njit

NODATA = 65535


@njit(nogil=True, cache=True)
def to_power(values, valid, exponent, db_per_unit, power, known):
    """Power of measured values: their `exponent`-th power (1: they are power, 2: amplitudes), or 0: they are dB, so many by a unit.

    values: float32 (H, W). valid: u8 (H, W). power: float32 (H, W). known: u8 (H, W), 1 where there is data; amplitudes and powers of 0
    and less are none. Each pixel by itself in double precision: vectors of logarithms may round otherwise at a tile's end.
    """
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value = np.float64(values[i, j])
            ok = valid[i, j] != 0 and (value > 0 or exponent == 0)
            known[i, j] = ok
            if not ok:
                power[i, j] = 0
            elif exponent == 0:
                power[i, j] = np.float32(10 ** (value * db_per_unit / 10))
            else:
                power[i, j] = np.float32(value * value if exponent == 2 else value)


@njit(nogil=True, cache=True)
def to_levels(values, valid, steps, positive, levels, known):
    """The number of steps that each value has reached, 0 to 255.

    values: float32 (H, W). valid: u8 (H, W). steps: float32 (255,), rising: a table says the same for every tile, where a logarithm
    would not have to. positive: values of 0 and less are no data. levels, known: u8 (H, W), set; known is 1 where there is data.
    """
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value = values[i, j]
            ok = valid[i, j] != 0 and (value > 0 or not positive)
            known[i, j] = ok
            low = 0
            for bit in (128, 64, 32, 16, 8, 4, 2, 1):
                if low + bit <= 255 and value >= steps[low + bit - 1]:
                    low += bit
            levels[i, j] = low if ok else 0


@njit(nogil=True, cache=True)
def mean_levels(levels, known, core, radius, parts, out):
    """The mean level of the known pixels of a square, in `parts` of a level, rounded down from halves up; 65535 where there is no data.

    levels, known: u8 (H, W). core: Window within them, at least `radius` from their edges. out: u16 (h, w). Sums are of integers.
    """
    width = core.width + 2 * radius
    sums, counts = np.zeros(width, np.int64), np.zeros(width, np.int64)
    left = core.col - radius
    for i in range(core.height):
        row = core.row + i
        for j in range(width):
            if i == 0:
                for k in range(row - radius, row + radius + 1):
                    sums[j] += levels[k, left + j]
                    counts[j] += known[k, left + j]
            else:
                sums[j] += np.int64(levels[row + radius, left + j]) - np.int64(levels[row - radius - 1, left + j])
                counts[j] += np.int64(known[row + radius, left + j]) - np.int64(known[row - radius - 1, left + j])
        total, number = np.int64(0), np.int64(0)
        for j in range(2 * radius):
            total += sums[j]
            number += counts[j]
        for j in range(core.width):
            total += sums[j + 2 * radius]
            number += counts[j + 2 * radius]
            out[i, j] = (2 * parts * total + number) // (2 * number) if known[row, core.col + j] else NODATA
            total -= sums[j]
            number -= counts[j]


@njit(nogil=True, cache=True)
def count_cells(levels, edge, counts):
    """Count the levels of each square cell.

    levels: u16 (h, w), 65535 = no data. edge: of a cell in pixels. counts: int64 (ny, nx, bins), added to.
    """
    for i in range(levels.shape[0]):
        for j in range(levels.shape[1]):
            if levels[i, j] != NODATA:
                counts[i // edge, j // edge, levels[i, j]] += 1


@njit(nogil=True, cache=True)
def cut_levels(levels, threshold, above, out):
    """1 where a level is at most `threshold` (`above`: where it is more), else 0; 255 where there is none.

    levels: u16 (h, w), 65535 = no data. out: u8 (h, w).
    """
    for i in range(levels.shape[0]):
        for j in range(levels.shape[1]):
            out[i, j] = np.uint8((levels[i, j] > threshold) == above) if levels[i, j] != NODATA else np.uint8(255)
