"""Small archives for tests: scenes of four textures in blocks of cells, and a narrow encoder, so that a gallery is built in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpcseg.gallery.build import BuildOptions
from hpcseg.gallery.hashing import HashSettings

CELL, KINDS = 32, 4


def textured(rows: int, cols: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Pixels u8 (3, height, width), 1 or more: each cell of a grid of rows x cols is flat, fine, coarse or striped."""
    rng = np.random.default_rng(seed)
    kinds = np.kron(rng.integers(0, KINDS, (rows, cols)), np.ones((CELL, CELL), int))[:height, :width]
    coarse = np.kron(rng.integers(1, 255, (-(-height // 8), -(-width // 8))), np.ones((8, 8), int))[:height, :width]
    stripes = np.where(np.indices((height, width))[1] % 4 < 2, 20, 230)
    looks = np.stack([np.full((height, width), 128), rng.integers(1, 255, (height, width)), coarse, stripes])
    chosen = np.take_along_axis(looks, kinds[None], 0)
    return np.clip(chosen + rng.integers(-6, 6, (3, height, width)), 1, 255).astype(np.uint8)


def write_archive(folder: Path, make_scene: Callable[..., Path], scenes: int = 2) -> Path:
    """A folder of scenes of 10 x 9 cells, at the right and lower edge cut, each with a hole without data."""
    for k in range(scenes):
        pixels = textured(10, 9, 10 * CELL - 9, 9 * CELL - 20, k)
        pixels[:, 2 * CELL : 5 * CELL + 5, CELL : 3 * CELL + 7] = 0
        make_scene(folder / f"scene_{k}.tif", *pixels.shape[1:], pixels=pixels, nodata=0, block=128)
    return folder


def write_encoder(folder: Path, make_model: Callable[..., Path]) -> Path:
    """A narrow U-Net of stride 4."""
    return make_model(folder, down=[8, 16, 16], up=[16, 8])


def options_of(archive: Path, model: Path, out: Path, **changes: Any) -> BuildOptions:
    """What builds a gallery of an archive quickly. model: its encoder."""
    keys = {
        "cell": CELL, "reduce": 1, "sample": 150, "encoder": str(model), "stall": 60.0, "cache": 8 << 20,
        "hashing": HashSettings(bits=32, hidden=32, steps=400),
    }  # fmt: skip
    return BuildOptions((str(archive),), out=out, **(keys | changes))
