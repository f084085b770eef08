"""From what people type to the scenes of a run: files, globs, folders, manifests, and stacks of files as one scene."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from osgeo import gdal

from hpcseg.errors import SceneError, UsageError

_RASTERS = {".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".nc", ".hgt", ".dat", ".bil"}
_MANIFESTS = {".csv", ".txt", ".gpkg"}


class Entry(NamedTuple):
    """A scene to be opened. name: of its output. parts: the files that make it up, stacked in this order."""

    name: str
    parts: tuple[str, ...]

    @property
    def source(self) -> str:
        """The parts as a manifest takes them: files by their absolute paths."""
        return "+".join(os.path.abspath(part) if os.path.exists(part) else part for part in self.parts)


def list_scenes(arguments: Sequence[str], assets: Sequence[str] = ()) -> list[Entry]:
    """Expand the SCENES of a command. A folder means the rasters in it, "a.tif+b.tif" a stack, .csv, .txt and .gpkg a manifest,
    .json a STAC item, collection or catalogue, whose `assets` are stacked (default: those with the role "data").

    Raises UsageError: nothing found, a manifest without a scene column, two scenes of one name.
    """
    entries: list[Entry] = []
    for argument in arguments:
        entries += _expand(argument, assets)
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


def _expand(argument: str, assets: Sequence[str]) -> list[Entry]:
    path = Path(argument)
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in _RASTERS)
        return [_entry(each) for each in found]
    if path.suffix.lower() in _MANIFESTS:
        return _manifest(path)
    if path.suffix.lower() == ".json":
        return list(_stac(path, assets))
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
    """A text file with a scene a line, or a CSV or GeoPackage with a column "scene" and perhaps "id".

    Relative paths start at the manifest.
    """
    if path.suffix.lower() == ".gpkg":
        return _entries(path, _table(path))
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    rows = [{"scene": line.strip()} for line in lines]
    return _entries(path, list(csv.DictReader(lines)) if path.suffix.lower() == ".csv" else rows)


def _table(path: Path) -> list[dict[str, str]]:
    """The fields of all features of a vector file, as text."""
    try:
        dataset = gdal.OpenEx(str(path), gdal.OF_VECTOR)
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}") from error
    features = [feature for k in range(dataset.GetLayerCount()) for feature in dataset.GetLayer(k)]
    return [{name: str(value) for name, value in feature.items().items() if value is not None} for feature in features]


def _entries(path: Path, rows: list[dict[str, str]]) -> list[Entry]:
    """Scenes of a manifest's rows. Raises UsageError: no such column, a row without a scene."""
    if rows and "scene" not in rows[0]:
        raise UsageError(f"{path}: no column scene among {', '.join(rows[0])}")
    found = []
    for number, row in enumerate(rows, start=1):
        scene = (row.get("scene") or "").strip()
        if not scene:
            raise UsageError(f"{path}, row {number}: its column scene is empty")
        found.append(_entry("+".join(_beside(path, part) for part in scene.split("+")), (row.get("id") or "").strip()))
    return found


def _beside(manifest: Path, part: str) -> str:
    return part if part.startswith("/") or ":" in part else os.path.normpath(manifest.parent / part)


def _stac(path: Path, assets: Sequence[str]) -> Iterator[Entry]:
    """The items of a STAC file on disk, those of a catalogue's children included. Raises UsageError naming the file."""
    try:
        content = json.loads(path.read_text())
        links = [(link["rel"], link["href"]) for link in content.get("links", [])]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: not a STAC item or catalogue: {error}") from error
    if "assets" in content and content.get("type") == "Feature":
        yield _stac_item(path, content, assets)
        return
    for relation, target in links:
        if relation in ("item", "child"):
            yield from _stac(Path(_beside(path, target)), assets)


def _stac_item(path: Path, item: dict[str, Any], assets: Sequence[str]) -> Entry:
    there = item["assets"]
    chosen = list(assets) or [name for name, asset in there.items() if "data" in asset.get("roles", [])]
    missing = [name for name in chosen if name not in there]
    if missing or not chosen:
        what = f"no asset {', '.join(missing)}" if missing else 'no asset has the role "data"'
        raise UsageError(f"{path}: {what}; choose with --assets among {', '.join(there)}")
    return Entry(str(item.get("id", path.stem)), tuple(_beside(path, there[name]["href"]) for name in chosen))


