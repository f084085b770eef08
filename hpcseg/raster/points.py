"""Points of a vector file, a table or an annotated picture, in a scene's pixels; boxes and outlines count at their bounds' centre."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import shapely
from osgeo import gdal, ogr, osr

from hpcseg.errors import SceneError
from hpcseg.raster.burn import VECTOR_SUFFIXES, check_placed, field_index, place_in, transformation
from hpcseg.raster.listing import stem
from hpcseg.raster.scene import Scene

_BOX = ("xmin", "ymin", "xmax", "ymax")
_SCENE = ("scene", "image_path", "filename")
_LABEL = ("label", "class", "name")
_WGS84 = 4326


class Points(NamedTuple):
    """Points within a scene. rows, cols: float64 (n,), in pixels from its upper left corner. values: text of an attribute of each.
    numbers: int64 (n,), which of the file's `total` points they are."""

    rows: np.ndarray
    cols: np.ndarray
    values: list[str]
    numbers: np.ndarray
    total: int


def read_points(path: str, scene: Scene, field: str = "") -> Points:
    """The points of a file that lie within a scene. field: the attribute, column or tag to read; "" = none of a vector file, of a table
    its column label, class or name if there is one, of a picture the boxes' names.

    Where a table, or a layer, has a column scene, image_path or filename, only what is of this scene counts.
    Vector file: any reference system, carried to the scene's; where the scene has none the file must have none. Table (.csv): col,row or
    xmin,ymin,xmax,ymax in pixels, x,y in the scene's system, or lon,lat. Where a scene has no geotransform, `burn.place_in` says what x
    and y are. Pascal VOC (.xml): boxes in pixels of a picture as large as the scene.
    Raises SceneError, beginning with the path: not readable, systems that do not fit, columns that are missing, cells that are no numbers.
    """
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".csv":
            return _within(scene, *_read_table(path, scene, field))
        if suffix == ".xml":
            return _within(scene, *_read_voc(path, scene, field))
        if suffix in VECTOR_SUFFIXES:
            return _within(scene, *_read_vector(path, scene, field))
    except (OSError, RuntimeError, UnicodeDecodeError, csv.Error, ElementTree.ParseError) as error:
        raise SceneError(f"{path}: cannot be read as points: {' '.join(str(error).split())[:300]}") from error
    raise SceneError(f"{path}: points are read from {', '.join(VECTOR_SUFFIXES)}, .csv and .xml (Pascal VOC)")


def _within(scene: Scene, x: np.ndarray, y: np.ndarray, values: Sequence[str], numbers: np.ndarray, total: int) -> Points:
    """Those of the points, in pixels, that lie in the scene; what could not be carried there is not finite."""
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (x < scene.width) & (y >= 0) & (y < scene.height)
    return Points(y[inside], x[inside], [values[k] for k in np.flatnonzero(inside).tolist()], numbers[inside], total)


