"""Structural Feature Set: how far a pixel's surroundings stay like it, by direction.

X. Huang, L. Zhang, P. Li, "Classification and extraction of spatial features in urban areas using high-resolution multispectral
imagery", IEEE Geoscience and Remote Sensing Letters 4(2), 2007. Of D directions, d is the distance between the ends of both rays:
Length = max d, Width = min d, PSI = mean d, W-Mean = mean of alpha (k - 1) d / st with k pixels of deviation st on the line,
Ratio = atan(sum of the n smallest d / sum of the n largest), 1 if both are 0, SD = sqrt(sum (d - PSI)^2) / (D - 1).

Mode `paper` does that: rays end at the last pixel that is like the first, or before no data. Mode `otb` gives what Orfeo ToolBox
8.1.1 gives, which departs from the paper: thin rays (kernels/rays.py), ends at the first pixel that is not like it, k = d, and st =
the root of the sum of squared deviations along the forward ray alone, drawn anew towards its end; where it is 0 or a pixel on it
differs by `spectral` or more, the direction adds nothing to W-Mean. SD is about W-Mean. The scene's edge is repeated outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from hpcseg.kernels.lanes import LANES, Sums, collect, walk, walk_sums
from hpcseg.kernels.rays import DEEPEST, Lines, Sfs, lines_of
from hpcseg.tiles import Window

FEATURES = ("length", "width", "psi", "w-mean", "ratio", "sd")
LENGTH, WIDTH, PSI, W_MEAN, RATIO, SD = range(6)
ABSENT = 65535
"""In the plane of mode paper: no data, which no pixel is like."""


class Rule(NamedTuple):
    """Settings that the kernel needs, and which dear parts are wanted."""

    spectral: int
    alpha: np.float32
    extremes: int
    paper: bool
    weigh: bool
    rank: bool


class _Work(NamedTuple):
    """What a block of LANES pixels needs while its features are computed."""

    forward: np.ndarray
    backward: np.ndarray
    distances: np.ndarray
    stack: Sums
    found: Sums
    low: np.ndarray
    high: np.ndarray
    features: np.ndarray


def sfs(
    values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, settings: Sfs, features: Sequence[str], out: np.ndarray
) -> None:
    """Features of the pixels of a core.

    values: u8 (H, W), with settings.spatial pixels around the core. valid: u8 (H, W), 0 = no data; mode otb does not look at it.
    core, inside: Windows within values: what to compute, and what lies in the scene. features: of FEATURES, computed alone.
    out: float32 (len(features), core.height, core.width); 0 where there is no data.
    """
    paper = settings.mode == "paper"
    plane = plane_of(values, valid, core, inside, settings)
    rule = rule_of(settings, features)
    wanted = np.array([FEATURES.index(name) for name in features])
    # Arrays of one memory layout alone, so that the kernel is compiled once.
    result = out if out.flags.c_contiguous else np.empty(out.shape, np.float32)
    _texture(plane, settings.spatial, lines_of(settings, plane.shape[1]), rule, wanted, result)
    if result is not out:
        out[:] = result
    if paper:
        out[:, valid[core.slices] == 0] = 0


def rule_of(settings: Sfs, features: Sequence[str]) -> Rule:
    """The kernel's settings for these features."""
    paper = settings.mode == "paper"
    weigh = "w-mean" in features or ("sd" in features and not paper)
    return Rule(settings.spectral, np.float32(settings.alpha), settings.extremes, paper, weigh, "ratio" in features)


