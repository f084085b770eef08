"""A scene of bright spots to find: of class 0 red, of class 1 blue, with a table of where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpcseg.training.settings import Settings, read_settings
from training.field import write_raster

EDGE, METRES = 256, 10.0


def places_of(seed: int = 0, edge: int = EDGE) -> np.ndarray:
    """Row, col and class of spots, int64 (n, 3): none in a quarter of the scene."""
    rng = np.random.default_rng(seed)
    rows, cols = (each.ravel() for each in np.mgrid[8:edge:16, 8:edge:16])
    moved = np.column_stack([each + rng.integers(-4, 5, rows.size) for each in (rows, cols)])
    kept = (rng.random(rows.size) < 0.6) & ((rows < edge // 2) | (cols < edge // 2))
    return np.column_stack([moved, rng.integers(0, 2, rows.size)])[kept]


def write_spots(folder: Path, name: str = "spots", seed: int = 0, gap: bool = True) -> np.ndarray:
    """Write the scene and its table, x, y and label; returns the spots. gap: some rows are no data."""
    spots, rng = places_of(seed), np.random.default_rng(seed + 1)
    pixels = rng.integers(40, 90, (3, EDGE, EDGE)).astype(np.uint8)
    for row, col, kind in spots:
        pixels[2 * kind, row - 1 : row + 2, col - 1 : col + 2] += 120
    if gap:
        pixels[:, 100:120, 30:70] = 0
    write_raster(folder / f"{name}.tif", pixels, nodata=0)
    names = ("red", "blue")
    rows = [f"{500000 + METRES * (col + 0.5)},{5000000 - METRES * (row + 0.5)},{names[kind]}" for row, col, kind in spots]
    (folder / f"{name}.csv").write_text("\n".join(["x,y,label", *rows]) + "\n")
    return spots


def point_flags(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """What trains a small U-Net on the spots, with changes."""
    return {
        "scenes": [str(folder / "spots.tif")], "labels": [str(folder / "spots.csv")], "classes": ["red", "blue"], "out": str(out),
        "task": "points", "sigma": 15.0, "distance": 40.0, "within": [20.0, 10.0], "network": "unet-light",
        "options": {"down": [8, 16], "up": [8]}, "tile": 32, "block": 64, "epochs": 8, "batch": 6, "rate": 1e-2, "validation": 0.2,
        "test": 0.2, "stall": 60.0,
    } | changes  # fmt: skip


def point_settings(folder: Path, out: Path, **changes: Any) -> Settings:
    """Such settings, read as the command line reads them."""
    return read_settings(None, point_flags(folder, out, **changes))
