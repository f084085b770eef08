"""Polygons of a vector file burned into classes on the fly.

Polygons are carried to the scene's pixels once. They are burned in fixed cells of 512 pixels that are kept in the cells' cache, so
that a pixel's class cannot depend on the window that asks for it.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import shapely
from osgeo import gdal, ogr, osr

from hpcseg.errors import SceneError
from hpcseg.footprint import to_pixels
from hpcseg.raster.cells import Cell, CellCache
from hpcseg.raster.scene import Scene
from hpcseg.tiles import Window

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb")
_CELL = 512
_NO_MASK = np.empty((0, 0), np.uint8)
_FLAT_POLYGONS = (ogr.wkbPolygon, ogr.wkbMultiPolygon)


class Polygons(NamedTuple):
    """Polygons in a scene's pixels (x = column, y = row), in the file's order, and the text of an attribute of each."""

    shapes: np.ndarray
    values: list[str]


class PolygonBurner:
    """Windows of burned polygons: a pixel is inside if its centre is; where polygons overlap the later one counts.

    classes: u8 (n,), one per shape. background: of pixels outside all of them. key: of its cells in the cache, the same for a burner
    that is made again; None = they are its own. Safe for several threads.
    """

    def __init__(
        self, shapes: np.ndarray, classes: np.ndarray, background: int, extent: Window, cache: CellCache, key: object = None
    ) -> None:
        self._shapes, self._classes, self._background = shapes, classes, background
        self._extent, self._cache, self._key = extent, cache, key or object()
        self._bounds = shapely.bounds(shapes).reshape(-1, 4).T

    def read(self, window: Window) -> np.ndarray:
        """The classes of a window within the scene, u8 (height, width)."""
        out = np.empty((window.height, window.width), np.uint8)
        for row in range(window.row // _CELL * _CELL, window.stop[0], _CELL):
            for col in range(window.col // _CELL * _CELL, window.stop[1], _CELL):
                place = Window(row, col, _CELL, _CELL).intersect(self._extent)
                cell = self._cache.get((self._key, row, col), partial(self._burn, place))
                part = place.intersect(window)
                out[part.relative_to(window).slices] = cell.pixels[part.relative_to(place).slices]
        return out

    def _burn(self, place: Window) -> Cell:
        left, top, right, bottom = self._bounds
        near = (left < place.stop[1]) & (right > place.col) & (top < place.stop[0]) & (bottom > place.row)
        raster = gdal.GetDriverByName("MEM").Create("", place.width, place.height, 1, gdal.GDT_Byte)
        raster.SetGeoTransform((place.col, 1.0, 0.0, place.row, 0.0, 1.0))
        raster.GetRasterBand(1).Fill(self._background)
        if near.any():
            vector = _layer_of(self._shapes[near], self._classes[near])
            gdal.RasterizeLayer(raster, [1], vector.GetLayer(0), options=["ATTRIBUTE=class"])
        return Cell(raster.ReadAsArray(), _NO_MASK)


def _layer_of(shapes: np.ndarray, classes: np.ndarray) -> ogr.DataSource:
    """A vector file in memory with these shapes and their field "class"."""
    source = ogr.GetDriverByName("Memory").CreateDataSource("")
    layer = source.CreateLayer("", None, ogr.wkbUnknown)
    layer.CreateField(ogr.FieldDefn("class", ogr.OFTInteger))
    for wkb, number in zip(shapely.to_wkb(shapes), classes, strict=True):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(wkb))
        feature.SetField(0, int(number))
        layer.CreateFeature(feature)
    return source


def read_polygons(path: str, scene: Scene, field: str = "") -> Polygons:
    """The polygons of all layers of a vector file that may meet a scene. field: the attribute to read, "" = none.

    Reference systems: the file's is carried to the scene's. If the scene has none the file must have none either; its coordinates
    are then those that `place_in` takes. A file without features is an empty scene.
    Raises SceneError: not readable, systems that do not fit, a scene with ground control points only, no polygons, no such field.
    """
    check_placed(path, scene)
    try:
        dataset = gdal.OpenEx(path, gdal.OF_VECTOR)
        layers = [dataset.GetLayer(k) for k in range(dataset.GetLayerCount())]
        found = [_read_layer(path, layer, scene, field) for layer in layers if layer.GetGeomType() != ogr.wkbNone]
    except RuntimeError as error:
        raise SceneError(f"{path}: cannot be read as polygons: {str(error)[:300]}") from error
    features = sum(layer.GetFeatureCount() for layer in layers)
    shapes = np.array(shapely.from_wkb([wkb for blobs, _, _ in found for wkb in blobs]), object)
    if features and not shapes.size and any(others for _, _, others in found):
        raise SceneError(f"{path}: has {features} features near {scene.name}, but no polygons among them")
    return Polygons(place_in(scene, shapes), [value for _, values, _ in found for value in values])


def check_placed(path: str, scene: Scene) -> None:
    """Raises SceneError if a scene's pixels cannot be had from coordinates."""
    if scene.place.transform is None and (scene.place.wkt or scene.place.gcps):
        given = "ground control points only: gdalwarp it" if scene.place.gcps else "a reference system only"
        raise SceneError(f"{path}: places on the ground need a scene with a geotransform; {scene.name} has {given}")