def open_name(entry: Entry, crs: str = "", resolution: float = 0.0, align: bool = False) -> str:
    """What GDAL opens for an entry: its path, or the XML of a VRT that stacks its parts and warps them where asked.

    Raises SceneError if the parts lie on different grids and `align` is not set, or if a part of a stack has a mask.
    """
    try:
        names = list(entry.parts)
        if len(names) > 1:
            names = [_stack(names, align)]
        return _warp(names[0], crs, resolution) if crs or resolution else names[0]
    except RuntimeError as error:
        raise SceneError(f"cannot be opened: {str(error)[:300]}") from error


def _stack(names: list[str], align: bool) -> str:
    """XML of a VRT with all bands of all parts, in order; georeference of the first."""
    first, sources = gdal.Open(names[0]), [gdal.Open(name) for name in names]
    for k, source in enumerate(sources[1:], start=1):
        if _grid(source) != _grid(first):
            if not align:
                raise SceneError(f"{names[k]} does not lie on the grid of {names[0]}; --align warps it there")
            names[k] = _onto(first, source)
            sources[k] = gdal.Open(names[k])
    stack = gdal.GetDriverByName("VRT").Create("", first.RasterXSize, first.RasterYSize, 0)
    if first.GetGCPCount():
        stack.SetGCPs(first.GetGCPs(), first.GetGCPSpatialRef())
    elif first.GetGeoTransform(can_return_null=True) is not None:
        stack.SetGeoTransform(first.GetGeoTransform())
    stack.SetSpatialRef(first.GetSpatialRef())
    for name, source in zip(names, sources, strict=True):
        for number in range(1, source.RasterCount + 1):
            _add_band(stack, name, source.GetRasterBand(number), number)
    return stack.GetMetadata("xml:VRT")[0]


def _add_band(stack: gdal.Dataset, name: str, band: gdal.Band, number: int) -> None:
    if band.GetMaskFlags() & gdal.GMF_PER_DATASET:
        what = "has a mask or an alpha band, which a stack cannot keep"
        raise SceneError(f"{name} {what}: give it a no-data value first (gdalwarp -dstnodata)")
    stack.AddBand(band.DataType)
    target = stack.GetRasterBand(stack.RasterCount)
    source = f'<SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename><SourceBand>{number}</SourceBand>'
    target.SetMetadataItem("source_0", f"<SimpleSource>{source}</SimpleSource>", "new_vrt_sources")
    if band.GetNoDataValue() is not None:
        target.SetNoDataValue(band.GetNoDataValue())
    for get, put in ((band.GetScale, target.SetScale), (band.GetOffset, target.SetOffset)):
        if get() is not None:
            put(get())


def _grid(dataset: gdal.Dataset) -> tuple:
    return dataset.RasterYSize, dataset.RasterXSize, dataset.GetGeoTransform(can_return_null=True), dataset.GetProjection()


def _onto(first: gdal.Dataset, other: gdal.Dataset) -> str:
    """XML of a VRT that warps a raster onto another's grid."""
    transform = first.GetGeoTransform(can_return_null=True)
    if transform is None or transform[2] or transform[4]:
        raise SceneError("--align needs a first part that is georeferenced and not rotated")
    x0, dx, _, y0, _, dy = transform
    bounds = (x0, y0 + dy * first.RasterYSize, x0 + dx * first.RasterXSize, y0)
    size = {"width": first.RasterXSize, "height": first.RasterYSize}
    nodata = other.GetRasterBand(1).GetNoDataValue()
    fill = {} if nodata is not None else {"dstNodata": 0}
    warped = gdal.Warp("", other, format="VRT", dstSRS=first.GetProjection(), outputBounds=bounds, resampleAlg="bilinear", **size, **fill)
    return warped.GetMetadata("xml:VRT")[0]


def _warp(name: str, crs: str, resolution: float) -> str:
    """XML of a VRT that warps a raster; its empty margin is no data, by an alpha band where the raster has no value for it."""
    dataset = gdal.Open(name)
    options: dict[str, Any] = {"dstSRS": crs} if crs else {}
    if resolution:
        options |= {"xRes": resolution, "yRes": resolution}
    if dataset.GetRasterBand(1).GetMaskFlags() == gdal.GMF_ALL_VALID:
        options["dstAlpha"] = True
    return gdal.Warp("", dataset, format="VRT", resampleAlg="bilinear", **options).GetMetadata("xml:VRT")[0]
