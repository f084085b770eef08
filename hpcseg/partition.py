"""Who maps what: all tiles of all scenes in one order, cut into contiguous spans of equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpcseg.tiles import Grid, hilbert_order, row_order


class Work(NamedTuple):
    """What the partition knows of one scene. All ranks must hold the same.

    grid: its tiles. by_rows: its blocks span its width. cost: int (ny * nx,) by flat tile number, in forward passes: 0 for tiles
    that seem to have no data. done: bool (ny * nx,), True for tiles of an earlier run that need no work.
    """

    grid: Grid
    by_rows: bool
    cost: np.ndarray
    done: np.ndarray


@dataclass(frozen=True)
class Plan:
    """The partition. tiles: per scene the flat numbers of the tiles to do, in order. starts: (scenes + 1,) their first place in
    the list of all. ranks: per scene the rank of each of those tiles, never falling. load: forward passes of each rank."""

    tiles: list[np.ndarray]
    ranks: list[np.ndarray]
    load: np.ndarray

    @property
    def imbalance(self) -> float:
        """Largest over mean load of the ranks, 1 if there is nothing to do."""
        return float(self.load.max() / self.load.mean()) if self.load.any() else 1.0

    @property
    def size(self) -> int:
        """Number of tiles to do."""
        return sum(map(len, self.tiles))

    def of_rank(self, rank: int) -> list[tuple[int, np.ndarray]]:
        """The rank's span: (scene, flat tile numbers in order) for each scene it has tiles of."""
        spans = []
        for scene, (tiles, ranks) in enumerate(zip(self.tiles, self.ranks, strict=True)):
            first, last = np.searchsorted(ranks, [rank, rank + 1])
            if last > first:
                spans.append((scene, tiles[first:last]))
        return spans

    def owners(self, scene: int) -> list[int]:
        """The ranks that own tiles of a scene, rising."""
        return np.unique(self.ranks[scene]).tolist()

    def shared_scenes(self) -> list[int]:
        """The scenes that several ranks own, in order. A rank's span is contiguous, so it takes part in at most two: its first
        and its last, which are neighbours in this list."""
        return [k for k, ranks in enumerate(self.ranks) if len(ranks) and ranks[0] != ranks[-1]]


def make_plan(works: Sequence[Work], size: int) -> Plan:
    """Cut the tiles of all scenes into `size` spans whose costs differ by at most one tile."""
    tiles, costs = [], []
    for work in works:
        order = row_order(*work.grid.shape) if work.by_rows else hilbert_order(*work.grid.shape)
        order = order[~work.done[order]]
        tiles.append(order)
        costs.append(work.cost[order].astype(np.int64))
    cost = np.concatenate(costs) if costs else np.zeros(0, np.int64)
    if not cost.any():
        cost = np.ones_like(cost)
    before = np.cumsum(cost) - cost
    # Tile k belongs to the rank in whose share its first unit of cost lies; a free tile goes with the next one that costs.
    rank = np.minimum(before * size // max(1, int(cost.sum())), size - 1)
    load = np.bincount(rank, weights=np.concatenate(costs) if costs else None, minlength=size).astype(np.int64)
    ends = np.cumsum([len(t) for t in tiles])[:-1]
    return Plan(tiles, np.split(rank, ends) if tiles else [], load)
