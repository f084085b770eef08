"""Labels from polygons, burned on the fly: a field by the map, and the masks that footprints came with."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import ogr, osr
from truth.labelled import CLASSES, HEIGHT, TWO, WIDTH, numbers, opened, read, refusal, utm, write_patches

from hpcseg.config import LabelSpec
from hpcseg.errors import UsageError
from hpcseg.raster import CellCache, describe, read_array
from hpcseg.tiles import Window
from hpcseg.truth import open_truth


def test_polygons_that_are_read_again_find_their_cells_in_the_cache(scene, tmp_path):
    path, cache = write_patches(tmp_path / "a.gpkg", numbers()), CellCache(1 << 26)
    truth = open_truth(path, scene, LabelSpec(field="kind"), CLASSES, cache)
    read(truth)
    before = cache.loads
    for k in range(cache.opened.capacity):
        cache.opened.get(k, object)
    np.testing.assert_array_equal(read(truth), numbers())
    assert cache.loads == before
    assert cache.opened.loads == 64 + 2


def test_polygons_without_a_field_are_class_1(scene, tmp_path):
    path = write_patches(tmp_path / "a.gpkg", numbers())
    assert (read(opened(path, scene)) == 1).all()
    assert "needs [labels] field" in refusal(UsageError, path, scene, LabelSpec(map={"1": 1}))


def test_the_field_of_polygons_is_looked_up(scene, tmp_path):
    path = write_patches(tmp_path / "a.gpkg", numbers())
    spec = LabelSpec(field="kind", map={"0": "road", "1": "ignore", "2": 0})
    np.testing.assert_array_equal(read(opened(path, scene, spec)), np.array([2, 255, 0], np.uint8)[numbers()])
    spec = LabelSpec(field="kind", ignore=[2])
    np.testing.assert_array_equal(read(opened(path, scene, spec)), np.array([0, 1, 255], np.uint8)[numbers()])
    said = refusal(UsageError, path, scene, LabelSpec(field="kind", map={"0": 0, "1": 1}))
    assert "a.gpkg: kind is '2', wanted 0, 1: add it to [labels] map" in said


def test_pixels_outside_all_polygons_may_be_left_out(scene, tmp_path):
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(tmp_path / "a.gpkg"))
    layer = source.CreateLayer("a", osr.SpatialReference(utm()), ogr.wkbPolygon)
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(ogr.CreateGeometryFromWkt("POLYGON((500000 5000000,500100 5000000,500100 4999900,500000 4999900,500000 5000000))"))
    layer.CreateFeature(feature)
    del feature, layer, source
    for background, number in ((0, 0), ("road", 2), ("ignore", 255)):
        wanted = np.full((HEIGHT, WIDTH), number, np.uint8)
        wanted[:10, :10] = 1
        np.testing.assert_array_equal(read(opened(tmp_path / "a.gpkg", scene, LabelSpec(background=background))), wanted)


@pytest.mark.parametrize(
    ("image", "polygons", "mask"),
    [
        ("kampala/z21_rgb_3072x2048.tif", "kampala/labels_z21.geojson", "kampala/z21_mask_3072x2048.tif"),
        ("vegas/RGB-PanSharpen_AOI_2_Vegas_img205.tif", "vegas/buildings_AOI_2_Vegas_img205.geojson", "vegas/vegas_img205_mask.tif"),
    ],
    ids=["kampala", "vegas"],
)
def test_footprints_burn_to_the_mask_that_came_with_them(image, polygons, mask, data):
    folder = data / "buildings"
    scene = describe(str(folder / image), "scene")
    window = Window(0, 0, scene.height, scene.width)
    burned, given = (read(opened(folder / path, scene, classes=TWO), window) for path in (polygons, mask))
    np.testing.assert_array_equal(given, read_array(folder / mask, window).reshape(given.shape))
    agreement = (burned == given).mean()
    print(f"{image}: {burned.mean():.4f} burned, {given.mean():.4f} in the mask, agreement {agreement:.6f}")
    assert 0.2 < given.mean() < 0.3
    assert agreement >= 0.9999
