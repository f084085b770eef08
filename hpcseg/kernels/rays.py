"""The rays of a Structural Feature Set, drawn once: which pixels they visit, where they end and how long a line through both ends is."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from math import cos, floor, hypot, pi, sin
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError

MODES = ("otb", "paper")
DEEPEST = 12
"""Paths of rays of fewer steps are summed for many pixels at once, along a tree; longer ones pixel by pixel."""

Point = tuple[int, int]


class Sfs(NamedTuple):
    """Settings of a Structural Feature Set; the defaults are Orfeo ToolBox's."""

    spectral: int = 50
    """A ray goes on while pixels differ from its first by at most this, 1 to 254."""
    spatial: int = 100
    """Its reach in pixels, 1 to 127: the halo that the kernel needs."""
    directions: int = 20
    """At steps of pi / directions, 2 to 64."""
    alpha: float = 1.0
    """Factor of W-Mean."""
    extremes: int = 5
    """How many smallest and largest distances make the Ratio, 1 to directions."""
    mode: str = "paper"
    """paper: the formulas of Huang, Zhang and Li (2007). otb: Orfeo ToolBox 8.1.1 with all its departures."""

    def check(self) -> None:
        """Refuse what the kernels cannot hold."""
        limits = {"spectral": (1, 254), "spatial": (1, 127), "directions": (2, 64), "extremes": (1, self.directions)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"SFS with {name} {getattr(self, name)}: give {least} to {most}")
        if self.mode not in MODES:
            raise UsageError(f'SFS mode "{self.mode}" is unknown: give one of {", ".join(MODES)}')


class Lines(NamedTuple):
    """All rays of D directions, as offsets within a flat plane. K: the most steps of a ray."""

    steps: np.ndarray
    """int64 (2 D, K): the pixels of each direction's forward ray and, next, of its backward ray."""
    reach: np.ndarray
    """int64 (2 D,): how many of them there are."""
    distances: np.ndarray
    """float32 (D, K + 1, K + 1): distance between both ends, by the steps that the forward and backward rays went."""
    nodes: np.ndarray
    """int64 (N, 6): trees of the paths that otb sums after a forward ray of few steps: offset, depth, first and last count of steps
    whose path ends here, least count below, and how many nodes to pass over to skip what is below."""
    node_starts: np.ndarray
    """int64 (D + 1,): the nodes of each direction."""
    paths: np.ndarray
    """int64 (M,): the same paths, for any count of steps, one after the other."""
    path_starts: np.ndarray
    """int64 (D, K + 2): where they start."""


class _Ray(NamedTuple):
    steps: list[Point]
    ends: list[Point]
    """One more than steps: where the ray ends after so many."""


@lru_cache(maxsize=8)
def lines_of(settings: Sfs, stride: int) -> Lines:
    """The rays in a plane whose rows are `stride` pixels apart."""
    settings.check()
    rays = [_rays(settings, direction) for direction in range(settings.directions)]
    most = max(len(ray.steps) for pair in rays for ray in pair)
    steps = np.zeros((2 * len(rays), most), np.int64)
    reach = np.array([len(ray.steps) for pair in rays for ray in pair], np.int64)
    distances = np.zeros((len(rays), most + 1, most + 1), np.float32)
    for direction, pair in enumerate(rays):
        for side, ray in enumerate(pair):
            steps[2 * direction + side, : len(ray.steps)] = _flat(ray.steps, stride)
        forward, backward = (np.array(ray.ends) for ray in pair)
        gaps = forward[:, None] - backward[None]
        distances[direction, : len(forward), : len(backward)] = np.sqrt((gaps**2).sum(-1))
    trails = [[_trail(end) for end in forward.ends] if settings.mode == "otb" else [] for forward, _ in rays]
    return Lines(steps, reach, distances, *_trees(trails, stride), *_paths(trails, most, stride))


def _flat(points: list[Point], stride: int) -> np.ndarray:
    x, y = np.array(points, np.int64).reshape(-1, 2).T
    return y * stride + x