def _map_to_pixels(path: str, scene: Scene, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in the scene's system as pixels."""
    check_placed(path, scene)
    carried = shapely.get_coordinates(place_in(scene, shapely.points(x, y)))
    return carried[:, 0], carried[:, 1]


_Read = tuple[np.ndarray, np.ndarray, list[str], np.ndarray, int]


def _read_vector(path: str, scene: Scene, field: str) -> _Read:
    dataset = gdal.OpenEx(path, gdal.OF_VECTOR)
    layers = [dataset.GetLayer(k) for k in range(dataset.GetLayerCount())]
    blobs: list[bytes] = []
    values, numbers, total = [], [], 0
    for layer in (each for each in layers if each.GetGeomType() != ogr.wkbNone):
        index, first = field_index(path, layer, field), total
        total += layer.GetFeatureCount()
        names = [each.GetName() for each in layer.schema]
        of_scene = next((name for name in _SCENE if name in names), "")
        # A layer of other scenes may be in a system that does not fit this one.
        if of_scene and not any(_is_of(scene, feature.GetFieldAsString(of_scene)) for feature in layer):
            continue
        move = transformation(path, layer, scene)
        for feature in layer:
            if of_scene and not _is_of(scene, feature.GetFieldAsString(of_scene)):
                continue
            geometry = feature.GetGeometryRef()
            if geometry is None or geometry.IsEmpty():
                continue
            if move is not None:
                geometry.Transform(move)
            blobs.append(bytes(geometry.ExportToWkb()))
            values.append(feature.GetFieldAsString(index) if field else "")
            numbers.append((first << 32) + feature.GetFID())
    # Several points of one feature are several objects.
    shapes, whose = shapely.get_parts(np.array(shapely.from_wkb(blobs), object), return_index=True)
    left, top, right, bottom = shapely.bounds(shapes).reshape(-1, 4).T
    x, y = _map_to_pixels(path, scene, (left + right) / 2, (top + bottom) / 2)
    return x, y, [values[k] for k in whose.tolist()], np.array(numbers, np.int64)[whose], total


def _read_table(path: str, scene: Scene, field: str) -> _Read:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns, rows = list(reader.fieldnames or []), list(reader)
    if field and field not in columns:
        raise SceneError(f"{path}: has no column {field}, but {', '.join(columns) or 'none at all'}")
    of_scene = next((name for name in _SCENE if name in columns), "")
    mine = [k for k, row in enumerate(rows) if not of_scene or _is_of(scene, row[of_scene] or "")]
    table = {name: _numbers(path, name, rows, mine) for name in {"x", "y", "lon", "lat", "col", "row", *_BOX} & set(columns)}
    x, y = _places(path, scene, table, columns)
    column = field or next((name for name in _LABEL if name in columns), "")
    return x, y, [rows[k][column] if column else "" for k in mine], np.array(mine, np.int64), len(rows)


def _is_of(scene: Scene, told: str) -> bool:
    """Whether a name or a file is the scene's."""
    return scene.name in (told, stem(told))


def _numbers(path: str, name: str, rows: Sequence[dict[str, str]], mine: Sequence[int]) -> np.ndarray:
    try:
        return np.array([float(rows[k][name]) for k in mine], float)
    except (TypeError, ValueError) as error:
        raise SceneError(f"{path}: column {name}: {error}") from error


def _places(path: str, scene: Scene, table: dict[str, np.ndarray], columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels by the first of the ways to give a place that the table has. Where a scene has no system, pixels say more than x and y."""
    if {"x", "y"} <= table.keys() and (scene.place.transform is not None or not {"col", "row"} <= table.keys()):
        return _map_to_pixels(path, scene, table["x"], table["y"])
    if {"lon", "lat"} <= table.keys():
        return _map_to_pixels(path, scene, *_from_degrees(path, scene, table["lon"], table["lat"]))
    if {"col", "row"} <= table.keys():
        return table["col"], table["row"]
    if table.keys() >= set(_BOX):
        return (table["xmin"] + table["xmax"]) / 2, (table["ymin"] + table["ymax"]) / 2
    raise SceneError(f"{path}: has the columns {', '.join(columns) or 'none'}; wanted x,y or lon,lat or col,row or {','.join(_BOX)}")


def _from_degrees(path: str, scene: Scene, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees (WGS 84) in the scene's system; inf where it has no such place."""
    if not scene.place.wkt:
        raise SceneError(f"{path}: has columns lon and lat, but {scene.name} has no reference system: give col and row")
    source, target = osr.SpatialReference(), osr.SpatialReference(scene.place.wkt)
    source.ImportFromEPSG(_WGS84)
    for system in (source, target):
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    move = osr.CoordinateTransformation(source, target)
    carried = np.array([_carry(move, *each) for each in zip(lon.tolist(), lat.tolist(), strict=True)], float).reshape(-1, 2)
    return carried[:, 0], carried[:, 1]


def _carry(move: osr.CoordinateTransformation, x: float, y: float) -> tuple[float, float]:
    try:
        return move.TransformPoint(x, y)[:2]
    except RuntimeError:
        return np.inf, np.inf


def _read_voc(path: str, scene: Scene, field: str) -> _Read:
    root = ElementTree.parse(path).getroot()
    try:
        size = [int(root.findtext(f"size/{tag}") or 0) for tag in ("width", "height")]
        boxes = np.array([[float(each.findtext(f"bndbox/{tag}") or "nan") for tag in _BOX] for each in root.iter("object")], float)
    except ValueError as error:
        raise SceneError(f"{path}: is no Pascal VOC: {error}") from error
    if any(size) and size != [scene.width, scene.height]:
        raise SceneError(f"{path}: has boxes of a picture of {size[0]}x{size[1]} pixels, {scene.name} is {scene.width}x{scene.height}")
    values = [each.findtext(field or "name") or "" for each in root.iter("object")]
    left, top, right, bottom = boxes.reshape(-1, 4).T
    return (left + right) / 2, (top + bottom) / 2, values, np.arange(len(boxes)), len(boxes)