def plane_of(values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, settings: Sfs) -> np.ndarray:
    """The core with all that its rays can reach, whole blocks of lanes wide: u8 (otb), or u16 with ABSENT for no data (paper)."""
    margin = settings.spatial
    height, width = core.height + 2 * margin, -(-core.width // LANES) * LANES + 2 * margin
    if settings.mode == "otb":
        plane = np.empty((height, width), np.uint8)
        _repeat_edges(values, core.row - margin, core.col - margin, inside, plane)
        return plane
    plane = np.full((height, width), ABSENT, np.uint16)
    seen = core.grow(margin).intersect(inside)
    plane[seen.relative_to(core.grow(margin)).slices] = np.where(valid[seen.slices] != 0, values[seen.slices], np.uint16(ABSENT))
    return plane


@njit(nogil=True, cache=True)
def _repeat_edges(values, top, left, inside, plane):
    """Copy from (top, left) on, and from the nearest pixel of the scene where that lies outside it."""
    for i in range(plane.shape[0]):
        row = values[min(max(top + i, inside.row), inside.row + inside.height - 1)]
        for j in range(plane.shape[1]):
            plane[i, j] = row[min(max(left + j, inside.col), inside.col + inside.width - 1)]


@njit(nogil=True, cache=True, error_model="numpy")
def _texture(plane, margin, lines, rule, wanted, out):
    """Fill out, float32 (wanted.size, h, w), with the wanted features of a plane's pixels, `margin` away from its edges."""
    directions, stride = lines.reach.size // 2, plane.shape[1]
    flat = plane.reshape(-1)
    # A table of its own for each thread: counting references to shared ones would send their counters to and fro between cores.
    lines = _copy(lines)
    work = _new_work(directions, rule.extremes)
    for i in range(out.shape[1]):
        for left in range(0, out.shape[2], LANES):
            _measure(flat, (i + margin) * stride + margin + left, lines, rule, work)
            _summarise(rule, work)
            last = min(LANES, out.shape[2] - left)
            for k in range(wanted.size):
                out[k, i, left : left + last] = work.features[wanted[k], :last]


@njit(nogil=True, cache=True)
def _copy(lines):
    steps, reach, distances = lines.steps.copy(), lines.reach.copy(), lines.distances.copy()
    return Lines(steps, reach, distances, lines.nodes.copy(), lines.node_starts.copy(), lines.paths.copy(), lines.path_starts.copy())


@njit(nogil=True, cache=True)
def _new_work(directions, extremes):
    sizes = np.full((DEEPEST + 1, LANES), 255, np.uint8)
    stack = Sums(sizes, np.zeros((DEEPEST + 1, LANES), np.int16), np.zeros((DEEPEST + 1, LANES), np.int32))
    found = Sums(np.zeros(LANES, np.uint8), np.zeros(LANES, np.int32), np.zeros(LANES, np.int32))
    counts = np.empty((2, LANES), np.uint8)
    low, high = np.empty((extremes, LANES), np.float32), np.empty((extremes, LANES), np.float32)
    distances, features = np.empty((directions, LANES), np.float32), np.empty((6, LANES), np.float32)
    return _Work(counts[0], counts[1], distances, stack, found, low, high, features)


@njit(nogil=True, cache=True, error_model="numpy")
def _measure(flat, base, lines, rule, work):
    """Walk all rays of a block: sets its distances and the sum of W-Mean."""
    work.features[W_MEAN] = 0
    for direction in range(work.distances.shape[0]):
        ahead = lines.steps[2 * direction, : lines.reach[2 * direction]]
        behind = lines.steps[2 * direction + 1, : lines.reach[2 * direction + 1]]
        if rule.paper and rule.weigh:
            work.found.sums[:] = 0
            work.found.squares[:] = 0
            walk_sums(flat, base, ahead, rule.spectral, work.forward, work.found)
            walk_sums(flat, base, behind, rule.spectral, work.backward, work.found)
        else:
            longest = walk(flat, base, ahead, rule.spectral, work.forward)
            walk(flat, base, behind, rule.spectral, work.backward)
            if rule.weigh:
                nodes = lines.nodes[lines.node_starts[direction] : lines.node_starts[direction + 1]]
                work.found.sizes[:] = 0
                _follow_short(flat, base, nodes, longest, rule.spectral, work.forward, work.stack, work.found)
                if longest >= DEEPEST:
                    _follow_long(flat, base, lines.paths, lines.path_starts[direction], rule.spectral, work.forward, work.found)
        row, table = work.distances[direction], lines.distances[direction]
        for j in range(LANES):
            row[j] = table[work.forward[j], work.backward[j]]
        if rule.weigh:
            _weigh(row, rule, work)


@njit(nogil=True, cache=True)
def _follow_short(flat, base, nodes, longest, spectral, counts, stack, found):
    """Mode otb's sums along the path to the end of the forward ray, in lock-step, where that took less than DEEPEST steps."""
    k = 0
    while k < nodes.shape[0]:
        if nodes[k, 4] > longest:
            k += nodes[k, 5]
        else:
            collect(flat, base, nodes[k], spectral, counts, stack, found)
            k += 1


@njit(nogil=True, cache=True)
def _follow_long(flat, base, paths, starts, spectral, counts, found):
    """The same for each of the others by itself."""
    sizes, sums, squares = found
    for j in range(LANES):
        count = counts[j]
        if count >= DEEPEST:
            sizes[j], sums[j], squares[j] = _path_sums(flat, base + j, paths[starts[count] : starts[count + 1]], spectral)


@njit(nogil=True, cache=True)
def _path_sums(flat, pixel, path, spectral):
    """Size, sum and sum of squares of the differences along a path; size 0 if one reaches `spectral`."""
    centre = np.int64(flat[pixel])
    total, squares, reached = np.int64(0), np.int64(0), False
    for offset in path:
        change = np.int64(flat[pixel + offset]) - centre
        total += change
        squares += change * change
        reached |= abs(change) >= spectral
    return 0 if reached else path.size, total, squares


@njit(nogil=True, cache=True, error_model="numpy")
def _weigh(row, rule, work):
    """Add a direction to the sum of W-Mean, where its line is not even."""
    weighted, found = work.features[W_MEAN], work.found
    for j in range(LANES):
        distance, one = row[j], np.float32(1)
        size = 1 + np.int64(work.forward[j]) + np.int64(work.backward[j]) if rule.paper else np.int64(found.sizes[j])
        total = np.int64(found.sums[j])
        # n times the sum of squared deviations; below 2**32 for all settings.
        scatter = np.float32(np.uint32(size * found.squares[j] - total * total if size > 0 else 0))
        spread = np.sqrt(scatter) / np.float32(size) if rule.paper else np.sqrt(scatter / np.float32(size))
        pixels = np.float32(size) if rule.paper else distance
        term = rule.alpha * (pixels - one) * distance / spread
        weighted[j] += term if scatter > 0 else np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def _summarise(rule, work):
    """Features of a block from its distances."""
    directions = np.float32(work.distances.shape[0])
    longest, shortest, mean = work.features[LENGTH], work.features[WIDTH], work.features[PSI]
    longest[:], shortest[:], mean[:] = 0, np.inf, 0
    for direction in range(work.distances.shape[0]):
        row = work.distances[direction]
        for j in range(LANES):
            longest[j] = max(longest[j], row[j])
            shortest[j] = min(shortest[j], row[j])
            mean[j] += row[j]
    mean /= directions
    work.features[W_MEAN] /= directions
    middle, deviation = mean if rule.paper else work.features[W_MEAN], work.features[SD]
    deviation[:] = 0
    for direction in range(work.distances.shape[0]):
        row = work.distances[direction]
        for j in range(LANES):
            deviation[j] += (row[j] - middle[j]) * (row[j] - middle[j])
    for j in range(LANES):
        deviation[j] = np.sqrt(deviation[j]) / (directions - np.float32(1))
    if rule.rank:
        _rank(work)


@njit(nogil=True, cache=True, error_model="numpy")
def _rank(work):
    """Ratio: keeps the smallest and the largest distances sorted while all pass by."""
    work.low[:], work.high[:] = np.inf, -1
    small, large = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for direction in range(work.distances.shape[0]):
        small[:], large[:] = work.distances[direction], work.distances[direction]
        for k in range(work.low.shape[0]):
            low, high = work.low[k], work.high[k]
            for j in range(LANES):
                low[j], small[j] = min(low[j], small[j]), max(low[j], small[j])
            for j in range(LANES):
                high[j], large[j] = max(high[j], large[j]), min(high[j], large[j])
    for j in range(LANES):
        above, below = np.float32(0), np.float32(0)
        for k in range(work.low.shape[0]):
            above += work.low[k, j]
            below += work.high[k, j]
        work.features[RATIO, j] = np.arctan(above / below) if below > 0 else np.float32(1)
