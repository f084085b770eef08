"""Truth against map: pairs of classes counted in integers, and where the truth's class borders are near."""

from __future__ import annotations

import numpy as np
from numba import njit

UNLABELLED = 255


@njit(nogil=True, cache=True)
def count_pairs(truth, labels, near, table, unmapped):
    """Add the pixels of a window to a confusion matrix. Returns the number of pixels with a class that it has no place for.

    truth, labels: u8 (h, w), any strides; 255 in truth is not judged. near: u8 (h, w), not 0 where a pixel is not judged either,
    or (0, 0). table: int64 (n, n), [truth, label], added to. unmapped: int64 (n,), by truth, pixels that the map leaves at 255.
    """
    height, width = truth.shape
    count = len(unmapped)
    every = near.size == 0
    unknown = 0
    for i in range(height):
        for j in range(width):
            wanted, found = truth[i, j], labels[i, j]
            if wanted == UNLABELLED or not (every or near[i, j] == 0):
                continue
            if wanted >= count or (found >= count and found != UNLABELLED):
                unknown += 1
            elif found == UNLABELLED:
                unmapped[wanted] += 1
            else:
                table[wanted, found] += 1
    return unknown


@njit(nogil=True, cache=True)
def mark_borders(truth, reach, out):
    """Mark the pixels that have another class within `reach` pixels, diagonals included (Chebyshev distance).

    truth: u8 (h + 2 reach, w + 2 reach); 255 is no class and makes no border. out: u8 (h, w), 1 = marked, 0 for 255 itself.
    """
    height, width = out.shape
    across = 2 * reach + 1
    lowest = np.empty((height + 2 * reach, width), np.uint8)
    highest = np.empty_like(lowest)
    # The lowest and highest class along each row first, then down the columns: a square is separable.
    for i in range(height + 2 * reach):
        low, high = lowest[i], highest[i]
        low[:], high[:] = UNLABELLED, 0
        for k in range(across):
            for j in range(width):
                value = truth[i, j + k]
                low[j] = min(low[j], value)
                high[j] = max(high[j], value if value != UNLABELLED else np.uint8(0))
    low, high = np.empty(width, np.uint8), np.empty(width, np.uint8)
    for i in range(height):
        low[:], high[:] = UNLABELLED, 0
        for k in range(across):
            for j in range(width):
                low[j] = min(low[j], lowest[i + k, j])
                high[j] = max(high[j], highest[i + k, j])
        for j in range(width):
            out[i, j] = low[j] != high[j] and truth[i + reach, j + reach] != UNLABELLED
