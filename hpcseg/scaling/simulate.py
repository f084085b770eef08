"""Simulation past the machine: the program's own partition and a cost for each tile, on as many ranks as anyone has.

A rank's tile loop is independent of all others but for the file system, whose bandwidth active ranks share fairly: that is all there is
to simulate. Between the ends of ranks all paces are constant.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import shapely

from hpcseg.footprint import touched_tiles
from hpcseg.partition import Work, make_plan
from hpcseg.scaling.costs import Rates
from hpcseg.tiles import Grid, hilbert_order, row_order

Scheme = Literal["spans", "cyclic", "dynamic"]
SCHEMES = get_args(Scheme)
_STEP = 100
_ROUNDS = 4


@dataclass(frozen=True)
class Archive:
    """Scenes of one size. tilt: share of each edge that a tilted swath leaves empty at the corners, 0 = none. by_rows: files in strips
    of 16 rows, else in blocks of 512 pixels."""

    scenes: int
    height: int
    width: int
    core: int
    halo: int
    tilt: float = 0.0
    by_rows: bool = False

    @property
    def blocks(self) -> tuple[int, int]:
        """Height and width of the blocks of a file."""
        return (16, self.width) if self.by_rows else (512, 512)

    @property
    def grid(self) -> Grid:
        """The tiles of each scene."""
        return Grid(self.height, self.width, self.core, self.halo)

    @property
    def window(self) -> int:
        """Pixels of a window; it is full at the edges of a scene too, by reflection."""
        return (self.core + 2 * self.halo) ** 2

    def work(self) -> Work:
        """What the partition knows of each scene."""
        grid, t = self.grid, self.tilt
        cost = np.ones(grid.size, np.int64)
        if t:
            corners = [(t, 0.0), (1.0, t), (1 - t, 1.0), (0.0, 1 - t)]
            cost = touched_tiles(shapely.Polygon([(x * self.width, y * self.height) for x, y in corners]), grid).astype(np.int64)
        return Work(grid, self.by_rows, cost, np.zeros(grid.size, bool))

    def core_pixels(self) -> np.ndarray:
        """Pixels that each tile of a scene writes, int64 (ny * nx,): fewer at the right and lower edge."""
        rows, cols = (np.minimum(self.core, edge - np.arange(0, edge, self.core)) for edge in (self.height, self.width))
        return np.multiply.outer(rows, cols).ravel().astype(np.int64)


class Outcome(NamedTuple):
    """A simulated run. loops: seconds of the slowest tile loop; makespan: start-up besides. balance: mean / most of the ranks' own
    seconds, as if files came at once. io: share of the loops' time that the file system was the limit of the slowest rank.
    read_gb: all that ranks read. demand: bytes/s that all ranks would read and write if nothing held them up."""

    scheme: Scheme
    ranks: int
    makespan: float
    loops: float
    balance: float
    io: float
    read_gb: float
    demand: float


class Load(NamedTuple):
    """Of each rank, f64 (ranks,): seconds of its tile loop if files come at once, pixels read and kept."""

    seconds: np.ndarray
    read: np.ndarray
    kept: np.ndarray


def simulate(archive: Archive, rates: Rates, ranks: int, scheme: Scheme = "spans", limit: float = np.inf, seed: int = 1) -> Outcome:
    """A run on `ranks` ranks. limit: bytes/s of the file system, of all ranks together. The same seed gives the same run."""
    load = load_of(archive, rates, ranks, scheme, np.random.default_rng(seed))
    moved = load.read * rates.stored + load.kept * rates.kept
    ends = finish_times(load.seconds, moved, limit)
    last, most = float(ends.max()), float(load.seconds.max())
    start = rates.start + rates.start_log * math.log2(ranks)
    busy = load.seconds > 0
    return Outcome(
        scheme, ranks, start + last, last, float(load.seconds.mean()) / max(most, 1e-30), 1 - most / max(last, 1e-30),
        float(load.read.sum()) * rates.stored / 1e9, float((moved[busy] / load.seconds[busy]).sum()),
    )  # fmt: skip


def load_of(archive: Archive, rates: Rates, ranks: int, scheme: Scheme, random: np.random.Generator) -> Load:
    """Who does what, by the program's own plan or by another scheme over the same order of tiles."""
    work, core = archive.work(), archive.core_pixels()
    order = row_order(*work.grid.shape) if work.by_rows else hilbert_order(*work.grid.shape)
    order = order[work.cost[order] > 0]
    count = archive.scenes * len(order)
    kept = np.tile(core[order], archive.scenes).astype(float)
    pace = np.exp(rates.spread * random.standard_normal(ranks))
    noise = np.exp(rates.tile_spread * random.standard_normal(count)) if rates.tile_spread else np.ones(count)
    if scheme == "spans":
        # A tile without data is free, so leaving it out cuts the list at the same places.
        plan = make_plan([Work(work.grid, work.by_rows, work.cost, work.cost == 0)] * archive.scenes, ranks)
        owner = np.concatenate(plan.ranks)
    else:
        owner = np.arange(count) % ranks
    # A neighbour lies on the same rank by chance alone.
    alone = kept + (np.tile(read_alone(archive)[order], archive.scenes) - kept) * (1 - 1 / ranks)
    if scheme == "dynamic":
        owner = take_turns(rates.seconds(np.ones(count), archive.window, kept, alone) * noise, pace)
    tiles = np.bincount(owner, weights=noise, minlength=ranks)
    of_rank = np.bincount(owner, weights=kept, minlength=ranks)
    if scheme == "spans":
        base = whole_rows(archive, owner, np.tile(order, archive.scenes), ranks) if archive.by_rows else of_rank
        read = read_together(archive, np.bincount(owner, minlength=ranks), base)
    else:
        read = np.bincount(owner, weights=alone, minlength=ranks)
    seconds = rates.seconds(tiles, archive.window, of_rank, read) + rates.touch * archive.window * (tiles > 0)
    return Load(seconds * pace, read, of_rank)


