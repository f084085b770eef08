"""Windows and the tile grid of a scene: integers only, always (row, col) and (height, width)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError


class Window(NamedTuple):
    """A rectangle of pixels; `row` and `col` may be negative where it reaches over a scene's edge."""

    row: int
    col: int
    height: int
    width: int

    @property
    def stop(self) -> tuple[int, int]:
        """First row and column after the window."""
        return self.row + self.height, self.col + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an array whose origin is the scene's."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def intersect(self, other: Window) -> Window:
        """The common part; height or width is 0 where there is none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        stop_row, stop_col = (min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Window(row, col, max(0, stop_row - row), max(0, stop_col - col))

    def grow(self, margin: int) -> Window:
        """The window with `margin` more pixels on each side."""
        return Window(self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin)

    def relative_to(self, origin: Window) -> Window:
        """The same pixels, counted from the upper left corner of `origin`."""
        return self._replace(row=self.row - origin.row, col=self.col - origin.col)

    def __str__(self) -> str:
        return f"rows {self.row}:{self.row + self.height}, cols {self.col}:{self.col + self.width}"


@dataclass(frozen=True)
class Grid:
    """The tiles of one scene. Tile k = iy * nx + ix; every pixel lies in exactly one core.

    height, width: the scene in pixels. core: edge of what a tile writes. halo: what it reads beyond, on each side.
    """

    height: int
    width: int
    core: int
    halo: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.core) < 1 or self.halo < 0:
            raise UsageError(f"a grid of {self.height}x{self.width} with core {self.core} and halo {self.halo} has no tiles")

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx): tiles down and across."""
        return -(-self.height // self.core), -(-self.width // self.core)

    @property
    def size(self) -> int:
        """Number of tiles."""
        return self.shape[0] * self.shape[1]

    @property
    def extent(self) -> Window:
        """The whole scene."""
        return Window(0, 0, self.height, self.width)

    def full_core(self, tile: int) -> Window:
        """The core of a tile, also where it reaches over the scene's right and lower edge."""
        iy, ix = divmod(tile, self.shape[1])
        return Window(iy * self.core, ix * self.core, self.core, self.core)

    def core_window(self, tile: int) -> Window:
        """The pixels that a tile writes: its core within the scene."""
        return self.full_core(tile).intersect(self.extent)

    def window(self, tile: int) -> Window:
        """The pixels that a tile reads: core and halo, always of one size."""
        return self.full_core(tile).grow(self.halo)


@lru_cache(maxsize=4)
def hilbert_order(ny: int, nx: int) -> np.ndarray:
    """Tiles of a (ny, nx) grid along a Hilbert curve, so that spans of it are compact.

    Returns int64 (ny * nx,), a permutation of row-major tile numbers, read-only: archives have few sizes, it is kept. The curve is that
    of the enclosing square of 2**k tiles (Hilbert 1891; the bitwise form of Lam and Shapiro, ICIP 1994).
    """
    iy, ix = (a.ravel().astype(np.int64) for a in np.indices((ny, nx)))
    distance = np.zeros_like(iy)
    side = 1 << max(0, (max(ny, nx) - 1).bit_length())
    x, y, step = ix.copy(), iy.copy(), side // 2
    while step:
        right, down = (x & step) > 0, (y & step) > 0
        distance += step * step * ((3 * right) ^ down)
        # Turn the quadrant so that the curve enters it at its own origin.
        flip = ~down & right
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(down, x, y), np.where(down, y, x)
        step //= 2
    order = np.argsort(distance, kind="stable")
    order.setflags(write=False)
    return order


def row_order(ny: int, nx: int) -> np.ndarray:
    """Tiles row by row: the order for files whose blocks span their width. Returns int64 (ny * nx,)."""
    return np.arange(ny * nx, dtype=np.int64)
