"""Heat: 1 at the centres of objects and less around them, as a truth to learn from and as a network's answer, one byte a pixel."""

from __future__ import annotations

import numpy as np
from numba import njit

from hpcseg.kernels.labels import NODATA, _value

FULL = 254
# Peaks from 0.05 on tell how many objects to expect.
FLOOR = 13
_REACH = 3.0


def level_of(threshold: float) -> int:
    """The least score that reaches a threshold of 0 to 1."""
    return max(1, round(FULL * threshold))


@njit(nogil=True, cache=True)
def draw(rows, cols, kinds, sigma, top, left, out):
    """Draw round(254 exp(-d^2 / (2 sigma^2))) about objects, the most where they overlap, 0 from d > 3 sigma on.

    rows, cols: int64 (n,), pixels of the objects in the scene. kinds: int64 (n,), which plane each is drawn in. sigma: pixels.
    top, left: pixel of the scene that out begins with. out: u8 (kinds, h, w), any contents.
    """
    out[:] = 0
    height, width = out.shape[1], out.shape[2]
    reach = int(_REACH * sigma)
    for k in range(len(rows)):
        row, col, plane = rows[k] - top, cols[k] - left, out[kinds[k]]
        for i in range(max(0, row - reach), min(height, row + reach + 1)):
            for j in range(max(0, col - reach), min(width, col + reach + 1)):
                squared = float((i - row) ** 2 + (j - col) ** 2)
                if squared <= (_REACH * sigma) ** 2:
                    plane[i, j] = max(plane[i, j], np.uint8(FULL * np.exp(-squared / (2 * sigma * sigma)) + 0.5))


@njit(nogil=True, cache=True)
def heat(logits, valid, kind, out):
    """round(254 sigmoid) of a kind's logits, 255 where valid is 0.

    logits: (h, w, kinds), float32 or the bits of bfloat16 as uint16, any strides. valid: u8 (h, w). out: u8 (h, w).
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            chance = np.float32(1.0) / (np.float32(1.0) + np.exp(-_value(logits[i, j, kind])))
            out[i, j] = np.uint8(np.float32(FULL) * chance + np.float32(0.5)) if valid[i, j] else np.uint8(NODATA)
