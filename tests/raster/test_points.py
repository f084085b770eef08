"""Points of every kind of file: the same pixels whatever the format and reference system; refusals by name."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import ogr, osr

from hpcseg.errors import SceneError
from hpcseg.raster import describe, read_points

UTM = 32633
NORTH_UP = (500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0)
ROTATED = (500000.0, 9.0, 3.0, 5000000.0, 3.0, -9.0)
HEIGHT, WIDTH = 60, 80
PIXELS = [(3.5, 7.25), (59.5, 79.5), (0.25, 0.75), (20.0, 41.0)]


@pytest.fixture
def scene(make_scene, tmp_path):
    return describe(str(make_scene(tmp_path / "s.tif", HEIGHT, WIDTH, 1, transform=NORTH_UP, epsg=UTM)), "s")


@pytest.fixture
def plain(tmp_path, data):
    """A scene without georeference, 1249 x 1035."""
    return describe(str(next((data / "counting" / "trees").glob("*YELL*.png"))), "yell")


def on_ground(pixels, epsg=UTM, transform=NORTH_UP):
    """(x, y) of (row, col) in a reference system."""
    a, b, c, d, e, f = transform
    source, target = osr.SpatialReference(), osr.SpatialReference()
    for system, number in ((source, UTM), (target, epsg)):
        system.ImportFromEPSG(number)
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    move = osr.CoordinateTransformation(source, target)
    return [move.TransformPoint(a + b * col + c * row, d + e * col + f * row)[:2] for row, col in pixels]


def write_vector(path, wkts, epsg=UTM, driver="GPKG", values=None):
    system = None
    if epsg:
        system = osr.SpatialReference()
        system.ImportFromEPSG(epsg)
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    source = ogr.GetDriverByName(driver).CreateDataSource(str(path))
    layer = source.CreateLayer("points", system, ogr.wkbUnknown if driver != "ESRI Shapefile" else ogr.wkbPoint)
    layer.CreateField(ogr.FieldDefn("kind", ogr.OFTString))
    for k, wkt in enumerate(wkts):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(wkt))
        feature.SetField("kind", values[k] if values else "")
        layer.CreateFeature(feature)
    del layer, source
    return str(path)


def write_table(path, columns, rows):
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def assert_pixels(points, wanted=PIXELS, atol=1e-6):
    np.testing.assert_allclose(np.column_stack([points.rows, points.cols]), wanted, atol=atol)


@pytest.mark.parametrize(
    ("driver", "name", "epsg"), [("GPKG", "p.gpkg", 4326), ("ESRI Shapefile", "p.shp", UTM), ("GeoJSON", "p.geojson", 4326)]
)
def test_a_vector_files_points_are_carried_from_its_system(scene, tmp_path, driver, name, epsg):
    path = write_vector(tmp_path / name, [f"POINT ({x!r} {y!r})" for x, y in on_ground(PIXELS, epsg)], epsg, driver)
    assert_pixels(read_points(path, scene), atol=1e-4)


def test_a_rotated_scene_has_its_points_where_they_are(make_scene, tmp_path):
    rotated = describe(str(make_scene(tmp_path / "r.tif", HEIGHT, WIDTH, 1, transform=ROTATED, epsg=UTM)), "r")
    path = write_vector(tmp_path / "p.gpkg", [f"POINT ({x!r} {y!r})" for x, y in on_ground(PIXELS, UTM, ROTATED)])
    assert_pixels(read_points(path, rotated))


def test_outlines_count_at_the_centre_of_their_bounds_and_many_points_one_by_one(scene, tmp_path):
    box = "POLYGON ((500010 4999990, 500050 4999990, 500050 4999910, 500010 4999910, 500010 4999990))"
    path = write_vector(tmp_path / "p.gpkg", [box, "MULTIPOINT ((500005 4999995), (500105 4999895))"], values=["a", "b"])
    points = read_points(path, scene, "kind")
    assert_pixels(points, [(5.0, 3.0), (0.5, 0.5), (10.5, 10.5)])
    assert points.values == ["a", "b", "b"]
    assert points.total == 2


def test_points_outside_the_scene_are_left_out_and_counted(scene, tmp_path):
    far = [*PIXELS, (-0.5, 3), (60.0, 3), (3, 80.0), (1e7, 3)]
    path = write_vector(tmp_path / "p.gpkg", [f"POINT ({x!r} {y!r})" for x, y in on_ground(far)])
    points = read_points(path, scene)
    assert_pixels(points)
    assert (points.total, len(set(points.numbers))) == (8, 4)


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ("x,y", on_ground(PIXELS)),
        ("lon,lat", on_ground(PIXELS, 4326)),
        ("row,col", PIXELS),
        ("xmin,ymin,xmax,ymax", [(col - 2, row - 1, col + 2, row + 1) for row, col in PIXELS]),
    ],
)
def test_a_table_gives_places_in_any_of_four_ways(scene, tmp_path, columns, rows):
    points = read_points(write_table(tmp_path / "p.csv", columns, rows), scene)
    assert_pixels(points, atol=1e-4)
    assert points.values == [""] * 4


def test_a_table_of_many_scenes_gives_each_its_own(scene, tmp_path):
    rows = [("s.tif", 1, 2, "seal"), ("other.tif", 3, 4, "seal"), ("s", 5, 6, "gull")]
    path = write_table(tmp_path / "p.csv", "image_path,col,row,label", rows)
    points = read_points(path, scene)
    assert_pixels(points, [(2, 1), (6, 5)])
    assert (points.values, points.total) == (["seal", "gull"], 3)


@pytest.mark.parametrize("up", [1, -1])
def test_without_reference_system_y_counts_downwards_or_as_gis_programs_lay_out_an_image_upwards(make_scene, tmp_path, up):
    scene = describe(str(make_scene(tmp_path / "plain.tif", HEIGHT, WIDTH, 1, transform=None, epsg=None)), "plain")
    places = [(col, up * row) for row, col in PIXELS]
    assert_pixels(read_points(write_vector(tmp_path / "p.gpkg", [f"POINT ({x!r} {y!r})" for x, y in places], None), scene))
    assert_pixels(read_points(write_table(tmp_path / "p.csv", "x,y", places), scene))


def test_a_table_of_its_head_alone_is_a_scene_without_objects(scene, tmp_path):
    assert len(read_points(write_table(tmp_path / "p.csv", "x,y", []), scene).rows) == 0


def test_annotated_trees_are_the_same_as_voc_and_as_table(data):
    folder = data / "counting" / "trees"
    scene = describe(str(folder / "OSBS_029.tif"), "OSBS_029")
    voc, table = (read_points(str(folder / f"OSBS_029.{kind}"), scene) for kind in ("xml", "csv"))
    assert len(voc.rows) == 61
    assert set(voc.values) == {"Tree"}
    assert sorted(zip(voc.rows, voc.cols, strict=True)) == sorted(zip(table.rows, table.cols, strict=True))


def test_seals_of_a_survey_lie_in_the_scene_that_they_name(data, make_scene, tmp_path):
    path = str(data / "counting" / "seal_points" / "seal-points-test.shp")
    survey = ogr.Open(path)
    x0, x1, y0, y1 = survey.GetLayer(0).GetExtent()
    step = max(x1 - x0, y1 - y0) / 200
    around = (x0 - step, step, 0.0, y1 + step, 0.0, -step)
    named = [feature.GetField("scene") for feature in survey.GetLayer(0)]
    scene = describe(str(make_scene(tmp_path / "ice.tif", 210, 210, 1, transform=around, epsg=3031)), named[0].removesuffix(".tif"))
    points = read_points(path, scene, "label")
    assert 0 < len(points.rows) == named.count(named[0]) < 554
    assert (points.total, "crabeater" in points.values) == (554, True)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("p.csv", "a,b\n1,2\n", "has the columns a, b; wanted x,y or lon,lat"),
        ("p.csv", "col,row\n1,two\n", "column row: could not convert"),
        ("p.csv", "col,row\n1\n", "column row"),
        ("p.csv", "", "has the columns none"),
        ("p.csv", b"\xff\xfe\x00col", "cannot be read as points"),
        ("p.xml", "<annotation><object>", "cannot be read as points"),
        ("p.xml", "<a><size><width>9</width><height>8</height></size></a>", "boxes of a picture of 9x8 pixels, s is 80x60"),
        ("p.gpkg", "nothing", "cannot be read as points"),
        ("p.txt", "", "points are read from .gpkg"),
        ("absent.csv", None, "cannot be read as points"),
    ],
)
def test_what_is_no_points_is_said_with_its_path(scene, tmp_path, name, text, wanted):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SceneError, match=wanted) as raised:
        read_points(str(path), scene)
    assert str(raised.value).startswith(str(path))


def test_a_field_that_is_not_there_is_named(scene, tmp_path):
    with pytest.raises(SceneError, match="has no column kind, but col, row"):
        read_points(write_table(tmp_path / "p.csv", "col,row", [(1, 2)]), scene, "kind")
    with pytest.raises(SceneError, match="no field sort, but kind"):
        read_points(write_vector(tmp_path / "p.gpkg", ["POINT (500005 4999995)"]), scene, "sort")


def test_degrees_need_a_scene_with_a_reference_system(plain, tmp_path):
    with pytest.raises(SceneError, match="has columns lon and lat, but yell has no reference system"):
        read_points(write_table(tmp_path / "p.csv", "lon,lat", [(1, 2)]), plain)
