"""The loop that people write first: read a window, run the network in float32, keep the middle; for comparison only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hpcseg.models import Model
from hpcseg.raster import read_array
from hpcseg.tiles import Grid


def plain_loop(scene: Path, model: Model, grid: Grid, threads: int) -> np.ndarray:
    """Labels u8 (height, width) of a whole scene: NCHW, float32, one window at a time, all threads in each operation."""
    torch.set_num_threads(threads)
    norm = model.spec.normalisation
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (norm.mean, norm.std))
    labels = np.empty((grid.height, grid.width), np.uint8)
    with torch.inference_mode():
        for tile in range(grid.size):
            core, window = grid.core_window(tile), grid.window(tile)
            inside = window.intersect(grid.extent)
            pixels = (read_array(scene, inside) - mean) / std
            before = (inside.row - window.row, inside.col - window.col)
            after = (window.stop[0] - inside.stop[0], window.stop[1] - inside.stop[1])
            padded = np.pad(pixels, ((0, 0), (before[0], after[0]), (before[1], after[1])), mode="reflect")
            logits = model.network(torch.from_numpy(padded)[None])
            kept = logits[0, :, grid.halo : grid.halo + core.height, grid.halo : grid.halo + core.width]
            labels[core.slices] = kept.argmax(0).to(torch.uint8).numpy()
    torch.set_num_threads(1)
    return labels
