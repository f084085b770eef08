"""Components that touch tile borders, until all tiles around them were seen: an accumulator, exact for any order of tiles and merges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcseg.kernels.components import COMPONENT, RUN, fold, join
from hpcseg.tiles import Grid


def seam_lines(grid: Grid, tile: int) -> tuple[int, int, int, int]:
    """Numbers of the seams along a tile's top, bottom, left and right edge; -1 where the scene ends.

    Twice the seam's own number (1 to ny - 1 between rows of tiles, ny + 1 to ny + nx - 1 between columns), plus 1 on the tile's side
    that comes after the seam.
    """
    (ny, nx), (iy, ix) = grid.shape, divmod(tile, grid.shape[1])
    top, bottom = (2 * iy + 1 if iy else -1), (2 * (iy + 1) if iy + 1 < ny else -1)
    left, right = (2 * (ny + ix) + 1 if ix else -1), (2 * (ny + ix + 1) if ix + 1 < nx else -1)
    return top, bottom, left, right


@dataclass
class Seams:
    """Components of a scene that may go on beyond the tiles seen so far.

    reach: 0 = 4-connected, 1 = 8-connected. seen: bool (ny + 2, nx + 2), tiles that were added, and all beyond the scene.
    components: COMPONENT (n,). runs: RUN (m,), where they touch seams.
    """

    grid: Grid
    reach: int
    seen: np.ndarray
    components: np.ndarray
    runs: np.ndarray

    @classmethod
    def start(cls, grid: Grid, reach: int) -> Seams:
        """No tiles yet."""
        seen = np.ones(tuple(n + 2 for n in grid.shape), bool)
        seen[1:-1, 1:-1] = False
        return cls(grid, reach, seen, np.empty(0, COMPONENT), np.empty(0, RUN))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.components.nbytes + self.runs.nbytes + self.seen.nbytes

    def add(self, tile: int, components: np.ndarray, runs: np.ndarray) -> None:
        """Take in the components of a tile that touch its seams, and the runs where they do."""
        iy, ix = divmod(tile, self.grid.shape[1])
        self.seen[iy + 1, ix + 1] = True
        self._append(components, runs)

    def merge(self, other: Seams) -> Seams:
        """Both together; no tile may be in both."""
        total = Seams(self.grid, self.reach, self.seen | other.seen, self.components, self.runs)
        total._append(other.components, other.runs)
        return total

    def _append(self, components: np.ndarray, runs: np.ndarray) -> None:
        runs = runs.copy()
        runs["component"] += len(self.components)
        self.components, self.runs = np.concatenate([self.components, components]), np.concatenate([self.runs, runs])

    def settle(self) -> np.ndarray:
        """Join what touches, and let go of the components that can meet no tile any more. Returns those, COMPONENT (n,), in raster
        order of their first pixels."""
        components, runs = self.components.copy(), self.runs
        parent = np.arange(len(components), dtype=np.int32)
        runs = runs[np.lexsort((runs["start"], runs["line"]))]
        before, after = (runs[runs["line"] % 2 == side] for side in (0, 1))
        before["line"] //= 2
        after["line"] //= 2
        join(before, after, components["label"].copy(), self.reach, parent)
        fold(components, parent)
        runs = runs[self._waiting(runs)]
        runs["component"] = parent[runs["component"]]
        held = np.zeros(len(components), bool)
        held[runs["component"]] = True
        done = components[(parent == np.arange(len(parent))) & ~held]
        runs["component"] = (np.cumsum(held) - 1)[runs["component"]]
        self.components, self.runs = components[held], runs
        return done[np.lexsort((done["first"], done["top"]))]

    def _waiting(self, runs: np.ndarray) -> np.ndarray:
        """Which runs may touch pixels of a tile that was not seen yet: across the seam, or diagonally across its ends."""
        ny = self.grid.shape[0]
        number, after = runs["line"] // 2, runs["line"] % 2
        upright = number >= ny
        across, along = np.where(upright, number - ny, number) - after, runs["start"] // self.grid.core
        waiting = np.zeros(len(runs), bool)
        for step in range(-self.reach, self.reach + 1):
            row, col = np.where(upright, (along + step, across), (across, along + step))
            waiting |= ~self.seen[row + 1, col + 1]
        return waiting
