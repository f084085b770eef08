"""The normalised difference of two bands, smoothed by a median and cut at a threshold, in one go."""

from __future__ import annotations

import numpy as np
from numba import njit

NODATA = 255


@njit(nogil=True, cache=True)
def label_index(values, valid, core, inside, radius, above, out):
    """1 where the median of (A - B) / (A + B) over the valid pixels of a square exceeds `above`, else 0; 255 where there is no data.

    The median exceeds a threshold where more than half of the pixels do: no value is sorted. Of an even number, which only no data
    makes, it is the lower of the two middle ones. Beyond the scene the edge's pixels are repeated.
    values: float32 (H, W * 2), A and B of each pixel in turn. valid: u8 (H, W). core, inside: Windows within them, the part to label
    and the part in the scene. radius: of the square. out: u8 (h, w). A pixel with A + B = 0 has no index: it counts as no data.
    """
    rows, cols = core.height + 2 * radius, core.width + 2 * radius
    # Of each pixel: 1 = valid, and in the high bits 1 = above too; sums of columns hold both.
    marks = np.empty(cols, np.int64)
    history = np.zeros((2 * radius + 1, cols), np.int64)
    column = np.zeros(cols, np.int64)
    for i in range(rows):
        row = min(max(core.row - radius + i, inside.row), inside.row + inside.height - 1)
        for j in range(cols):
            col = min(max(core.col - radius + j, inside.col), inside.col + inside.width - 1)
            a, b = np.float64(values[row, 2 * col]), np.float64(values[row, 2 * col + 1])
            total = a + b
            # NaN fails both comparisons.
            known = valid[row, col] != 0 and (total > 0 or total < 0)
            marks[j] = (np.int64(1) + (np.int64((a - b) / total > above) << 32)) if known else np.int64(0)
        oldest = history[i % (2 * radius + 1)]
        for j in range(cols):
            column[j] += marks[j] - oldest[j]
            oldest[j] = marks[j]
        if i < 2 * radius:
            continue
        centre = history[(i - radius) % (2 * radius + 1)]
        window = np.int64(0)
        for j in range(2 * radius):
            window += column[j]
        for j in range(core.width):
            window += column[j + 2 * radius]
            count, higher = window & np.int64(0xFFFFFFFF), window >> np.int64(32)
            out[i - 2 * radius, j] = np.uint8(2 * higher > count) if centre[j + radius] else np.uint8(NODATA)
            window -= column[j]
