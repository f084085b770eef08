"""Compressed cloud-optimised GeoTIFFs; and what all products share: legend, stream of windows, publishing of files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from osgeo import gdal, ogr, osr

from hpcseg import __version__
from hpcseg.config import Class
from hpcseg.errors import StoreError, UsageError
from hpcseg.georeference import Georeference
from hpcseg.raster import PATH_COLUMNS
from hpcseg.store import FAILED, MISSING, NODATA, Stored, read_window
from hpcseg.tiles import Window

_CACHE_BYTES = 256 << 20
_TIFF_BLOCK = 512
_WINDOW = (2048, 4096)


@dataclass(frozen=True)
class ClassShare:
    """Pixels of a class, their share of the valid pixels, and their ground area in m2 (None without a reference system)."""

    pixels: int
    share: float
    area_m2: float | None


@dataclass(frozen=True)
class Product:
    """What was written. files: `path` and those beside it. notes: what the user should know. classes: filled by quicklooks."""

    path: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    classes: dict[str, ClassShare] = field(default_factory=dict)


def text(value: Any) -> str:
    """An HDF5 string attribute, which may come as str, bytes or a NumPy scalar or array of one, as str."""
    value = value.item() if isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def legend(stored: Stored) -> list[Class]:
    """The classes of a map's labels, class 0 first. Raises UsageError if it has no labels, StoreError if its attribute `classes` is
    missing or malformed."""
    if "labels" not in stored.layout.planes:
        raise UsageError(f"{stored.path}: the heat of a detector, not labels: hpcseg count finds the points in it")
    try:
        return msgspec.json.decode(text(stored.attributes["classes"]), type=list[Class])
    except (KeyError, msgspec.MsgspecError) as error:
        raise StoreError(f"{stored.path}: no legend: attribute classes is not a list of name and color ({error})") from error


def manifest_items(stored: Stored) -> dict[str, str]:
    """What the manifest said of the scene, by column: date, region and whatever else it had. Paths mean nothing elsewhere and stay."""
    columns = json.loads(text(stored.attributes.get("manifest", "{}")))
    return {column: value for column, value in columns.items() if column not in PATH_COLUMNS}


def tile_notes(stored: Stored) -> tuple[str, ...]:
    """One line for missing and one for failed tiles, if there are any."""
    words = {MISSING: "are missing", FAILED: "failed"}
    counts = {code: int((stored.status == code).sum()) for code in words}
    total = stored.layout.grid.size
    return tuple(f"{n} of {total} tiles {words[code]}: no data in the product" for code, n in counts.items() if n)


def windows(stored: Stored, plane: str) -> Iterator[tuple[Window, np.ndarray]]:
    """A plane in windows whose origins are multiples of 2048 rows and 4096 columns, row by row. Raises StoreError."""
    extent = stored.layout.grid.extent
    for row in range(0, extent.height, _WINDOW[0]):
        for col in range(0, extent.width, _WINDOW[1]):
            window = Window(row, col, *_WINDOW).intersect(extent)
            try:
                yield window, read_window(stored, window, plane)
            except OSError as error:
                raise StoreError(f"{stored.path}: {plane}, {window} cannot be read: {error}") from error


@contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """Give a hidden name beside `out` to write to; on success it becomes `out`, on failure nothing is left.

    Files beside it whose names begin with the hidden name (side-cars) follow. Raises UsageError where GDAL or the file system
    cannot write.
    """
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UsageError(f"{out} cannot be written: wanted the name of a file in a folder that exists and is writable")
    part = out.with_name(f".{out.stem}.{os.getpid()}.part{out.suffix}")
    try:
        with raising_gdal():
            yield part
        out.with_name(f"{out.name}.aux.xml").unlink(missing_ok=True)
        for path in _parts(part):
            os.replace(path, out.with_name(out.name + path.name[len(part.name) :]))
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{out} cannot be written: {error}") from error
    finally:
        for path in _parts(part):
            path.unlink(missing_ok=True)


def _parts(part: Path) -> list[Path]:
    """The side-cars first: a file that bears its name is complete."""
    return sorted((p for p in part.parent.iterdir() if p.name.startswith(part.name)), key=lambda p: p == part)


@contextmanager
def raising_gdal() -> Iterator[None]:
    """GDAL's errors as RuntimeError and a bounded block cache; the process's own settings come back afterwards."""
    modules = [module for module in (gdal, ogr, osr) if not module.GetUseExceptions()]
    cache = gdal.GetCacheMax()
    gdal.SetCacheMax(_CACHE_BYTES)
    for module in modules:
        module.UseExceptions()
    try:
        yield
    finally:
        # GDAL keeps a stack of error handlers: the last one in is the first one out.
        for module in reversed(modules):
            module.DontUseExceptions()
        gdal.SetCacheMax(cache)


@contextmanager
def staged(stored: Stored, plane: str, part: Path) -> Iterator[gdal.Dataset]:
    """A plane as an open, uncompressed, tiled GeoTIFF beside `part`, without georeference; it goes when the context ends.

    It takes as many bytes as the scene has pixels. Raises OSError if there is no room for it.
    """
    path = part.with_name(f"{part.name}.staged.tif")
    extent = stored.layout.grid.extent
    free = shutil.disk_usage(part.parent).free
    if free < extent.height * extent.width:
        raise OSError(f"{extent.height * extent.width:,} bytes are needed for a while, {free:,} are free")
    options = ["TILED=YES", f"BLOCKXSIZE={_TIFF_BLOCK}", f"BLOCKYSIZE={_TIFF_BLOCK}", "BIGTIFF=IF_SAFER"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), extent.width, extent.height, 1, gdal.GDT_Byte, options)
    try:
        band = dataset.GetRasterBand(1)
        band.SetNoDataValue(NODATA)
        for window, values in windows(stored, plane):
            band.WriteRaster(window.col, window.row, window.width, window.height, np.ascontiguousarray(values).tobytes())
        dataset.FlushCache()
        yield dataset
    finally:
        for each in _parts(path):
            each.unlink()


def write_cog(stored: Stored, out: Path, threads: int) -> Product:
    """Write the labels to `out` and, where the file has it, the confidence to `<stem>_confidence` beside it."""
    classes, files = legend(stored), [out]
    with publishing(out) as part, staged(stored, "labels", part) as dataset:
        _set_metadata(dataset, stored)
        _set_legend(dataset, classes)
        compress(dataset, part, "MODE", threads)
    if "confidence" in stored.layout.planes:
        files.append(out.with_name(f"{out.stem}_confidence{out.suffix}"))
        with publishing(files[1]) as part, staged(stored, "confidence", part) as dataset:
            _set_metadata(dataset, stored)
            dataset.GetRasterBand(1).SetScale(1 / 254)
            dataset.GetRasterBand(1).SetDescription("confidence")
            compress(dataset, part, "AVERAGE", threads)
    return Product(out, tuple(files), tile_notes(stored) + _place_notes(stored.place))


def compress(dataset: gdal.Dataset, part: Path, resampling: str, threads: int = 1) -> None:
    """Copy a dataset to a compressed GeoTIFF in the order of a COG, with overviews where it is larger than a block."""
    options = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO",
        "BLOCKSIZE": _TIFF_BLOCK,
        "OVERVIEW_RESAMPLING": resampling,
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": threads,
    }
    dataset.FlushCache()
    written = gdal.GetDriverByName("COG").CreateCopy(str(part), dataset, options=[f"{k}={v}" for k, v in options.items()])
    written.FlushCache()


def _set_metadata(dataset: gdal.Dataset, stored: Stored) -> None:
    set_place(dataset, stored.place)
    for column, value in manifest_items(stored).items():
        dataset.SetMetadataItem(column, value)
    dataset.SetMetadataItem("TIFFTAG_SOFTWARE", f"hpcseg {__version__}")
    dataset.SetMetadataItem("hpcseg_version", __version__)
    if "model" in stored.attributes:
        dataset.SetMetadataItem("model", text(stored.attributes["model"]))


def set_place(dataset: gdal.Dataset, place: Georeference) -> None:
    """A GeoTIFF holds a transform or control points, not both: the transform is the more exact."""
    if place.transform is None and place.gcps:
        dataset.SetGCPs([gdal.GCP(p.x, p.y, p.z, p.col, p.row, "", p.id) for p in place.gcps], place.gcp_wkt)
        return
    if place.wkt:
        dataset.SetProjection(place.wkt)
    if place.transform is not None:
        dataset.SetGeoTransform(place.transform)


def _place_notes(place: Georeference) -> tuple[str, ...]:
    both = place.transform is not None and place.gcps
    return ("the scene has a transform and control points: the product keeps the transform",) if both else ()


def _set_legend(dataset: gdal.Dataset, classes: list[Class]) -> None:
    """Colours in the file itself; names as metadata there and as GDAL's category names in the side-car."""
    band, table = dataset.GetRasterBand(1), gdal.ColorTable()
    for k, each in enumerate(classes):
        table.SetColorEntry(k, rgb(each.color))
        dataset.SetMetadataItem(f"class_{k}", each.name)
    table.SetColorEntry(NODATA, (0, 0, 0, 0))
    band.SetColorTable(table)
    band.SetCategoryNames([each.name for each in classes])
    band.SetDescription("class")


def rgb(color: str) -> tuple[int, int, int]:
    """#rrggbb as three integers of 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
