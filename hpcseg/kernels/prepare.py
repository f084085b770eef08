"""From raw pixels to network input: normalisation, no-data and reflection at scene edges."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload


def _store(row, out):
    """Write a float32 row into `out`: as it is, rounded to bfloat16 where `out` holds uint16 bits, or to u8 within 0..255."""
    if out.dtype == np.uint8:
        row = np.minimum(np.maximum(row + np.float32(0.5), np.float32(0)), np.float32(255)).astype(np.uint8)
    if out.dtype == np.uint16:
        word = row.view(np.uint32)
        row = (word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    out[:] = row


@overload(_store)
def _store_typed(row, out):
    if out.dtype == types.uint16:

        def to_bfloat16(row, out):
            bits = row.view(np.uint32)
            for k in range(out.size):
                # Round to nearest, ties to even.
                word = bits[k]
                out[k] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return to_bfloat16

    if out.dtype == types.uint8:

        def to_byte(row, out):
            for k in range(out.size):
                out[k] = np.uint8(min(max(row[k] + np.float32(0.5), np.float32(0)), np.float32(255)))

        return to_byte

    def to_float32(row, out):
        for k in range(out.size):
            out[k] = row[k]

    return to_float32


def _all_finite(pixels, row):
    """Whether a row has neither NaN nor infinity; of integers it never does, and is not looked at."""
    return bool(np.isfinite(row).all())


@overload(_all_finite)
def _all_finite_typed(pixels, row):
    if isinstance(pixels.dtype, types.Integer):
        return lambda pixels, row: True

    def look(pixels, row):
        gaps = 0
        for value in row:
            gaps += value - value != 0
        return gaps == 0

    return look


def _both_bytes(cell, out):
    """Whether pixels may go to the output as they are, if their values do not change."""
    return cell.dtype == np.uint8 and out.dtype == np.uint8


@overload(_both_bytes)
def _both_bytes_typed(cell, out):
    same = cell.dtype == types.uint8 and out.dtype == types.uint8
    return lambda cell, out: same


@njit(nogil=True, cache=True)
def normalise(cell, mask, source, target, nodata, has_nodata, strict, scale, offset, missing, out, valid):
    """Normalise a part of a cell into its place in a window: value * scale + offset, `missing` where there is no data.

    cell: (h, w * b), any real type, pixel-interleaved. mask: u8 (h, w), 0 = no data, or (0, 0) for none. source, target: Windows
    of one size, in the cell and in the output. nodata, has_nodata: (b,) value of each band and whether it has one; NaN and
    infinity are never data. strict: a pixel is no data if any of its bands is (else only if all are). scale, offset: float32,
    the bands' values repeated along a row. missing: float32, 0 for a network, NaN for statistics (not with u8). out: float32
    (H, W * b), uint16 to get bfloat16 bits, or u8 to get values rounded (halves up) and cut to 0..255. valid: u8 (H, W), set to 1 or 0.
    Returns the number of valid pixels.
    """
    bands, length = nodata.size, source.width * nodata.size
    row = np.empty(length, np.float32)
    checked = mask.size > 0 or has_nodata.any()
    copied = not checked and _both_bytes(cell, out) and (scale[:length] == 1).all() and (offset[:length] == 0).all()
    total = 0
    for i in range(source.height):
        pixels = cell[source.row + i, source.col * bands : (source.col + source.width) * bands]
        place = out[target.row + i, target.col * bands : (target.col + target.width) * bands]
        marks = valid[target.row + i, target.col : target.col + target.width]
        if copied:
            for k in range(length):
                place[k] = pixels[k]
            marks[:] = 1
            total += source.width
            continue
        for k in range(length):
            row[k] = np.float32(pixels[k]) * scale[k] + offset[k]
        if checked or not _all_finite(pixels, row):
            keep = mask[source.row + i, source.col : source.col + source.width] if mask.size else marks[:0]
            total += _blank_invalid(pixels, keep, nodata, has_nodata, strict, missing, row, marks)
        else:
            marks[:] = 1
            total += source.width
        _store(row, place)
    return total


@njit(nogil=True, cache=True)
def _blank_invalid(pixels, keep, nodata, has_nodata, strict, missing, row, marks):
    """Set what is no data in one row to `missing` and mark its pixels; returns the number of valid ones."""
    bands = nodata.size
    total = 0
    for j in range(marks.size):
        absent = 0
        for b in range(bands):
            k = j * bands + b
            if (has_nodata[b] and pixels[k] == nodata[b]) or row[k] - row[k] != 0:
                absent += 1
                row[k] = missing
        ok = (absent == 0 if strict else absent < bands) and (keep.size == 0 or keep[j] != 0)
        if not ok:
            row[j * bands : (j + 1) * bands] = missing
        marks[j] = ok
        total += ok
    return total


@njit(nogil=True, cache=True)
def reflect(window, bands, top, bottom, left, right, reach):
    """Fill what lies outside the scene by reflection about the edge pixels (as numpy.pad's "reflect"), in place.

    window: (H, W * bands), of which rows top:bottom and pixels left:right are set. Only `reach` pixels beyond each edge are
    filled, the rest is set to 0: what is further from the scene than the halo cannot reach the core.
    """
    height, width = window.shape[0], window.shape[1] // bands
    for j in range(width):
        if left <= j < right:
            continue
        near = left - reach <= j < right + reach
        source = left + _mirror(j - left, right - left)
        for i in range(top, bottom):
            for b in range(bands):
                window[i, j * bands + b] = window[i, source * bands + b] if near else 0
    for i in range(height):
        if top <= i < bottom:
            continue
        if top - reach <= i < bottom + reach:
            window[i, :] = window[top + _mirror(i - top, bottom - top), :]
        else:
            window[i, :] = 0


@njit(nogil=True, cache=True)
def _mirror(i, size):
    """Index within 0..size-1 of a reflected index: period 2 (size - 1), edges not repeated."""
    if size == 1:
        return 0
    period = 2 * (size - 1)
    i = i % period
    return min(i, period - i)
