"""Areas of interest: polygons from any vector file, carried onto a scene's pixels."""

from __future__ import annotations

import shapely
from osgeo import gdal, ogr, osr

from hpcseg.errors import SceneError, UsageError
from hpcseg.footprint import to_pixels
from hpcseg.raster.scene import Scene


def read_aoi(path: str, scene: Scene) -> str:
    """The union of a vector file's polygons in a scene's pixels, as WKT; "POLYGON EMPTY" if they do not meet.

    Raises UsageError for a file without polygons, SceneError for a scene without a reference system or transform.
    """
    if not scene.place.wkt or scene.place.transform is None:
        raise SceneError("has no reference system and transform, which an area of interest needs")
    target = osr.SpatialReference(scene.place.wkt)
    target.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    ground = shapely.union_all(_polygons(path, target))
    pixels = shapely.intersection(to_pixels(ground, scene.place), shapely.box(0, 0, scene.width, scene.height))
    return shapely.to_wkt(pixels, rounding_precision=-1) if not pixels.is_empty else "POLYGON EMPTY"


def _polygons(path: str, target: osr.SpatialReference) -> list[shapely.Geometry]:
    try:
        dataset = gdal.OpenEx(path, gdal.OF_VECTOR)
    except RuntimeError as error:
        raise UsageError(f"area of interest {path}: {error}") from error
    found = []
    for k in range(dataset.GetLayerCount()):
        layer = dataset.GetLayer(k)
        source = layer.GetSpatialRef()
        if source is None:
            raise UsageError(f"area of interest {path}: its layer {layer.GetName()} has no reference system")
        source.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        move = osr.CoordinateTransformation(source, target)
        for feature in layer:
            geometry = feature.GetGeometryRef()
            if geometry is not None and ogr.GT_Flatten(geometry.GetGeometryType()) in (ogr.wkbPolygon, ogr.wkbMultiPolygon):
                geometry = geometry.Clone()
                geometry.Transform(move)
                found.append(shapely.make_valid(shapely.from_wkb(bytes(geometry.ExportToWkb()))))
    if not found:
        raise UsageError(f"area of interest {path}: no polygons in it")
    return found
