"""Connected components of a window of classes, measured in integers, and what ties them to those of the windows beside it.

Runs of one class along each row are joined to those of the row before by union-find (Rosenfeld and Pfaltz, JACM 1966; runs: He, Chao
and Suzuki, IEEE TIP 2008). A component that touches a seam is kept apart, with the pixels of the seam that it covers, so that `join`
can tell which components of two windows are one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

BLOCK = 256
COMPONENT = np.dtype(
    [
        ("area", np.int64),  # pixels
        ("rows", np.int64),  # sum of its pixels' rows
        ("cols", np.int64),
        ("ground", np.int64),  # sum of its pixels' ground areas, in units of the caller's
        ("score", np.int64),  # sum of its pixels' scores
        ("top", np.int32),  # bounding box: first row, and
        ("left", np.int32),
        ("bottom", np.int32),  # the row after the last
        ("right", np.int32),
        ("first", np.int32),  # column of its first pixel in raster order, which lies in row `top`
        ("label", np.uint8),
    ],
    align=True,
)
RUN = np.dtype([("line", np.int32), ("start", np.int32), ("stop", np.int32), ("component", np.int32)])
TOP, BOTTOM, LEFT, RIGHT = range(4)
_START, _STOP, _LABEL, _NUMBER = range(4)


class Place(NamedTuple):
    """Where a window lies in its scene, and its size. lines: numbers of the seams along its top, bottom, left and right edge; -1 = none."""

    row: int
    col: int
    height: int
    width: int
    lines: tuple[int, int, int, int]


class Space(NamedTuple):
    """Memory for windows of up to `edge` x `edge` pixels; it is touched only as far as a window has components.

    components, border: COMPONENT, (edge**2,) and (4 * edge,). seams: RUN (4 * edge,). The rest is for the kernel alone.
    """

    components: np.ndarray
    border: np.ndarray
    seams: np.ndarray
    parent: np.ndarray
    number: np.ndarray
    runs: np.ndarray
    edges: np.ndarray


def make_space(edge: int) -> Space:
    """Memory for windows of up to `edge` x `edge` pixels."""
    return Space(
        np.empty(edge**2, COMPONENT), np.empty(4 * edge, COMPONENT), np.empty(4 * edge, RUN), np.empty(edge**2, np.int32),
        np.empty(edge**2, np.int32), np.empty((2, edge, 4), np.int32), np.empty((4, edge), np.int32),
    )  # fmt: skip


@njit(nogil=True, cache=True)
def find(parent, k):
    """The root of k's tree; the path to it becomes shorter. parent: int32 (n,), each at most its own index."""
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@njit(nogil=True, cache=True)
def unite(parent, a, b):
    """Join two trees. Returns their common root, the lower one of both."""
    a, b = find(parent, a), find(parent, b)
    low = min(a, b)
    parent[max(a, b)] = low
    return low


@njit(nogil=True, cache=True)
def fold(components, parent):
    """Add every component to the root of its tree; `parent` then names roots alone. components: COMPONENT (n,)."""
    first, top, left, bottom, right = (
        components["first"], components["top"], components["left"], components["bottom"], components["right"],
    )  # fmt: skip
    area, rows, cols, ground, score = (
        components["area"], components["rows"], components["cols"], components["ground"], components["score"],
    )  # fmt: skip
    for k in range(len(parent)):
        root = parent[k] = parent[parent[k]]
        if root == k:
            continue
        area[root] += area[k]
        rows[root] += rows[k]
        cols[root] += cols[k]
        ground[root] += ground[k]
        score[root] += score[k]
        if top[k] < top[root] or (top[k] == top[root] and first[k] < first[root]):
            top[root], first[root] = top[k], first[k]
        left[root] = min(left[root], left[k])
        bottom[root] = max(bottom[root], bottom[k])
        right[root] = max(right[root], right[k])