def place_in(scene: Scene, shapes: np.ndarray) -> np.ndarray:
    """Shapes in the scene's system, carried to its pixels.

    Without a geotransform they are pixels, with y downwards; or upwards from the top edge, y = -row, as GIS programs lay out an image
    and as hpcseg writes it. No y above 0 tells the latter: downwards that is outside.
    """
    if scene.place.transform is not None:
        return to_pixels(shapes, scene.place)
    upwards = not (shapely.bounds(shapes).reshape(-1, 4)[:, 3] > 0).any()
    return shapely.transform(shapes, lambda points: points * (1, -1)) if upwards else shapes


def _read_layer(path: str, layer: ogr.Layer, scene: Scene, field: str) -> tuple[list[bytes], list[str], int]:
    """WKB of a layer's polygons in the scene's reference system, their attribute, and the number of other features."""
    index = field_index(path, layer, field)
    move = transformation(path, layer, scene)
    blobs, values, others = [], [], 0
    for feature in layer:
        geometry = feature.GetGeometryRef()
        if geometry is None or geometry.IsEmpty():
            continue
        flat = geometry.GetLinearGeometry()
        if ogr.GT_Flatten(flat.GetGeometryType()) not in _FLAT_POLYGONS:
            others += 1
            continue
        flat.CloseRings()
        if move is not None:
            flat.Transform(move)
        blobs.append(bytes(flat.ExportToWkb()))
        values.append(feature.GetFieldAsString(index) if field else "")
    return blobs, values, others


def field_index(path: str, layer: ogr.Layer, field: str) -> int:
    """Number of a layer's field, -1 for none and for a layer without features. Raises SceneError naming those there are."""
    names = [each.GetName() for each in layer.schema]
    if field and layer.GetFeatureCount() and field not in names:
        raise SceneError(f"{path}: layer {layer.GetName()} has no field {field}, but {', '.join(names) or 'none at all'}")
    return names.index(field) if field in names else -1


def transformation(path: str, layer: ogr.Layer, scene: Scene) -> osr.CoordinateTransformation | None:
    """From the layer's reference system to the scene's, None if neither has one; the layer then gives what is near the scene."""
    source = layer.GetSpatialRef()
    # GeoPackages without a reference system say "Undefined geographic SRS" or "Undefined Cartesian SRS".
    absent = source is None or source.IsLocal() or source.GetName().startswith("Undefined")
    source = None if absent else source.Clone()
    if source is None and not scene.place.wkt:
        return None
    if source is None:
        raise SceneError(f"{path}: layer {layer.GetName()} has no reference system, but {scene.name} has one: say it (ogr2ogr -a_srs)")
    if not scene.place.wkt:
        hint = " (a GeoJSON always has one: use a GeoPackage or Shapefile without)" if "json" in path.lower() else ""
        raise SceneError(f"{path}: is in {source.GetName()}, but {scene.name} has no reference system: give one without{hint}")
    target = osr.SpatialReference(scene.place.wkt)
    for system in (source, target):
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    _look_near(layer, scene, osr.CoordinateTransformation(target, source))
    return osr.CoordinateTransformation(source, target)


def _look_near(layer: ogr.Layer, scene: Scene, back: osr.CoordinateTransformation) -> None:
    """Let a layer give only what meets the scene's bounds, widened by their own size: edges bend between reference systems."""
    x0, xc, xr, y0, yc, yr = scene.place.transform or (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    corners = [(x0 + xc * c + xr * r, y0 + yc * c + yr * r) for r in (0, scene.height) for c in (0, scene.width)]
    x, y = zip(*corners, strict=True)
    west, south, east, north = back.TransformBounds(min(x), min(y), max(x), max(y), 21)
    # Bounds across the antimeridian come back as west > east: then everything is read.
    if np.isfinite([west, south, east, north]).all() and west < east:
        wide, high = east - west, north - south
        layer.SetSpatialFilterRect(west - wide, south - high, east + wide, north + high)
