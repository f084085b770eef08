"""From logits to labels and confidences, one byte a pixel."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

NODATA = 255


def _value(logit):
    """A logit as float32, from float32 or from the bits of a bfloat16."""
    return np.uint32(np.uint32(logit) << 16).view(np.float32) if isinstance(logit, np.uint16) else logit


@overload(_value)
def _value_typed(logit):
    if logit == types.uint16:
        return lambda logit: np.uint32(np.uint32(logit) << np.uint32(16)).view(np.float32)
    return lambda logit: logit


@njit(nogil=True, cache=True)
def label(logits, valid, core, channels, cut, out):
    """The class of each pixel of a core: argmax of its logits, the lowest class on ties; 255 where valid is 0.

    logits: (H, W, c), contiguous, float32 or the bits of bfloat16 as uint16. valid: u8 (H, W). core: Window within them.
    channels: any tuple of length c, so that the compiler knows c and can label many pixels at once.
    cut: for c = 1, class 1 where the logit is at least this. out: u8, of the core's size.
    """
    count = len(channels)
    flat = logits.reshape(logits.shape[0], -1)
    for i in range(core.height):
        row = flat[core.row + i, core.col * count : (core.col + core.width) * count]
        marks, result = valid[core.row + i, core.col : core.col + core.width], out[i]
        for j in range(core.width):
            top, best = _value(row[j * count]), np.uint8(0)
            if count == 1:
                best = np.uint8(top >= cut)
            for c in range(1, count):
                value = _value(row[j * count + c])
                best = np.uint8(c) if value > top else best
                top = value if value > top else top
            result[j] = best if marks[j] else np.uint8(NODATA)


@njit(nogil=True, cache=True)
def confidence(logits, labels, of_class, out):
    """round(254 p) of a class's probability, 255 where the label is: the softmax of the logits, or the sigmoid of a single one.

    logits: (h, w, c) as in `label`, any strides. labels: u8 (h, w). of_class: which class; -1 = the label's own. out: u8 (h, w).
    """
    height, width, count = logits.shape
    for i in range(height):
        for j in range(width):
            chosen = labels[i, j]
            if chosen == NODATA:
                out[i, j] = NODATA
                continue
            c = np.int64(chosen) if of_class < 0 else of_class
            total = np.float32(1.0)
            if count == 1:
                sign = np.float32(1.0 if c == 1 else -1.0)
                total += np.exp(-sign * _value(logits[i, j, 0]))
            else:
                for k in range(count):
                    if k != c:
                        total += np.exp(_value(logits[i, j, k]) - _value(logits[i, j, c]))
            out[i, j] = np.uint8(np.float32(254.0) / total + np.float32(0.5))


@njit(nogil=True, cache=True)
def close_calls(logits, valid, margin):
    """Number of valid pixels whose two highest logits differ by at most `margin`. logits: as in `confidence`, c at least 2."""
    height, width, count = logits.shape
    total = 0
    for i in range(height):
        for j in range(width):
            first = second = np.float32(-np.inf)
            for c in range(count):
                value = _value(logits[i, j, c])
                if value > first:
                    first, second = value, first
                elif value > second:
                    second = value
            total += valid[i, j] and first - second <= margin
    return total
