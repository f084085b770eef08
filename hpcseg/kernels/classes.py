"""From values of label rasters to class numbers, and counting classes."""

from __future__ import annotations

import numpy as np
from numba import njit

NOT_LABELLED = 255


@njit(nogil=True, cache=True)
def assign_classes(values, valid, known, classes, out):
    """The class of each value, 255 where valid is 0 or the value is unknown.

    values: float32 (h, w). valid: u8 (h, w). known: float32 (k,), ascending. classes: u8 (k,), of each known value. out: u8 (h, w).
    Returns the flat index of the first unknown value, or -1.
    """
    height, width = values.shape
    unknown = -1
    last, number = np.float32(np.nan), NOT_LABELLED
    for i in range(height):
        for j in range(width):
            value = values[i, j]
            if not valid[i, j]:
                out[i, j] = NOT_LABELLED
                continue
            # Labels come in runs: most values equal the one before.
            if value != last:
                k = np.searchsorted(known, value)
                found = k < known.size and known[k] == value
                last, number = value, classes[k] if found else NOT_LABELLED
                if not found and unknown < 0:
                    unknown = i * width + j
            out[i, j] = number
    return unknown


@njit(nogil=True, cache=True)
def count_classes(labels, counts):
    """Add the pixels of each class. labels: u8 (h, w), 255 = not labelled. counts: int64 (n,), added to; labels are below n or 255."""
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            if labels[i, j] != NOT_LABELLED:
                counts[labels[i, j]] += 1
