"""Structural Feature Set on a GPU: one thread a pixel, the rays and rules of kernels/sfs.py."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan, sqrt

import numpy as np
from numba import cuda, float32

from hpcseg.kernels.rays import Sfs, lines_of
from hpcseg.kernels.sfs import FEATURES, plane_of, rule_of
from hpcseg.tiles import Window

BLOCK = (8, 32)
MOST_DIRECTIONS = 64


def sfs_cuda(
    values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, settings: Sfs, features: Sequence[str], out: np.ndarray
) -> None:
    """`kernels.sfs.sfs` on the current CUDA device, up to rounding: the device may fuse a product and a sum. All arrays on the host."""
    plane = plane_of(values, valid, core, inside, settings)
    lines, rule = lines_of(settings, plane.shape[1]), rule_of(settings, features)
    tables = [cuda.to_device(table) for table in (lines.steps, lines.reach, lines.distances, lines.paths, lines.path_starts)]
    result = cuda.device_array((6, core.height, core.width), np.float32)
    grid = tuple(-(-size // edge) for size, edge in zip((core.height, core.width), BLOCK, strict=True))
    place = (settings.spatial, plane.shape[1])
    _texture[grid, BLOCK](cuda.to_device(plane.reshape(-1)), place, *tables, rule.spectral, rule.alpha, rule.extremes, rule.paper, result)
    found = result.copy_to_host()
    out[:] = found[[FEATURES.index(name) for name in features]]
    if rule.paper:
        out[:, valid[core.slices] == 0] = 0


@cuda.jit(device=True)
def _walk(flat, pixel, steps, reach, spectral):
    """Steps that one pixel goes along a ray."""
    centre = int(flat[pixel])
    for k in range(reach):
        if abs(int(flat[pixel + steps[k]]) - centre) > spectral:
            return k
    return reach


@cuda.jit(device=True)
def _path_sums(flat, pixel, path, start, stop, spectral):
    """Size, sum and sum of squares of the differences along path[start:stop]; size 0 if one reaches `spectral`."""
    centre, total, squares, size = int(flat[pixel]), 0, 0, stop - start
    for k in range(start, stop):
        change = int(flat[pixel + path[k]]) - centre
        total += change
        squares += change * change
        if abs(change) >= spectral:
            size = 0
    return size, total, squares


@cuda.jit(device=True)
def _term(size, total, squares, distance, alpha, paper):
    """What a direction adds to the sum of W-Mean: nothing where its line is even."""
    scatter = float32(size * squares - total * total)
    if size == 0 or scatter <= 0:
        return float32(0)
    if paper:
        return alpha * (float32(size) - float32(1)) * distance / (float32(sqrt(scatter)) / float32(size))
    return alpha * (distance - float32(1)) * distance / float32(sqrt(scatter / float32(size)))


@cuda.jit(device=True)
def _insert(ordered, count, value):
    """Put a value into the first `count` of a sorted array."""
    k = count
    while k > 0 and ordered[k - 1] > value:
        ordered[k] = ordered[k - 1]
        k -= 1
    ordered[k] = value


@cuda.jit
def _texture(flat, place, steps, reach, table, paths, path_starts, spectral, alpha, extremes, paper, out):
    """All features of the pixels of a flat plane. place: its margin and the distance between its rows."""
    i, j = cuda.grid(2)  # type: ignore[call-arg, var-annotated]  # Numba gives an intrinsic its first argument.
    if i >= out.shape[1] or j >= out.shape[2]:
        return
    margin, stride = place
    pixel, directions = (i + margin) * stride + margin + j, table.shape[0]
    distances, ordered = cuda.local.array(MOST_DIRECTIONS, float32), cuda.local.array(MOST_DIRECTIONS, float32)
    mean, weighted = float32(0), float32(0)
    for k in range(directions):
        ahead = _walk(flat, pixel, steps[2 * k], reach[2 * k], spectral)
        behind = _walk(flat, pixel, steps[2 * k + 1], reach[2 * k + 1], spectral)
        distance = table[k, ahead, behind]
        if paper:
            _, total, squares = _path_sums(flat, pixel, steps[2 * k], 0, ahead, 256)
            _, more, more_squares = _path_sums(flat, pixel, steps[2 * k + 1], 0, behind, 256)
            size, total, squares = 1 + ahead + behind, total + more, squares + more_squares
        else:
            size, total, squares = _path_sums(flat, pixel, paths, path_starts[k, ahead], path_starts[k, ahead + 1], spectral)
        weighted += _term(size, total, squares, distance, alpha, paper)
        mean += distance
        distances[k] = distance
        _insert(ordered, k, distance)
    mean /= float32(directions)
    weighted /= float32(directions)
    deviation, low, high = float32(0), float32(0), float32(0)
    middle = mean if paper else weighted
    for k in range(directions):
        deviation += (distances[k] - middle) * (distances[k] - middle)
    for k in range(extremes):
        low += ordered[k]
        high += ordered[directions - 1 - k]
    out[0, i, j] = ordered[directions - 1]
    out[1, i, j] = ordered[0]
    out[2, i, j] = mean
    out[3, i, j] = weighted
    out[4, i, j] = float32(atan(low / high)) if high > 0 else float32(1)
    out[5, i, j] = float32(sqrt(deviation)) / float32(directions - 1)
