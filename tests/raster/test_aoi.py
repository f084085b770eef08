"""Areas of interest: polygons of any file and system, on a scene's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from osgeo import ogr, osr

from hpcseg.errors import SceneError, UsageError
from hpcseg.raster import describe, read_aoi

LEFT = shapely.box(500000, 4999200, 500300, 5000000)


@pytest.fixture
def scene(make_scene, tmp_path):
    """80 x 90 pixels of 10 m in EPSG:32633."""
    return describe(str(make_scene(tmp_path / "a.tif", 80, 90)), "a")


def write(path, *shapes, epsg=32633, driver="GPKG"):
    """A vector file of geometries that are given in EPSG:32633."""
    systems = [osr.SpatialReference() for _ in range(2)]
    for system, code in zip(systems, (32633, epsg or 32633), strict=True):
        system.ImportFromEPSG(code)
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    move = osr.CoordinateTransformation(*systems)
    source = ogr.GetDriverByName(driver).CreateDataSource(str(path))
    layer = source.CreateLayer("areas", systems[1] if epsg else None)
    for shape in shapes:
        feature = ogr.Feature(layer.GetLayerDefn())
        geometry = ogr.CreateGeometryFromWkb(shapely.to_wkb(shape))
        geometry.Transform(move)
        feature.SetGeometry(geometry)
        layer.CreateFeature(feature)
    return str(path)


@pytest.mark.parametrize(("epsg", "driver"), [(32633, "GPKG"), (4326, "GeoJSON"), (3035, "FlatGeobuf")])
def test_polygons_of_any_system_lie_on_the_scene_s_pixels(scene, tmp_path, epsg, driver):
    area = shapely.from_wkt(read_aoi(write(tmp_path / "aoi.x", LEFT, epsg=epsg, driver=driver), scene))
    np.testing.assert_allclose(area.bounds, (0, 0, 30, 80), atol=0.01)


def test_the_area_is_the_union_of_all_polygons_within_the_scene(scene, tmp_path):
    halves = shapely.box(499000, 4999800, 500100, 5009000), shapely.box(500050, 4999800, 500200, 5000000)
    area = shapely.from_wkt(read_aoi(write(tmp_path / "aoi.gpkg", *halves), scene))
    assert area.bounds == (0, 0, 20, 20)
    assert area.area == 400


def test_an_area_elsewhere_is_empty(scene, tmp_path):
    assert read_aoi(write(tmp_path / "aoi.gpkg", shapely.box(0, 0, 1, 1)), scene) == "POLYGON EMPTY"


def test_files_that_give_no_area_are_refused_by_name(scene, tmp_path):
    with pytest.raises(UsageError, match=r"area of interest .*absent\.gpkg"):
        read_aoi(str(tmp_path / "absent.gpkg"), scene)
    with pytest.raises(UsageError, match=r"points\.gpkg: no polygons in it"):
        read_aoi(write(tmp_path / "points.gpkg", shapely.Point(500000, 5000000)), scene)
    with pytest.raises(UsageError, match="its layer bare has no reference system"):
        read_aoi(write(tmp_path / "bare.shp", LEFT, epsg=None, driver="ESRI Shapefile"), scene)


def test_a_scene_that_does_not_say_where_it_lies_is_refused(make_scene, tmp_path):
    bare = describe(str(make_scene(tmp_path / "b.tif", 9, 9, transform=None, epsg=None)), "b")
    with pytest.raises(SceneError, match="no reference system and transform, which an area of interest needs"):
        read_aoi(write(tmp_path / "aoi.gpkg", LEFT), bare)
