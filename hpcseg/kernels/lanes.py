"""Neighbouring pixels in lock-step: walking rays from LANES pixels of a row at once.

Numba's loops over short rows test for overlapping arrays each time and keep nothing in registers; these functions are therefore
written for LLVM in vectors of LANES elements, which it splits into the registers that the processor has. Each stands here twice:
as plain NumPy, which runs without the compiler and says what it does, and as instructions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

LANES = 64


class Sums(NamedTuple):
    """Differences of the pixels of a path to the pixel it starts from: of each lane, (LANES,), or of each depth and lane."""

    sizes: np.ndarray
    """u8: how many pixels; 0 if a difference reached the limit."""
    sums: np.ndarray
    """Their sum: int32, of depths int16."""
    squares: np.ndarray
    """int32: the sum of their squares."""


def walk(plane, base, offsets, spectral, counts):
    """How many steps each of LANES pixels goes along a ray, until a pixel differs from its own by more than `spectral`.

    plane: u8 or u16 (n,), contiguous; lane j starts at base + j, its step k lies at base + j + offsets[k] (int64).
    counts: u8 (LANES,), set. offsets: at most 255. Returns the largest count.
    """
    centre = plane[base : base + LANES].astype(np.int64)
    alive = np.ones(LANES, bool)
    counts[:] = 0
    for offset in offsets:
        alive &= np.abs(plane[base + offset : base + offset + LANES] - centre) <= spectral
        counts += alive
    return int(counts.max())


def walk_sums(plane, base, offsets, spectral, counts, found):
    """As `walk`; adds the steps' differences to found.sums and found.squares. found.sizes is not touched."""
    longest = walk(plane, base, offsets, spectral, counts)
    centre = plane[base : base + LANES].astype(np.int32)
    for k in range(longest):
        start = base + offsets[k]
        change = np.where(counts > k, plane[start : start + LANES] - centre, 0)
        found.sums[:] += change
        found.squares[:] += change**2
    return longest


def collect(plane, base, node, spectral, counts, stack, found):
    """Add one pixel to the path that ends at its parent in a tree of paths, and give the sums to the lanes whose path it completes.

    node: int64 (6,): offset of the pixel, depth (pixels of the path so far, at least 1), first, last: it completes the path of
    lanes with first <= counts <= last; the rest is not read. spectral: at least 1. counts: u8 (LANES,).
    stack: Sums of (depths, LANES); row 0 holds 255, 0 and 0, row `depth` is set. found: Sums of (LANES,).
    """
    depth = node[1]
    start = base + node[0]
    change = plane[start : start + LANES].astype(np.int32) - plane[base : base + LANES]
    kept = (np.abs(change) < spectral) & (stack.sizes[depth - 1] > 0)
    stack.sizes[depth] = np.where(kept, depth, 0)
    stack.sums[depth] = stack.sums[depth - 1] + change
    stack.squares[depth] = stack.squares[depth - 1] + change**2
    here = (counts >= node[2]) & (counts <= node[3])
    for into, row in zip(found, stack, strict=True):
        into[here] = row[depth][here]


def _vector(bits: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(bits), LANES)


def _constant(value: int, bits: int) -> ir.Constant:
    return ir.Constant(_vector(bits), [value] * LANES)


class _Writer:
    """Writes vector instructions into a function."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.types, self.args = context, builder, signature.args, args

    def array(self, position: int) -> Any:
        """The array structure of an argument."""
        return self.context.make_array(self.types[position])(self.context, self.builder, self.args[position])

    def fields(self, position: int) -> list[Any]:
        """Pointers to the data of the arrays in a tuple argument."""
        return [
            self.context.make_array(kind)(self.context, self.builder, self.builder.extract_value(self.args[position], k)).data
            for k, kind in enumerate(self.types[position])
        ]

    def place(self, pointer: Any, index: Any, bits: int) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [index]), _vector(bits).as_pointer())

    def load(self, pointer: Any, index: Any, bits: int) -> Any:
        return self.builder.load(self.place(pointer, index, bits), align=1)

    def store(self, value: Any, pointer: Any, index: Any) -> None:
        self.builder.store(value, self.place(pointer, index, value.type.element.width), align=1)

    def spread(self, scalar: Any, bits: int) -> Any:
        """The same value in each lane."""
        undefined = ir.Constant(_vector(bits), ir.Undefined)
        one = self.builder.insert_element(undefined, self.builder.trunc(scalar, ir.IntType(bits)), ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, undefined, _constant(0, 32))

    def saturated(self, name: str, left: Any, right: Any) -> Any:
        """uadd or usub that stop at the type's limits."""
        signature = ir.FunctionType(left.type, [left.type, left.type])
        name = f"llvm.{name}.sat.v{LANES}i{left.type.element.width}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), [left, right])

    def any(self, mask: Any) -> Any:
        whole = ir.IntType(LANES)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(mask, whole), whole(0))

    def near(self, centre: Any, limit: Any) -> Any:
        """A test of vectors: whether they differ from `centre` by at most `limit`; one subtraction and one comparison each."""
        limit = self.spread(limit, centre.type.element.width)
        low = self.saturated("usub", centre, limit)
        width = self.builder.sub(self.saturated("uadd", centre, limit), low)
        return lambda pixels: self.builder.icmp_unsigned("<=", self.builder.sub(pixels, low), width)

    def change(self, pixels: Any, centre: Any, bits: int) -> Any:
        return self.builder.sub(self.builder.zext(pixels, _vector(bits)), self.builder.zext(centre, _vector(bits)))


