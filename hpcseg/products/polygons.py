"""Polygons of a whole map as a GeoPackage: borders follow the classes, never the tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from osgeo import gdal, ogr

from hpcseg import __version__
from hpcseg.area import BLOCK, Mapping, ground_plane, pixel_to_map, reference_system
from hpcseg.config import Class
from hpcseg.errors import StoreError
from hpcseg.products.cog import Product, legend, manifest_items, publishing, staged, text, tile_notes
from hpcseg.store import Stored

_BATCH = 4096
_FIELDS = (("class", ogr.OFTInteger), ("name", ogr.OFTString), ("area_m2", ogr.OFTReal), ("area_px", ogr.OFTInteger64))


def write_polygons(stored: Stored, out: Path, min_area_px: int, connectivity: Literal[4, 8] = 4) -> Product:
    """Write the connected patches of each class as a layer named after `out`.

    Fields: class, name, area_m2 (on the ellipsoid; null where unknown), area_px. No data makes no polygon. Patches of fewer
    than `min_area_px` pixels are merged into their largest neighbour; those that border no data alone stay. connectivity: 8 =
    pixels that touch at a corner belong to one patch.

    Polygons lie in the scene's own system. A scene that has control points only is carried to theirs by GDAL's polynomial. A
    scene without any georeference gives x = column, y = -row, which is how GIS programs lay out the image itself.
    """
    classes = legend(stored)
    with publishing(out) as part:
        raw = part.with_name(f"{part.name}.raw.fgb")
        with staged(stored, "labels", part) as dataset:
            _polygonize(dataset.GetRasterBand(1), raw, min_area_px, connectivity)
        _finish(stored, classes, raw, part, out.stem)
        raw.unlink()
    return Product(out, (out,), tile_notes(stored))


def _polygonize(band: gdal.Band, raw: Path, min_area_px: int, connectivity: Literal[4, 8]) -> None:
    """Polygons in pixel coordinates (x = column, y = row) with their class, in a scratch file."""
    mask = band.GetMaskBand()
    if min_area_px > 1:
        gdal.SieveFilter(band, mask, band, min_area_px, connectivity)
    target = ogr.GetDriverByName("FlatGeobuf").CreateDataSource(str(raw))
    layer = target.CreateLayer("raw", None, ogr.wkbPolygon, ["SPATIAL_INDEX=NO"])
    layer.CreateField(ogr.FieldDefn("class", ogr.OFTInteger))
    gdal.Polygonize(band, mask, layer, 0, ["8CONNECTED=8"] if connectivity == 8 else [])


def _finish(stored: Stored, classes: list[Class], raw: Path, part: Path, name: str) -> None:
    """Carry the scratch polygons to the ground, measure them and write the layer."""
    target = ogr.GetDriverByName("GPKG").CreateDataSource(str(part))
    try:
        _fill(_create_layer(target, stored, classes, name), stored, classes, raw)
        target.FlushCache()
    finally:
        # While its file is still there: what an error leaves open would write to it when it is collected.
        target.Destroy()


def _fill(layer: ogr.Layer, stored: Stored, classes: list[Class], raw: Path) -> None:
    grid = stored.layout.grid
    plane = ground_plane(stored.place, grid.height, grid.width)
    layer.StartTransaction()
    for labels, shapes in _batches(raw):
        if max(labels) >= len(classes):
            raise StoreError(f"{stored.path}: label {max(labels)}, but the legend names {len(classes)} classes")
        pixels, metres = shapely.area(shapes), _areas_m2(shapes, plane)
        for k, shape in enumerate(shapely.to_wkb(_to_map(shapes, stored))):
            values = labels[k], classes[labels[k]].name, metres[k], round(pixels[k])
            _add(layer, shape, values)
    layer.CommitTransaction()


def _create_layer(target: ogr.DataSource, stored: Stored, classes: list[Class], name: str) -> ogr.Layer:
    layer = target.CreateLayer(name, reference_system(stored.place), ogr.wkbPolygon)
    for field, kind in _FIELDS:
        layer.CreateField(ogr.FieldDefn(field, kind))
    for item, value in layer_items(stored, classes).items():
        layer.SetMetadataItem(item, value)
    return layer


def layer_items(stored: Stored, classes: Sequence[Class]) -> dict[str, str]:
    """What a layer's metadata say: what the manifest said of the scene, what made the map, and its legend."""
    made = {"model": text(stored.attributes["model"])} if "model" in stored.attributes else {}
    return manifest_items(stored) | {"hpcseg_version": __version__} | made | legend_items(classes)


def legend_items(classes: Sequence[Class]) -> dict[str, str]:
    """Classes as metadata of a layer."""
    return {f"class_{k}": f"{each.color} {each.name}" for k, each in enumerate(classes)}


def _batches(raw: Path) -> Iterator[tuple[list[int], np.ndarray]]:
    """Labels and polygons of the scratch file, a bounded number at a time."""
    source = ogr.Open(str(raw))
    features = iter(source.GetLayer(0))
    while batch := [(f.GetField(0), bytes(f.GetGeometryRef().ExportToWkb())) for f in islice(features, _BATCH)]:
        yield [label for label, _ in batch], shapely.from_wkb([shape for _, shape in batch])


def _areas_m2(shapes: np.ndarray, plane: Mapping | None) -> list[float | None]:
    """Ground areas; edges are cut at least once a block, for a straight line of pixels is none on the ground."""
    if plane is None:
        return [None] * len(shapes)
    areas = shapely.area(_moved(_segmentize(shapes), plane))
    return [float(a) if np.isfinite(a) else None for a in areas]


def _to_map(shapes: np.ndarray, stored: Stored) -> np.ndarray:
    """Polygons in the coordinates of the layer. A polynomial bends edges, so those are cut first; a transform does not."""
    to_map = pixel_to_map(stored.place)
    if to_map is None:
        return _moved(shapes, lambda rows, cols: (cols, -rows))
    bent = stored.place.transform is None
    return _moved(_segmentize(shapes) if bent else shapes, to_map)


def _segmentize(shapes: np.ndarray) -> np.ndarray:
    """Cut edges to at most a block. OGR does it: GEOS would validate each polygon, which takes minutes for a background."""
    bounds, result = shapely.bounds(shapes), shapes.copy()
    for k in np.flatnonzero((bounds[:, 2:] - bounds[:, :2] > BLOCK).any(1)):
        shape = ogr.CreateGeometryFromWkb(shapely.to_wkb(shapes[k]))
        shape.Segmentize(BLOCK)
        result[k] = shapely.from_wkb(bytes(shape.ExportToWkb()))
    return result


def _moved(shapes: np.ndarray, mapping: Mapping) -> np.ndarray:
    return shapely.transform(shapes, lambda points: np.stack(mapping(points[:, 1], points[:, 0]), 1))


def _add(layer: ogr.Layer, shape: bytes, values: tuple[int, str, float | None, int]) -> None:
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(shape))
    for k, value in enumerate(values):
        if value is not None:
            feature.SetField(k, value)
    layer.CreateFeature(feature)
