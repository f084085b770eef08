"""Burned polygons: GDAL's own answer for the whole scene, whatever the window; any reference system; refusals by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from osgeo import gdal, ogr, osr

from hpcseg.errors import SceneError
from hpcseg.footprint import covered_pixels
from hpcseg.raster import CellCache, PolygonBurner, describe, read_polygons
from hpcseg.raster.cells import Cell
from hpcseg.tiles import Window

UTM = 32633
NORTH_UP = (500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0)
ROTATED = (500000.0, 9.0, 3.0, 5000000.0, 3.0, -9.0)
HEIGHT, WIDTH = 700, 1100
EXTENT = Window(0, 0, HEIGHT, WIDTH)


def system(epsg):
    found = osr.SpatialReference()
    found.ImportFromEPSG(epsg)
    found.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return found


def write_vector(path, shapes, values=None, epsg=UTM, driver="GPKG"):
    """A vector file of shapely geometries with the field "kind"; returns its path."""
    source = ogr.GetDriverByName(driver).CreateDataSource(str(path))
    layer = source.CreateLayer("labels", system(epsg) if epsg else None, ogr.wkbUnknown if driver != "ESRI Shapefile" else ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("kind", ogr.OFTString))
    for k, shape in enumerate(shapes):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(shapely.to_wkb(shape)))
        if values is not None and values[k] is not None:
            feature.SetField("kind", values[k])
        layer.CreateFeature(feature)
    del layer, source
    return str(path)


def stars(seed, count=40, height=HEIGHT, width=WIDTH):
    """Star-shaped polygons in pixels, some with a hole, some self-crossing, some reaching over the scene's edge."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        if k % 7 == 0:
            rng.shuffle(angles)
        centre, size = rng.uniform(-20, [width + 20, height + 20]), rng.uniform(3, 150)
        radius = size * rng.uniform(0.3, 1, len(angles))
        rim = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
        holes = [centre + (rim - centre) * 0.4] if k % 3 == 0 else []
        found.append(shapely.Polygon(rim, holes))
    return found


def to_ground(shapes, transform):
    a, b, c, d, e, f = transform
    return [shapely.transform(s, lambda p: np.stack([a + b * p[:, 0] + c * p[:, 1], d + e * p[:, 0] + f * p[:, 1]], 1)) for s in shapes]


def scene_of(make_scene, tmp_path, transform=NORTH_UP, epsg=UTM):
    return describe(str(make_scene(tmp_path / "s.tif", HEIGHT, WIDTH, 1, transform=transform, epsg=epsg)), "s")


def gdal_whole(path, scene):
    """The file burned by GDAL over the whole scene at once, feature k as k % 200 + 1."""
    raster = gdal.GetDriverByName("MEM").Create("", scene.width, scene.height, 1, gdal.GDT_Byte)
    if scene.place.transform is not None:
        raster.SetGeoTransform(scene.place.transform)
    raster.SetProjection(scene.place.wkt)
    vector = gdal.OpenEx(path, gdal.OF_VECTOR)
    for k, feature in enumerate(vector.GetLayer(0)):
        memory = ogr.GetDriverByName("Memory").CreateDataSource("")
        layer = memory.CreateLayer("", vector.GetLayer(0).GetSpatialRef())
        layer.CreateFeature(feature)
        gdal.RasterizeLayer(raster, [1], layer, burn_values=[k % 200 + 1])
    return raster.ReadAsArray()


def burner_of(path, scene, cache=None, background=0):
    shapes = read_polygons(path, scene).shapes
    classes = (np.arange(len(shapes)) % 200 + 1).astype(np.uint8)
    return PolygonBurner(shapes, classes, background, Window(0, 0, scene.height, scene.width), cache or CellCache(1 << 26))


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED], ids=["north-up", "rotated"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cells_make_no_difference_to_gdal_burning_the_whole_scene(seed, transform, make_scene, tmp_path):
    scene = scene_of(make_scene, tmp_path, transform)
    path = write_vector(tmp_path / "a.gpkg", to_ground(stars(seed), transform))
    burned = burner_of(path, scene).read(EXTENT)
    assert 0.2 < (burned > 0).mean() < 0.95
    np.testing.assert_array_equal(burned, gdal_whole(path, scene))


@pytest.fixture(scope="module")
def whole():
    shapes = np.array(stars(5), object)
    return PolygonBurner(shapes, np.arange(1, 41, dtype=np.uint8), 0, EXTENT, CellCache(1 << 26)).read(EXTENT)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_window_is_cut_from_the_whole(seed, whole):
    rng = np.random.default_rng(seed)
    (top, bottom), (left, right) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in (HEIGHT, WIDTH))
    window = Window(int(top), int(left), int(bottom - top), int(right - left))
    burner = PolygonBurner(np.array(stars(5), object), np.arange(1, 41, dtype=np.uint8), 0, EXTENT, CellCache(0))
    np.testing.assert_array_equal(burner.read(window), whole[window.slices])


