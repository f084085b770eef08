"""From what people type to the scenes of a run: files, globs, folders, STAC, and manifests whose columns travel."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osgeo import gdal, ogr

from hpcseg.errors import UsageError

RASTERS = {".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".nc", ".hgt", ".dat", ".bil"}
PATH_COLUMNS = ("label", "before", "mask", "aoi")
_MANIFESTS = {".csv", ".txt", ".gpkg"}
# A failed.csv says why a scene failed: true of that run alone, so it does not travel.
_STAY = ("scene", "id", "reason")


@dataclass(frozen=True)
class Entry:
    """A scene to be opened. name: of its output. parts: the files that make it up, stacked in this order.

    columns: what else a manifest says of it, by column, as text; cells that are empty are left out. label, before, mask and aoi
    are absolute paths.
    """

    name: str
    parts: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def source(self) -> str:
        """The parts as a manifest takes them: files by their absolute paths."""
        return "+".join(part if _stands_alone(part) else os.path.abspath(part) for part in self.parts)


def list_scenes(arguments: Sequence[str], assets: Sequence[str] = ()) -> list[Entry]:
    """Expand the SCENES of a command. A folder means the rasters in it, but those that hpcseg made beside its maps; "a.tif+b.tif" a
    stack; .csv, .txt and .gpkg a manifest; .json a STAC item, collection or catalogue, whose `assets` are stacked (default: those with
    the role "data") and whose datetime is the column date.

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
        return [_entry(each) for each in _rasters(path)]
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


def _rasters(folder: Path) -> list[str]:
    """The rasters of a folder; in one that maps were made in, without what hpcseg itself has drawn and exported there."""
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in RASTERS)
    return [path for path in found if not _is_product(path)] if any(folder.glob("run*.json")) else found


def _is_product(path: str) -> bool:
    """Whether a raster says that hpcseg made it; one that cannot be opened is told as a scene."""
    try:
        dataset = gdal.Open(path)
    except RuntimeError:
        return False
    return any((dataset.GetMetadataItem(key) or "").startswith("hpcseg ") for key in ("TIFFTAG_SOFTWARE", "Software"))


def _entry(text: str) -> Entry:
    # Of 100,000 scenes on a busy file system none is looked for that need not be.
    parts = (text,) if "+" not in text or os.path.exists(text) else tuple(text.split("+"))
    return Entry(stem(parts[0]), parts)


def stem(path: str) -> str:
    """The last part of a path without its suffix; paths that only GDAL understands have one too."""
    last = path.rstrip("/").rsplit("/", 1)[-1]
    return last if "." not in last else last.rsplit(".", 1)[0]


def _manifest(path: Path) -> list[Entry]:
    """A text file with a scene a line, or a CSV or GeoPackage with a column "scene" and perhaps "id".

    Relative paths start at the manifest.
    """
    if path.suffix.lower() == ".gpkg":
        return _entries(path, _table(path))
    try:
        # Spreadsheets begin their CSV files with a byte order mark.
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix.lower() == ".csv":
        return _entries(path, list(csv.DictReader(lines, skipinitialspace=True)))
    return _entries(path, [{"scene": line.strip()} for line in lines])


def _table(path: Path) -> list[dict[str, str]]:
    """The fields of all features of a vector file, as text."""
    try:
        dataset = gdal.OpenEx(str(path), gdal.OF_VECTOR)
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}") from error
    return [_fields(feature) for k in range(dataset.GetLayerCount()) for feature in dataset.GetLayer(k)]


def _fields(feature: ogr.Feature) -> dict[str, str]:
    """The fields that are set, as text; dates as year-month-day, which GDAL gives with slashes."""
    found = {name: str(value) for name, value in feature.items().items() if value is not None}
    for k in range(feature.GetFieldCount()):
        name = feature.GetFieldDefnRef(k).GetName()
        if name in found and feature.GetFieldDefnRef(k).GetType() in (ogr.OFTDate, ogr.OFTDateTime):
            found[name] = found[name].replace("/", "-")
    return found


def _entries(path: Path, rows: list[dict[Any, Any]]) -> list[Entry]:
    """Scenes of a manifest's rows. Raises UsageError: no such column, a row without a scene or with more cells than columns."""
    if rows and "scene" not in rows[0]:
        raise UsageError(f"{path}: no column scene among {', '.join(rows[0])}")
    whole = path.absolute()
    return [_of_row(path, whole, number, row) for number, row in enumerate(rows, start=1)]


def _of_row(path: Path, whole: Path, number: int, row: dict[Any, Any]) -> Entry:
    """The scene of a row. whole: the absolute path of the manifest."""
    if None in row:
        raise UsageError(f"{path}, row {number}: more cells than the {len(row) - 1} columns: put a cell that has a comma in quotes")
    cells = {column.strip(): (value or "").strip() for column, value in row.items()}
    if not cells["scene"]:
        raise UsageError(f"{path}, row {number}: its column scene is empty")
    entry = _entry(_beside(path, cells["scene"]))
    columns = {column: value for column, value in cells.items() if column and value and column not in _STAY}
    columns |= {column: _beside(whole, columns[column]) for column in PATH_COLUMNS if column in columns}
    return Entry(cells.get("id") or entry.name, entry.parts, columns)


def _stands_alone(part: str) -> bool:
    """True for what means the same in every folder: absolute and /vsi paths, addresses, names of GDAL's drivers."""
    return part.startswith("/") or ":" in part


def _beside(manifest: Path, text: str) -> str:
    """A path, or several joined by "+", that a file gives relative to itself."""
    folder = os.path.dirname(manifest)
    parts = [text] if "+" not in text or os.path.exists(os.path.join(folder, text)) else text.split("+")
    return "+".join(part if _stands_alone(part) else os.path.normpath(os.path.join(folder, part)) for part in parts)


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
    told = item.get("properties") or {}
    date = told.get("datetime") or told.get("start_datetime")
    parts = tuple(_beside(path, there[name]["href"]) for name in chosen)
    return Entry(str(item.get("id", path.stem)), parts, {"date": str(date)} if date else {})
