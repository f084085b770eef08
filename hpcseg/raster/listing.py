"""From what people type to the scenes of a run: files, globs, folders, manifests, and stacks of files as one scene."""

from __future__ import annotations

import csv
import glob
import os
from pathlib import Path
from typing import NamedTuple

from osgeo import gdal

from hpcseg.errors import SceneError, UsageError

_RASTERS = {".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".nc", ".hgt", ".dat", ".bil"}
_MANIFESTS = {".csv", ".txt"}


class Entry(NamedTuple):
    """A scene to be opened. name: of its output. parts: the files that make it up, stacked in this order."""

    name: str
    parts: tuple[str, ...]


def list_scenes(arguments: list[str]) -> list[Entry]:
    """Expand the SCENES of a command. A folder means the rasters in it, "a.tif+b.tif" a stack, .csv and .txt a manifest.

    Raises UsageError: nothing found, a manifest without a scene column, two scenes of one name.
    """
    entries: list[Entry] = []
    for argument in arguments:
        entries += _expand(argument)
    if not entries:
        raise UsageError(f"no scenes in {' '.join(arguments) or 'nothing'}")
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.name, entry)
        if other is not entry:
            raise UsageError(
                f"two scenes are named {entry.name}: {other.parts[0]} and {entry.parts[0]}; give them ids in a manifest (columns scene,id)"
            )
    return entries


def _expand(argument: str) -> list[Entry]:
    path = Path(argument)
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in _RASTERS)
        return [_entry(each) for each in found]
    if path.suffix.lower() in _MANIFESTS:
        return _manifest(path)
    if glob.has_magic(argument) and not path.exists():
        found = sorted(glob.glob(argument, recursive=True))
        if not found:
            raise UsageError(f"no file matches {argument}")
        return [_entry(each) for each in found]
    return [_entry(argument)]


def _entry(text: str, name: str = "") -> Entry:
    parts = (text,) if os.path.exists(text) else tuple(text.split("+"))
    stem = parts[0].rstrip("/").rsplit("/", 1)[-1]
    return Entry(name or (stem if stem.count(".") == 0 else stem.rsplit(".", 1)[0]), parts)


def _manifest(path: Path) -> list[Entry]:
    """A text file with a scene a line, or a CSV with a column "scene" and perhaps "id". Relative paths start at the manifest."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    rows = [{"scene": line.strip()} for line in lines]
    if path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(lines))
        if rows and "scene" not in rows[0]:
            raise UsageError(f"{path}: no column scene among {', '.join(rows[0])}")
    return [
        _entry("+".join(_beside(path, part) for part in row["scene"].split("+")), (row.get("id") or "").strip()) for row in rows
    ]


def _beside(manifest: Path, part: str) -> str:
    if part.startswith("/") or ":" in part:
        return part
    beside = manifest.parent / part
    return str(beside)


def open_name(entry: Entry, crs: str = "", resolution: float = 0.0, align: bool = False) -> str:
    """What GDAL opens for an entry: its path, or the XML of a VRT that stacks its parts and warps them where asked.

    Raises SceneError if the parts lie on different grids and `align` is not set.
    """
    try:
        sources = [gdal.Open(part) for part in entry.parts]
        if len(sources) > 1:
            return _warp(_stack(entry, sources, align), crs, resolution)
        return _warp(sources[0], crs, resolution) if crs or resolution else entry.parts[0]
    except RuntimeError as error:
        raise SceneError(f"cannot be opened: {error}") from error


def _stack(entry: Entry, sources: list[gdal.Dataset], align: bool) -> gdal.Dataset:
    first = sources[0]
    for part, other in zip(entry.parts[1:], sources[1:], strict=True):
        if _grid(other) != _grid(first) and not align:
            raise SceneError(f"{part} does not lie on the grid of {entry.parts[0]}; --align warps it there")
    if align:
        sources = [first] + [_onto(first, other) for other in sources[1:]]
    return gdal.BuildVRT("", sources, separate=True)


def _grid(dataset: gdal.Dataset) -> tuple:
    return dataset.RasterYSize, dataset.RasterXSize, dataset.GetGeoTransform(can_return_null=True), dataset.GetProjection()


def _onto(first: gdal.Dataset, other: gdal.Dataset) -> gdal.Dataset:
    x0, dx, _, y0, _, dy = first.GetGeoTransform()
    bounds = (x0, y0 + dy * first.RasterYSize, x0 + dx * first.RasterXSize, y0)
    return gdal.Warp("", other, format="VRT", dstSRS=first.GetProjection(), outputBounds=bounds, width=first.RasterXSize,
                     height=first.RasterYSize, resampleAlg="bilinear")  # fmt: skip


def _warp(dataset: gdal.Dataset, crs: str, resolution: float) -> str:
    if crs or resolution:
        options = {"dstSRS": crs} if crs else {}
        if resolution:
            options |= {"xRes": resolution, "yRes": resolution}
        dataset = gdal.Warp("", dataset, format="VRT", resampleAlg="bilinear", **options)
    return dataset.GetMetadata("xml:VRT")[0]
