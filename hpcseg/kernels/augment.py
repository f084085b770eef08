"""A sample on its way into a batch: turned, flipped, brightened, with its labels."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def place(values, valid, truth, turn, flip, gain, x, y):
    """Write one sample into its place of a batch, turned by `turn` quarter turns and then, if `flip`, mirrored left to right.

    values: float32 (n, n * b), pixel-interleaved. valid: u8 (n, n). truth: u8 (c, n, n), planes of labels, 255 = not
    labelled. gain: float32 (2, b), factor and offset of a band's valid values after normalisation. x: float32 (n, n, b).
    y: u8 (c, n, n), 255 also where valid is 0.
    Returns the number of labels that are not 255.
    """
    n, bands = valid.shape[0], x.shape[2]
    labelled = 0
    for i in range(n):
        for j in range(n):
            # Where the pixel at (i, j) of the result comes from: undo the flip, then the turns.
            r, c = i, n - 1 - j if flip else j
            for _ in range(turn):
                r, c = c, n - 1 - r
            seen = valid[r, c] != 0
            for b in range(bands):
                value = values[r, c * bands + b]
                x[i, j, b] = value * gain[0, b] + gain[1, b] if seen else value
            for k in range(len(y)):
                y[k, i, j] = truth[k, r, c] if seen else np.uint8(255)
                labelled += y[k, i, j] != 255
    return labelled
