"""A small land of two kinds to train on: in one the bright pixels are roofs, in the other the dark ones; and a gallery that knows which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from training.field import settings_of, write_raster

from hpcseg.config import encode_toml
from hpcseg.gallery.images import new_round, publish_round, scene_table, write_part
from hpcseg.gallery.jobs import Order
from hpcseg.gallery.spec import GALLERY, NO_BUCKET, Bucket, GallerySpec
from hpcseg.raster import Entry, describe

CELL, CELLS = 64, 4
BUCKETS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 2]], np.uint8)
"""Bucket 2 has one cell alone; none has bucket 3."""


def write_land(folder: Path, name: str = "field", buckets: np.ndarray = BUCKETS, bands: int = 3) -> Path:
    """A scene of 256x256 pixels and its labels; returns the scene."""
    rng = np.random.default_rng(1)
    edge = CELL * CELLS
    roofs = np.kron(rng.integers(0, 2, (edge // 8, edge // 8)), np.ones((8, 8), int))
    inverted = np.kron(buckets == 1, np.ones((CELL, CELL), int))
    pixels = 60 + 120 * (roofs ^ inverted) + rng.integers(0, 50, (bands, edge, edge))
    write_raster(folder / f"{name}_labels.tif", roofs[None].astype(np.uint8))
    return write_raster(folder / f"{name}.tif", pixels.astype(np.uint8))


def write_gallery(folder: Path, scenes: list[Path], buckets: np.ndarray = BUCKETS, count: int = 4, **spec: Any) -> Path:
    """An image gallery of nothing but its toml and its cells; returns its folder."""
    folder.mkdir(parents=True)
    codes = [Bucket(code=f"{k:016x}", tiles=1) for k in range(count)]
    record = GallerySpec(**({"bands": 3, "buckets": codes, "max_distance": 3, "digest": "of the gallery", "cell": CELL} | spec))
    (folder / GALLERY).write_bytes(encode_toml(record))
    places = [(CELL * row, CELL * col, CELL, CELL) for row, col in zip(*np.nonzero(buckets != NO_BUCKET), strict=True)]
    here = buckets[buckets != NO_BUCKET]
    part = new_round(folder)
    tables = [
        scene_table(describe(str(path), path.stem), Entry(path.stem, (str(path),), {}), np.array(places, np.int32),
                    np.ones(len(here), np.float32), (here.astype(np.uint64), here, np.zeros(len(here), np.uint8)))
        for path in scenes
    ]  # fmt: skip
    write_part(part / "00000.parquet", tables)
    publish_round(part)
    return folder


def order_of(folder: Path, application: str = "roofs", from_mono: bool = False, min_samples: int = 5, **changes: Any) -> Order:
    """What trains a small U-Net a bucket on the land in `folder`, in its gallery, with changes."""
    keys = {"options": {"widths": [4, 8], "dropout": [0.0, 0.0]}, "validation": 0.25, "test": 0.0, "epochs": 3, "rate": 2e-2, "seed": 1}
    settings = settings_of(folder, folder / "unused", **(keys | changes))
    return Order(folder / "gallery", application, settings, from_mono, min_samples)

