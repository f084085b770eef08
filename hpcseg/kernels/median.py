"""The median of large squares of 8-bit pixels, in a time that does not depend on their size.

The method of Perreault and Hebert (IEEE TIP 16(9), 2007): a histogram of each column moves down with the rows, that of the square moves
along the columns, and the 16 levels of a segment are counted only where the median falls into it. Here all counts are cumulative, so
that a comparison of 16 counts at once takes the place of each search; that is what makes it faster than OpenCV's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

# Levels are 16 segments of 16.
BINS = 16
# Columns whose histograms stay in the processor's second cache.
_STRIPE = 1024
# Row k: what a pixel of k adds to cumulative counts. The last row: nothing.
_STEPS = np.vstack([np.tri(BINS).T, np.zeros(BINS)]).astype(np.uint16).ravel()
_NOTHING = BINS * BINS


class _Columns(NamedTuple):
    """Cumulative histograms of columns, BINS counts each, u16; the first column is empty.

    coarse: ((n + 1) * BINS,), of segments. fine: (BINS * (n + 1) * BINS,), segment by segment, of the levels in it.
    """

    coarse: np.ndarray
    fine: np.ndarray


class _Square(NamedTuple):
    """Cumulative histograms of the square around a pixel.

    segments: u16 (2 * BINS,), the first half 0: nothing lies below the first, and the second half crosses no line of the cache. levels:
    u16 (BINS * BINS + BINS,), by segment, then zeros. seen: int64 (BINS,): the pixel at which a segment was last counted.
    """

    segments: np.ndarray
    levels: np.ndarray
    seen: np.ndarray


def slide(total, at, rows, comes, goes):
    """total[at] += rows[comes] - rows[goes], of BINS counts each. total, rows: u16 (n,)."""
    total[at : at + BINS] += rows[comes : comes + BINS] - rows[goes : goes + BINS]


def rank(counts, at, limit):
    """How many of BINS counts from `at` on are at most `limit`. counts: u16 (n,)."""
    return int((counts[at : at + BINS] <= limit).sum())


@njit(nogil=True, cache=True)
def median(plane, radius, out):
    """The median of the square around each pixel. plane: u8 (h + 2 * radius, w + 2 * radius). radius: up to 127. out: u8 (h, w)."""
    size, width = 2 * radius + 1, out.shape[1]
    square = _Square(np.zeros(2 * BINS, np.uint16), np.zeros(_NOTHING + BINS, np.uint16), np.empty(BINS, np.int64))
    for left in range(0, width, _STRIPE):
        right = min(left + _STRIPE, width)
        n = right - left + 2 * radius
        zeros = np.zeros(n, np.uint8)
        columns = _Columns(np.full((n + 1) * BINS, size, np.uint16), np.zeros(BINS * (n + 1) * BINS, np.uint16))
        columns.coarse[:BINS] = 0
        # As if all that went before were 0.
        columns.fine[BINS : (n + 1) * BINS] = size
        for i in range(plane.shape[0]):
            _move_down(columns, plane[i, left : left + n], plane[i - size, left : left + n] if i >= size else zeros)
            if i >= size - 1:
                _move_along(columns, size, square, out[i - size + 1, left:right])


@njit(nogil=True, cache=True)
def _move_down(columns, comes, goes):
    """A row of pixels comes into the columns, another goes. comes, goes: u8 (n,)."""
    # Taken out of their tuple within a loop, arrays cost a count of references each time.
    coarse, fine = columns
    for x in range(comes.size):
        new, old, at = np.int64(comes[x]), np.int64(goes[x]), (x + 1) * BINS
        if new != old:
            slide(coarse, at, _STEPS, (new // BINS) * BINS, (old // BINS) * BINS)
            slide(fine, (new // BINS) * coarse.size + at, _STEPS, (new % BINS) * BINS, _NOTHING)
            slide(fine, (old // BINS) * coarse.size + at, _STEPS, _NOTHING, (old % BINS) * BINS)


@njit(nogil=True, cache=True)
def _move_along(columns, size, square, out):
    """The medians of one row. size: of the square. out: u8 (n,)."""
    (coarse, fine), (segments, levels, seen), middle, last = columns, square, size * size // 2, -1
    segments[BINS:] = 0
    seen[:] = -size
    for x in range(1, size):
        slide(segments, BINS, coarse, x * BINS, 0)
    for j in range(out.size):
        slide(segments, BINS, coarse, (j + size) * BINS, j * BINS)
        segment = rank(segments, BINS, middle)
        limit = middle - np.int64(segments[BINS - 1 + segment])
        at, first = segment * BINS, segment * coarse.size
        # Mostly the segment stays: foreseen, that waits for no memory.
        start = j - 1 if segment == last else seen[segment]
        if j - start >= size:
            slide(levels, at, levels, _NOTHING, at)
            for k in range(j + 1, j + size + 1):
                slide(levels, at, fine, first + k * BINS, first)
        else:
            for k in range(start + 1, j + 1):
                slide(levels, at, fine, first + (k + size) * BINS, first + k * BINS)
        last = segment
        seen[segment] = j
        out[j] = at + rank(levels, at, limit)


_COUNTS = ir.VectorType(ir.IntType(16), BINS)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where BINS counts lie, as one vector."""
    return builder.bitcast(builder.gep(context.make_array(kind)(context, builder, array).data, [index]), _COUNTS.as_pointer())


@intrinsic
def _slide(typing_context, total, at, rows, comes, goes):
    def generate(context, builder, signature, args):
        kinds = signature.args
        sums = _place(context, builder, kinds[0], args[0], args[1])
        new, old = (builder.load(_place(context, builder, kinds[2], args[2], each), align=2) for each in args[3:])
        builder.store(builder.add(builder.load(sums, align=2), builder.sub(new, old)), sums, align=2)
        return context.get_dummy_value()

    return types.void(total, types.intp, rows, types.intp, types.intp), generate


@intrinsic
def _rank(typing_context, counts, at, limit):
    def generate(context, builder, signature, args):
        found = builder.load(_place(context, builder, signature.args[0], args[0], args[1]), align=2)
        nothing = ir.Constant(_COUNTS, ir.Undefined)
        one = builder.insert_element(nothing, builder.trunc(args[2], ir.IntType(16)), ir.IntType(32)(0))
        limits = builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), BINS), [0] * BINS))
        below = builder.bitcast(builder.icmp_unsigned("<=", found, limits), ir.IntType(BINS))
        return builder.zext(builder.ctpop(below), args[1].type)

    return types.intp(counts, types.intp, types.intp), generate


@overload(slide)
def _slide_typed(total, at, rows, comes, goes):
    def call(total, at, rows, comes, goes):
        return _slide(total, at, rows, comes, goes)  # type: ignore[call-arg]  # Numba gives an intrinsic its first argument.

    return call


@overload(rank)
def _rank_typed(counts, at, limit):
    def call(counts, at, limit):
        return _rank(counts, at, limit)  # type: ignore[call-arg]  # Numba gives an intrinsic its first argument.

    return call