@pytest.mark.parametrize("seed", range(4))
def test_a_pixel_is_inside_if_its_centre_is(seed):
    shapes = [s for s in stars(seed, 60) if s.is_valid][:10]
    for shape in shapes:
        np.testing.assert_array_equal(burn_one(shape), covered_pixels(shape, EXTENT))


def burn_one(shape):
    """One polygon over the whole scene."""
    return PolygonBurner(np.array([shape], object), np.ones(1, np.uint8), 0, EXTENT, CellCache(1 << 24)).read(EXTENT)


def test_edges_through_centres_of_pixels_at_cell_borders_fall_to_one_side():
    """Neighbours that share an edge through the centres of pixels leave no gap and no overlap, also where cells meet."""
    for edge in (511.5, 512.0, 512.5, 100.5):
        left, right = burn_one(shapely.box(0, 0, edge, HEIGHT)), burn_one(shapely.box(edge, 0, WIDTH, HEIGHT))
        assert (left + right == 1).all()


def test_the_later_of_overlapping_polygons_counts_and_the_rest_is_background():
    shapes = np.array([shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30), shapely.box(12, 12, 14, 14)], object)
    out = PolygonBurner(shapes, np.array([1, 2, 255], np.uint8), 3, EXTENT, CellCache(1 << 24)).read(Window(0, 0, 40, 40))
    assert [out[5, 5], out[11, 11], out[13, 13], out[25, 25], out[35, 35]] == [1, 2, 255, 2, 3]


def test_cells_are_kept_in_the_cache_and_two_files_do_not_share_them():
    cache, one = CellCache(1 << 24), np.ones(1, np.uint8)
    first = PolygonBurner(np.array([shapely.box(0, 0, 9, 9)], object), one, 0, EXTENT, cache)
    second = PolygonBurner(np.array([shapely.box(0, 0, 9, 8)], object), one, 0, EXTENT, cache)
    for _ in range(3):
        assert first.read(Window(0, 0, 10, 10)).sum() == 81
        assert second.read(Window(0, 0, 10, 10)).sum() == 72
    assert cache.loads == 2
    assert isinstance(cache.get((first._key, 0, 0), pytest.fail), Cell)


@pytest.mark.parametrize(
    ("epsg", "driver", "suffix"),
    [(4326, "GeoJSON", "geojson"), (3857, "GPKG", "gpkg"), (32632, "ESRI Shapefile", "shp"), (4326, "FlatGeobuf", "fgb")],
)
def test_polygons_come_from_any_reference_system(epsg, driver, suffix, make_scene, tmp_path):
    scene = scene_of(make_scene, tmp_path)
    # Shapefiles turn the rings of self-crossing polygons.
    ground = to_ground([shape for shape in stars(3) if shape.is_valid], NORTH_UP)
    move = osr.CoordinateTransformation(system(UTM), system(epsg))

    def carry(points):
        return np.array(move.TransformPoints(points))[:, :2]

    path = write_vector(tmp_path / f"a.{suffix}", [shapely.transform(s, carry) for s in ground], epsg=epsg, driver=driver)
    here = burner_of(write_vector(tmp_path / "here.gpkg", ground), scene).read(EXTENT)
    # GeoJSON keeps seven decimals of a degree: a centimetre; FlatGeobuf orders its features by place.
    same = burner_of(path, scene).read(EXTENT)
    assert ((same > 0) == (here > 0)).mean() > 0.9999
    if driver != "FlatGeobuf":
        assert (same == here).mean() > 0.9998


def test_only_polygons_near_the_scene_are_kept(make_scene, tmp_path):
    scene = scene_of(make_scene, tmp_path)
    far = [shapely.box(x, 45, x + 0.001, 45.001) for x in np.linspace(14, 15.8, 50)]
    near = shapely.box(15.0, 45.1, 15.01, 45.11)
    path = write_vector(tmp_path / "a.geojson", [*far, near], [*["far"] * 50, "near"], 4326, "GeoJSON")
    found = read_polygons(path, scene, "kind")
    assert "near" in found.values
    assert len(found.values) < 20