def _trees(trails: list[list[list[Point]]], stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines.nodes and node_starts."""
    # A path of one pixel has no deviation and is left out.
    trees = [_tree([(n, trail) for n, trail in enumerate(each[:DEEPEST]) if len(trail) > 1], 0, stride) for each in trails]
    starts = np.cumsum([0, *(len(tree) for tree in trees)])
    return np.array([node for tree in trees for node in tree], np.int64).reshape(-1, 6), starts


def _paths(trails: list[list[list[Point]]], most: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines.paths and path_starts."""
    sizes = np.zeros((len(trails), most + 2), np.int64)
    for direction, each in enumerate(trails):
        sizes[direction, 1 : len(each) + 1] = [len(trail) for trail in each]
    points = [point for each in trails for trail in each for point in trail]
    starts = np.cumsum(sizes).reshape(sizes.shape)
    return _flat(points, stride), starts


def _tree(trails: list[tuple[int, list[Point]]], depth: int, stride: int) -> list[list[int]]:
    """The nodes of Lines.nodes for paths that share their first `depth` pixels, parents first."""
    nodes: list[list[int]] = []
    for point in dict.fromkeys(trail[depth] for _, trail in trails):
        below = [(n, trail) for n, trail in trails if trail[depth] == point]
        offset, least = point[1] * stride + point[0], below[0][0]
        ending = [n for n, trail in below if len(trail) == depth + 1]
        # Counts that follow each other; a node without any completes no path.
        runs = [[n for _, n in run] for _, run in groupby(enumerate(ending), key=lambda pair: pair[1] - pair[0])] or [[1, 0]]
        deeper = _tree([(n, trail) for n, trail in below if len(trail) > depth + 1], depth + 1, stride)
        nodes += [[offset, depth + 1, run[0], run[-1], least, 1] for run in runs[:-1]]
        nodes += [[offset, depth + 1, runs[-1][0], runs[-1][-1], least, 1 + len(deeper)], *deeper]
    return nodes


def _rays(settings: Sfs, direction: int) -> tuple[_Ray, _Ray]:
    """The forward and the backward ray of a direction, (x, y) relative to their pixel."""
    angle = pi / settings.directions * direction
    if settings.mode == "paper":
        steps = _dense(angle, settings.spatial)
        back = [(-x, -y) for x, y in steps]
        return _Ray(steps, [(0, 0), *steps]), _Ray(back, [(0, 0), *back])
    stop = floor(settings.spatial * cos(angle) + 0.5), floor(settings.spatial * sin(angle) + 0.5)
    return _thin(stop), _thin((-stop[0], -stop[1]))


def _dense(angle: float, spatial: int) -> list[Point]:
    """One pixel for each row or column that the ray crosses, whichever are more."""
    x, y = cos(angle), sin(angle)
    scale = max(abs(x), abs(y))
    steps = [(floor(k * x / scale + 0.5), floor(k * y / scale + 0.5)) for k in range(1, spatial + 1)]
    return [point for point in steps if hypot(*point) <= spatial]


def _inside(x: int, y: int, stop: Point) -> bool:
    """Whether Orfeo ToolBox goes on: neither coordinate has come to that of the stop, zeros apart."""
    across = stop[0] != 0 and abs(x) >= abs(stop[0])
    down = stop[1] != 0 and y * (1 if stop[1] > 0 else -1) >= abs(stop[1])
    return not (across or down)


def _thin(stop: Point) -> _Ray:
    """A ray as Orfeo ToolBox draws it: x in steps of 1, also where the ray is steep; the vertical one goes along the diagonal.

    Its end is the pixel that stopped it; if none did, the next x with the last y.
    """
    step = -1 if stop[0] < 0 else 1
    steps: list[Point] = []
    x, y = step, 0
    while not steps or _inside(x, y, stop):
        y = floor(stop[1] / stop[0] * x + 0.5) if stop[0] else y + (-1 if stop[1] < 0 else 1)
        steps.append((x, y))
        x += step
    return _Ray(steps, [*steps, (x, y)])


def _trail(end: Point) -> list[Point]:
    """The pixels whose deviation Orfeo ToolBox computes: a ray drawn anew towards the pixel where the first one ended."""
    return _thin(end).steps