def _write_walk(writer: _Writer, bits: int, each: Any) -> Any:
    """The loop of `walk`; each(mask, pixels, centre) writes what else a step does."""
    builder, base = writer.builder, writer.args[1]
    plane, offsets = writer.array(0).data, writer.array(2)
    centre = writer.load(plane, base, bits)
    near = writer.near(centre, writer.args[3])
    alive = cgutils.alloca_once_value(builder, _constant(1, 1))
    counts = cgutils.alloca_once_value(builder, _constant(0, 8))
    longest = cgutils.alloca_once_value(builder, base.type(0))
    with cgutils.for_range(builder, offsets.nitems) as loop:
        start = builder.add(base, builder.load(builder.gep(offsets.data, [loop.index])))
        pixels = writer.load(plane, start, bits)
        mask = builder.and_(near(pixels), builder.load(alive))
        with builder.if_then(builder.not_(writer.any(mask))):
            loop.do_break()
        builder.store(mask, alive)
        builder.store(builder.add(builder.load(counts), builder.zext(mask, _vector(8))), counts)
        builder.store(builder.add(loop.index, base.type(1)), longest)
        each(mask, pixels, centre)
    writer.store(builder.load(counts), writer.array(4).data, base.type(0))
    return builder.load(longest)


@intrinsic
def _walk(typing_context, plane, base, offsets, spectral, counts):
    def generate(context, builder, signature, args):
        return _write_walk(_Writer(context, builder, signature, args), plane.dtype.bitwidth, lambda *step: None)

    return types.intp(plane, types.intp, offsets, types.intp, counts), generate


@intrinsic
def _walk_sums(typing_context, plane, base, offsets, spectral, counts, found):
    def generate(context, builder, signature, args):
        writer, zero = _Writer(context, builder, signature, args), args[1].type(0)
        totals = [cgutils.alloca_once_value(builder, writer.load(field, zero, 32)) for field in writer.fields(5)[1:]]

        def each(mask, pixels, centre):
            change = builder.select(mask, writer.change(pixels, centre, 32), _constant(0, 32))
            for total, term in zip(totals, (change, builder.mul(change, change)), strict=True):
                builder.store(builder.add(builder.load(total), term), total)

        longest = _write_walk(writer, plane.dtype.bitwidth, each)
        for total, field in zip(totals, writer.fields(5)[1:], strict=True):
            writer.store(builder.load(total), field, zero)
        return longest

    return types.intp(plane, types.intp, offsets, types.intp, counts, found), generate


@intrinsic
def _collect(typing_context, plane, base, node, spectral, counts, stack, found):
    bits = plane.dtype.bitwidth

    def generate(context, builder, signature, args):
        writer, base = _Writer(context, builder, signature, args), args[1]
        integer = base.type
        offset, depth, first, last = (builder.load(builder.gep(writer.array(2).data, [integer(k)])) for k in range(4))
        row = builder.mul(depth, integer(LANES))
        above = builder.sub(row, integer(LANES))
        sizes, sums, squares = writer.fields(5)
        pixels, centre = (writer.load(writer.array(0).data, at, bits) for at in (builder.add(base, offset), base))
        change = writer.change(pixels, centre, 16)
        near = writer.near(centre, builder.sub(args[3], integer(1)))(pixels)
        kept = builder.and_(near, builder.icmp_unsigned("!=", writer.load(sizes, above, 8), _constant(0, 8)))
        size = builder.select(kept, writer.spread(depth, 8), _constant(0, 8))
        total = builder.add(writer.load(sums, above, 16), change)
        square = builder.add(writer.load(squares, above, 32), builder.zext(builder.mul(change, change), _vector(32)))
        for value, pointer in ((size, sizes), (total, sums), (square, squares)):
            writer.store(value, pointer, row)
        with builder.if_then(builder.icmp_signed("<=", first, last)):
            count = writer.load(writer.array(4).data, integer(0), 8)
            span = writer.spread(builder.sub(last, first), 8)
            here = builder.icmp_unsigned("<=", builder.sub(count, writer.spread(first, 8)), span)
            results = (size, builder.sext(total, _vector(32)), square)
            for value, pointer in zip(results, writer.fields(6), strict=True):
                old = writer.load(pointer, integer(0), value.type.element.width)
                writer.store(builder.select(here, value, old), pointer, integer(0))
        return context.get_dummy_value()

    return types.void(plane, types.intp, node, types.intp, counts, stack, found), generate


@overload(walk)
def _walk_typed(plane, base, offsets, spectral, counts):
    def call(plane, base, offsets, spectral, counts):
        return _walk(plane, base, offsets, spectral, counts)  # type: ignore[call-arg]  # Numba gives an intrinsic its first argument.

    return call


@overload(walk_sums)
def _walk_sums_typed(plane, base, offsets, spectral, counts, found):
    def call(plane, base, offsets, spectral, counts, found):
        return _walk_sums(plane, base, offsets, spectral, counts, found)  # type: ignore[call-arg]  # Numba gives an intrinsic its first argument.

    return call


@overload(collect)
def _collect_typed(plane, base, node, spectral, counts, stack, found):
    def call(plane, base, node, spectral, counts, stack, found):
        return _collect(plane, base, node, spectral, counts, stack, found)  # type: ignore[call-arg]  # Numba gives an intrinsic its first argument.

    return call