def test_polygons_on_both_sides_of_the_antimeridian_are_found(make_scene, tmp_path):
    transform = (170000.0, 200.0, 0.0, 6100000.0, 0.0, -200.0)
    scene = describe(str(make_scene(tmp_path / "d.tif", 500, 1000, 1, transform=transform, epsg=32601)), "d")
    shapes = [shapely.box(179.5, 54.5, 179.8, 54.7), shapely.box(-179.8, 54.5, -179.5, 54.7)]
    path = write_vector(tmp_path / "a.geojson", shapes, epsg=4326, driver="GeoJSON")
    burned = burner_of(path, scene).read(Window(0, 0, 500, 1000))
    assert [(burned == k).sum() > 5000 for k in (1, 2)] == [True, True]


def test_without_reference_systems_coordinates_are_pixels_or_the_geotransform(make_scene, tmp_path):
    plain = describe(str(make_scene(tmp_path / "p.tif", 60, 80, 1, transform=None, epsg=None)), "p")
    moved = describe(str(make_scene(tmp_path / "m.tif", 60, 80, 1, transform=NORTH_UP, epsg=None)), "m")
    pixels = shapely.box(3, 5, 13, 25)
    wanted = covered_pixels(pixels, Window(0, 0, 60, 80))
    path = write_vector(tmp_path / "a.shp", [pixels], epsg=None, driver="ESRI Shapefile")
    np.testing.assert_array_equal(burner_of(path, plain).read(Window(0, 0, 60, 80)), wanted)
    path = write_vector(tmp_path / "up.shp", [shapely.box(3, -25, 13, -5)], epsg=None, driver="ESRI Shapefile")
    np.testing.assert_array_equal(burner_of(path, plain).read(Window(0, 0, 60, 80)), wanted)
    path = write_vector(tmp_path / "b.gpkg", to_ground([pixels], NORTH_UP), epsg=None)
    np.testing.assert_array_equal(burner_of(path, moved).read(Window(0, 0, 60, 80)), wanted)


def test_polygons_with_a_third_coordinate_collections_of_them_and_empty_ones_are_read(make_scene, tmp_path):
    scene = scene_of(make_scene, tmp_path)
    flat = shapely.box(0, 0, 20, 20)
    deep = shapely.Polygon([(x, y, 7.0) for x, y in flat.exterior.coords])
    ground = to_ground([shapely.MultiPolygon([flat, shapely.box(30, 0, 40, 10)])], NORTH_UP)
    high = shapely.transform(deep, lambda p: np.stack([5e5 + 10 * p[:, 0], 5e6 - 10 * p[:, 1], p[:, 2]], 1), include_z=True)
    path = write_vector(tmp_path / "a.gpkg", [shapely.Polygon(), high, *ground])
    burned = burner_of(path, scene).read(EXTENT)
    assert [(burned == 1).sum(), (burned == 2).sum()] == [0, 500]


def test_a_file_without_features_is_an_empty_scene(make_scene, tmp_path):
    path = tmp_path / "none.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    scene = scene_of(make_scene, tmp_path)
    assert (burner_of(str(path), scene, background=2).read(Window(500, 500, 30, 30)) == 2).all()
    assert read_polygons(str(path), scene, "kind").values == []


def test_the_attribute_of_each_polygon_is_read_as_text(make_scene, tmp_path):
    shapes = to_ground([shapely.box(k, 0, k + 1, 1) for k in range(3)], NORTH_UP)
    path = write_vector(tmp_path / "a.gpkg", shapes, ["roof", None, "7"])
    assert read_polygons(path, scene_of(make_scene, tmp_path), "kind").values == ["roof", "", "7"]


def refusal(path, scene, field=""):
    with pytest.raises(SceneError) as error:
        read_polygons(str(path), scene, field)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_refused_by_name(make_scene, tmp_path, data):
    scene = scene_of(make_scene, tmp_path)
    bare = describe(str(make_scene(tmp_path / "bare.tif", 9, 9, 1, transform=None, epsg=None)), "bare")
    ground = to_ground([shapely.box(0, 0, 9, 9)], NORTH_UP)
    here = write_vector(tmp_path / "here.gpkg", ground)
    assert "no field class, but kind" in refusal(here, scene, "class")
    assert "bare has no reference system" in refusal(here, bare)
    assert "GeoPackage or Shapefile" in refusal(write_vector(tmp_path / "a.geojson", ground, epsg=4326, driver="GeoJSON"), bare)
    nowhere = write_vector(tmp_path / "b.shp", ground, epsg=None, driver="ESRI Shapefile")
    assert "has no reference system, but s has one" in refusal(nowhere, scene)
    assert "cannot be read as polygons" in refusal(tmp_path / "absent.gpkg", scene)
    assert "no polygons among them" in refusal(write_vector(tmp_path / "line.gpkg", [ground[0].exterior]), scene)
    points = describe(str(data / "rasters" / "cog_gcps.tif"), "cog_gcps")
    assert "ground control points only" in refusal(here, points)
