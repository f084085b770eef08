"""Scenes as filters see them: tile by tile, with a halo around each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hpcseg.tiles import Grid, Window


def halo_tiles(
    values: np.ndarray, valid: np.ndarray, core: int, halo: int, beyond: int
) -> Iterator[tuple[Window, np.ndarray, np.ndarray, tuple[Window, Window]]]:
    """For each tile of a scene, u8 (h, w, 3), and its marks: its core; pixels, u8 (h, 3 w), and marks of its window; where in the window
    the core and the scene lie. beyond: what a reader happens to put where the scene ends."""
    grid = Grid(*valid.shape, core, 0)
    for tile in range(grid.size):
        here = grid.core_window(tile)
        window = here.grow(halo)
        inside = window.intersect(grid.extent)
        pixels, marks = np.full((*window[2:], 3), beyond, np.uint8), np.ones(window[2:], np.uint8)
        pixels[inside.relative_to(window).slices], marks[inside.relative_to(window).slices] = values[inside.slices], valid[inside.slices]
        yield here, pixels.reshape(window.height, -1), marks, (here.relative_to(window), inside.relative_to(window))