def read_alone(archive: Archive) -> np.ndarray:
    """Pixels read for each tile of a scene whose neighbours another rank has, f64 (ny * nx,): all blocks that its window touches."""
    lengths = [_blocks_touched(archive, edge, block) for edge, block in zip((archive.height, archive.width), archive.blocks, strict=True)]
    return np.multiply.outer(*lengths).ravel().astype(float)


def _blocks_touched(archive: Archive, edge: int, block: int) -> np.ndarray:
    """Pixels along one axis of the blocks that each window touches within the scene."""
    origin = np.arange(0, edge, archive.core)
    first, last = np.maximum(origin - archive.halo, 0), np.minimum(origin + archive.core + archive.halo, edge)
    return np.minimum(-(-last // block) * block, edge) - first // block * block


def read_together(archive: Archive, tiles: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Pixels read for spans of so many tiles: `base`, their own, once, and the blocks of a seam around what is as good as a square; of
    strips, above and below. What a rank has whole scenes of has no seam there."""
    of_scene, block = float(np.count_nonzero(archive.work().cost)), archive.blocks[0]
    in_scene = np.minimum(tiles, of_scene)
    edges = 2.0 * archive.width if archive.by_rows else 4.0 * np.sqrt(in_scene) * archive.core
    depth = -(-archive.halo // block) * block if archive.core % block == 0 else archive.halo + block / 2
    seam = edges * depth * (1 - in_scene / of_scene)
    return base + np.where(tiles > 0, np.minimum(seam, tiles * archive.window), 0.0)


def whole_rows(archive: Archive, owner: np.ndarray, tile: np.ndarray, ranks: int) -> np.ndarray:
    """Pixels of the rows of tiles that each rank has any tile of, f64 (ranks,): strips come whole. owner, tile: by place in the list."""
    row = tile // archive.grid.shape[1]
    first = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(row, prepend=-1) != 0) | (tile == tile[0]))
    height = np.minimum(archive.core, archive.height - row[first] * archive.core)
    return np.bincount(owner[first], weights=height * float(archive.width), minlength=ranks)


def take_turns(seconds: np.ndarray, pace: np.ndarray) -> np.ndarray:
    """Owners of tiles that are handed out one by one, in order, to whoever is free first. pace: factor of each rank on the seconds."""
    free = [(0.0, rank) for rank in range(len(pace))]
    paces, owner = pace.tolist(), []
    for each in seconds.tolist():
        now, rank = free[0]
        owner.append(rank)
        heapq.heapreplace(free, (now + each * paces[rank], rank))
    return np.array(owner, np.int64)


def finish_times(seconds: np.ndarray, moved: np.ndarray, limit: float) -> np.ndarray:
    """When each rank ends, f64 (ranks,), if all share `limit` bytes/s fairly and read ahead while they compute.

    seconds: of each if nothing holds it up, in which it moves so many bytes. Steps end with a hundredth of the ranks that are left.
    """
    ends, left = np.zeros(len(seconds)), seconds.astype(float)
    demand = np.divide(moved, seconds, out=np.zeros(len(seconds)), where=seconds > 0)
    alive, now = np.flatnonzero(seconds > 0), 0.0
    alive = alive[np.argsort(demand[alive])]
    while len(alive):
        speed = fair_speeds(demand[alive], limit)
        until = left[alive] / speed
        number = max(1, len(alive) // _STEP) if (speed < 1).any() else len(alive)
        step = np.partition(until, number - 1)[number - 1]
        done = until <= step
        ends[alive[done]] = now + until[done]
        left[alive] -= speed * step
        alive, now = alive[~done], now + step
    return ends


def fair_speeds(demand: np.ndarray, limit: float) -> np.ndarray:
    """Share of its full pace that each rank gets, when those that want less than a fair share leave the rest to the others.

    demand: bytes/s of each at full pace, rising.
    """
    if demand.sum() <= limit:
        return np.ones(len(demand))
    n = len(demand)
    level = (limit - (np.cumsum(demand) - demand)) / (n - np.arange(n))
    share = level[np.argmax(demand > level)]
    return np.minimum(1.0, share / np.maximum(demand, 1e-30))


def saturation(archive: Archive, rates: Rates, limit: float) -> float:
    """Ranks in spans from which on the file system is what all wait for: its bandwidth over what a rank of so many moves in a second,
    which grows with them as spans get more seams."""
    ranks, tiles = 1.0, archive.scenes * int(np.count_nonzero(archive.work().cost))
    for _ in range(_ROUNDS):
        load = load_of(archive, replace(rates, spread=0.0), max(1, min(round(ranks), tiles)), "spans", np.random.default_rng(0))
        ranks = limit * float(load.seconds.sum()) / float((load.read * rates.stored + load.kept * rates.kept).sum())
    return ranks
