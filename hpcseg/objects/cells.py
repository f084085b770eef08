"""Square cells over a scene, and which of them have data: the ground on which density is told."""

from __future__ import annotations

import numpy as np

from hpcseg.store import NODATA
from hpcseg.tiles import Window

_NONE = Window(0, 0, 0, 0), np.empty((0, 0), bool)


def cell_of(pixels: np.ndarray, cell: float) -> np.ndarray:
    """The numbers of the cells of `cell` pixels that places lie in, counted in pixels, fractions from a pixel's edge on; int64."""
    return (pixels // cell).astype(np.int64)


def no_cells_seen(height: int, width: int, cell: float) -> np.ndarray:
    """All cells of a scene, bool (down, across), False; (0, 0) where `cell` is 0."""
    if not cell:
        return _NONE[1].copy()
    down, across = cell_of(np.array([height, width]) - 0.5, cell) + 1
    return np.zeros((down, across), bool)


def see_cells(plane: np.ndarray, core: Window, cell: float) -> tuple[Window, np.ndarray]:
    """The cells that have the centre of a pixel of a core, and which of them have data in it. plane: u8, of the core within the scene."""
    if not cell:
        return _NONE
    starts = []
    for start, size in zip(core[:2], core[2:], strict=True):
        numbers = cell_of(np.arange(start, start + size) + 0.5, cell)
        starts.append(np.unique(numbers, return_index=True))
    (rows, down), (cols, right) = starts
    seen = np.logical_or.reduceat(np.logical_or.reduceat(plane != NODATA, down, 0), right, 1)
    return Window(int(rows[0]), int(cols[0]), len(rows), len(cols)), seen
