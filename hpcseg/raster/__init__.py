"""Reading scenes: the owner of osgeo. GDAL raises exceptions, and its warnings stay silent."""

from osgeo import gdal, ogr, osr

from hpcseg.raster.aoi import read_aoi
from hpcseg.raster.burn import VECTOR_SUFFIXES, PolygonBurner, read_polygons
from hpcseg.raster.cells import CellCache, SceneReader, Values, set_block_cache
from hpcseg.raster.filtered import Reader, open_reader, plain_values
from hpcseg.raster.labels import describe_labels, differing_grid
from hpcseg.raster.listing import PATH_COLUMNS, Entry, list_scenes
from hpcseg.raster.masks import read_mask_rule
from hpcseg.raster.metadata import read_metadata
from hpcseg.raster.offsets import read_added_offsets
from hpcseg.raster.opening import open_label, open_mask, open_name
from hpcseg.raster.pairing import POINT_SUFFIXES, Pair, pair_labels
from hpcseg.raster.points import Points, read_points
from hpcseg.raster.scene import NodataRule, Scene, describe, estimate_cost, read_array, with_mask
from hpcseg.raster.write import create_geotiff, epsg_wkt

for _module in (gdal, ogr, osr):
    _module.UseExceptions()
gdal.SetErrorHandler("CPLQuietErrorHandler")


def version() -> str:
    """GDAL's version."""
    return gdal.VersionInfo("RELEASE_NAME")


__all__ = [
    "PATH_COLUMNS",
    "POINT_SUFFIXES",
    "VECTOR_SUFFIXES",
    "CellCache",
    "Entry",
    "NodataRule",
    "Pair",
    "Points",
    "PolygonBurner",
    "Reader",
    "Scene",
    "SceneReader",
    "Values",
    "create_geotiff",
    "describe",
    "describe_labels",
    "differing_grid",
    "epsg_wkt",
    "estimate_cost",
    "list_scenes",
    "open_label",
    "open_mask",
    "open_name",
    "open_reader",
    "pair_labels",
    "plain_values",
    "read_added_offsets",
    "read_aoi",
    "read_array",
    "read_mask_rule",
    "read_metadata",
    "read_points",
    "read_polygons",
    "set_block_cache",
    "with_mask",
]