@njit(nogil=True, cache=True)
def _scan(labels, scores, chosen, reach, ground, place, space):
    """Number the runs row by row and measure them under their numbers. Returns how many numbers there are."""
    width = place.width
    parent, components, edges = space.parent, space.components, space.edges
    area, rows, cols, sums = components["area"], components["rows"], components["cols"], components["ground"]
    top, left, bottom, right = components["top"], components["left"], components["bottom"], components["right"]
    first, label, score = components["first"], components["label"], components["score"]
    stops = np.empty(width + 1, np.int32)
    edges[:] = -1
    count = before = 0
    for i in range(place.height):
        above, here = space.runs[(i + 1) % 2], space.runs[i % 2]
        row, line = place.row + i, labels[i, :width]
        areas = ground[row // BLOCK - place.row // BLOCK]
        _find_stops(line, stops)
        found = p = k = j = 0
        while j < width:
            start, value, j = j, line[j], stops[k]
            k += 1
            if not chosen[value]:
                continue
            number = -1
            while p < before and above[p, _STOP] + reach <= start:
                p += 1
            q = p
            while q < before and above[q, _START] < j + reach:
                if above[q, _LABEL] == value:
                    number = find(parent, above[q, _NUMBER]) if number < 0 else unite(parent, number, above[q, _NUMBER])
                q += 1
            if number < 0:
                number = count
                count += 1
                parent[number] = number
                area[number] = rows[number] = cols[number] = sums[number] = score[number] = 0
                top[number], left[number], right[number] = row, place.col + start, place.col + j
                first[number], label[number] = place.col + start, value
            here[found, _START], here[found, _STOP], here[found, _LABEL], here[found, _NUMBER] = start, j, value, number
            found += 1
            n = j - start
            area[number] += n
            rows[number] += n * row
            cols[number] += n * (2 * place.col + start + j - 1) // 2
            sums[number] += areas[j] - areas[start]
            bottom[number] = row + 1
            left[number] = min(left[number], place.col + start)
            right[number] = max(right[number], place.col + j)
            if scores.size:
                score[number] += np.int64(scores[i, start:j].sum())
        before = found
        if found and here[0, _START] == 0:
            edges[LEFT, i] = here[0, _NUMBER]
        if found and here[found - 1, _STOP] == width:
            edges[RIGHT, i] = here[found - 1, _NUMBER]
        if i == 0:
            _draw(here, found, edges[TOP])
        if i == place.height - 1:
            _draw(here, found, edges[BOTTOM])
    return count


@njit(nogil=True, cache=True)
def _find_stops(line, stops):
    """Where runs of one value end, without a branch. stops: int32 (w + 1,), filled as far as there are runs."""
    count = 0
    for j in range(1, len(line)):
        stops[count] = j
        count += line[j] != line[j - 1]
    stops[count] = len(line)


@njit(nogil=True, cache=True)
def _draw(runs, count, edge):
    for k in range(count):
        edge[runs[k, _START] : runs[k, _STOP]] = runs[k, _NUMBER]


@njit(nogil=True, cache=True)
def _trace(place, space):
    """Write the runs of components along the window's seams and mark those components. Returns how many runs there are."""
    seams, edges, number = space.seams, space.edges, space.number
    count = 0
    for side in range(4):
        if place.lines[side] < 0:
            continue
        length, offset = (place.width, place.col) if side < LEFT else (place.height, place.row)
        root = -1
        for k in range(length):
            before, root = root, (space.parent[edges[side, k]] if edges[side, k] >= 0 else -1)
            if root < 0:
                continue
            if root != before:
                seams[count]["line"], seams[count]["start"], seams[count]["component"] = place.lines[side], offset + k, root
                number[root] = 0
                count += 1
            seams[count - 1]["stop"] = offset + k + 1
    return count


@njit(nogil=True, cache=True)
def label_window(labels, scores, chosen, reach, ground, place, space):
    """Find and measure the connected components of a window.

    labels: u8, contiguous, the window in its upper left corner. scores: the same, or (0, 0). chosen: bool (256,), classes that have
    components; the others are background. reach: 0 = pixels touch at edges (4-connected), 1 = at corners too (8-connected). ground:
    int64 (blocks of 256 rows, width + 1), running sums along a row of the pixels' ground areas; blocks are those of the scene.

    Returns three counts: the components that touch no seam, at the front of space.components, in raster order of their first pixels;
    those that do, in space.border, in the same order; and the runs in space.seams, whose `component` is an index into space.border.
    """
    count = _scan(labels, scores, chosen, reach, ground, place, space)
    components, border, number = space.components, space.border, space.number
    fold(components, space.parent[:count])
    number[:count] = -1
    runs = _trace(place, space)
    inner = touching = 0
    for k in range(count):
        if space.parent[k] != k:
            continue
        if number[k] < 0:
            components[inner] = components[k]
            inner += 1
        else:
            border[touching] = components[k]
            number[k] = touching
            touching += 1
    for k in range(runs):
        space.seams[k]["component"] = number[space.seams[k]["component"]]
    return inner, touching, runs


@njit(nogil=True, cache=True)
def join(before, after, labels, reach, parent):
    """Unite components that touch across seams.

    before, after: RUN (n,), (m,), on the two sides of seams, each sorted by line and start; a line bears the same number on both sides.
    labels: u8 (components,). reach: as in `label_window`. parent: int32 (components,), added to.
    """
    p = 0
    for k in range(len(after)):
        line, start, stop = after[k]["line"], after[k]["start"], after[k]["stop"]
        mine = after[k]["component"]
        while p < len(before) and (before[p]["line"] < line or (before[p]["line"] == line and before[p]["stop"] + reach <= start)):
            p += 1
        q = p
        while q < len(before) and before[q]["line"] == line and before[q]["start"] < stop + reach:
            if labels[before[q]["component"]] == labels[mine]:
                unite(parent, before[q]["component"], mine)
            q += 1
