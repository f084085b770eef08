"""Reading scenes: the owner of osgeo. GDAL raises exceptions, and its warnings stay silent."""

from osgeo import gdal, ogr, osr

from hpcseg.raster.cells import CellCache, SceneReader, Values, set_block_cache
from hpcseg.raster.listing import Entry, list_scenes, open_name
from hpcseg.raster.scene import NodataRule, Scene, describe, estimate_valid

for _module in (gdal, ogr, osr):
    _module.UseExceptions()
gdal.SetErrorHandler("CPLQuietErrorHandler")

__all__ = [
    "CellCache",
    "Entry",
    "NodataRule",
    "Scene",
    "SceneReader",
    "Values",
    "describe",
    "estimate_valid",
    "list_scenes",
    "open_name",
]
