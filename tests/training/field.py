"""A small field to train on: a scene whose pixels tell its classes, labels that are missing unevenly, and settings for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal

from hpcseg.mpi import Comm
from hpcseg.raster import CellCache, Values, describe
from hpcseg.tiles import Grid
from hpcseg.training.feed import Shelf
from hpcseg.training.samples import Shares, deal
from hpcseg.training.settings import Settings, read_settings
from hpcseg.truth import count_tile, open_truth

EDGE, TILE, BLOCK = 256, 32, 64
TRANSFORM = (500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0)


def truth_of(edge: int = EDGE, seed: int = 0) -> np.ndarray:
    """Labels u8 (edge, edge): squares of class 0 and 1; of every tile only a share between 1 and 100 % is labelled."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 2, (edge // 16, edge // 16)), np.ones((16, 16), int)).astype(np.uint8)
    shares = np.kron(rng.choice([0.01, 0.1, 0.6, 1.0], (edge // TILE, edge // TILE)), np.ones((TILE, TILE)))
    labels[rng.random(labels.shape) > shares] = 255
    return labels


def pixels_of(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Pixels u8 (3, h, w) from 1 on: brighter where the truth is 1, with noise."""
    rng = np.random.default_rng(seed + 100)
    return (60 + 60 * (truth == 1) + rng.integers(0, 60, (3, *truth.shape))).astype(np.uint8)


def write_raster(path: Path, planes: np.ndarray, transform: tuple[float, ...] = TRANSFORM, nodata: float | None = None) -> Path:
    """Write planes u8 (bands, h, w) as a GeoTIFF; returns its path."""
    bands, height, width = planes.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands, gdal.GDT_Byte, ["TILED=YES"])
    dataset.SetGeoTransform(transform)
    dataset.SetProjection("EPSG:32633")
    for k, plane in enumerate(planes):
        if nodata is not None:
            dataset.GetRasterBand(k + 1).SetNoDataValue(nodata)
        dataset.GetRasterBand(k + 1).WriteArray(plane)
    dataset.FlushCache()
    return path


def write_field(folder: Path, edge: int = EDGE, seed: int = 0, name: str = "field") -> Path:
    """A scene and its labels; returns the folder."""
    truth = truth_of(edge, seed)
    pixels = pixels_of(truth, seed)
    pixels[:, 100:120, 30:70] = 0
    write_raster(folder / f"{name}.tif", pixels, nodata=0)
    write_raster(folder / f"{name}_labels.tif", truth[None])
    return folder


def flags_of(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """What trains a small U-Net without batch norm and dropout on a field, with changes."""
    return {
        "scenes": [str(folder / "field.tif")], "labels": [str(folder / "field_labels.tif")], "classes": ["dark", "bright"], "out": str(out),
        "network": "unet-ice", "options": {"widths": [8, 16], "dropout": [0.0, 0.0]}, "tile": TILE, "block": BLOCK, "epochs": 2,
        "batch": 7, "rate": 3e-3, "validation": 0.2, "test": 0.2, "stall": 60.0,
    } | changes  # fmt: skip


def settings_of(folder: Path, out: Path, ignore: tuple[int, ...] = (255,), **changes: Any) -> Settings:
    """Such settings, read as the command line reads them."""
    flags = flags_of(folder, out, **changes)
    files = flags.pop("labels")
    return read_settings(None, flags, {"labels": {"ignore": list(ignore), "files": files}})


def write_config(path: Path, folder: Path, out: Path, **changes: Any) -> Path:
    """Such settings as a TOML file; returns its path."""
    flags = flags_of(folder, out, **changes)
    labels, classes = flags.pop("labels"), flags.pop("classes")
    colors = ("#204060", "#e08030", "#40a060")
    rows = [f"{key} = {_toml(value)}" for key, value in flags.items()]
    rows += ["[labels]", f"files = {_toml(labels)}", "ignore = [255]"]
    rows += [f'[[classes]]\nname = "{name}"\ncolor = "{color}"' for name, color in zip(classes, colors, strict=False)]
    path.write_text("\n".join(rows) + "\n")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, (list, tuple)) else repr(value)


def shelf_of(settings: Settings) -> Shelf:
    """The samples of a field, without a communicator; pixels are input as they are, no data as 0."""
    cache = CellCache(64 << 20)
    scenes = [describe(path, Path(path).stem) for path in settings.scenes]
    truths = [open_truth(path, scene, settings.labels, settings.names, cache)
              for path, scene in zip(settings.labels.files, scenes, strict=True)]  # fmt: skip
    grids = [Grid(scene.height, scene.width, settings.tile, 0) for scene in scenes]
    counts = [np.stack([count_tile(truth, grid.core_window(t)) for t in range(grid.size)])
              for truth, grid in zip(truths, grids, strict=True)]  # fmt: skip
    shares = Shares(settings.block, settings.validation, settings.test, settings.split_seed)
    samples = deal([scene.name for scene in scenes], grids, counts, shares)
    return Shelf(samples, scenes, [Values((1.0,) * 3, (0.0,) * 3)] * len(scenes), truths, cache)


def group(comm: Comm, size: int) -> Comm | None:
    """The first `size` ranks, None on the others. Collective."""
    part = comm.Split(0 if comm.rank < size else 1, comm.rank)
    return part if comm.rank < size else None
