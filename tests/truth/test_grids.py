"""Labels must lie on their scene's grid; those that cannot be read are named."""

from __future__ import annotations

import numpy as np
import pytest
from truth.labelled import NORTH_UP, numbers, opened, read, refusal

from hpcseg.config import LabelSpec
from hpcseg.errors import ReadError, SceneError
from hpcseg.raster import describe
from hpcseg.tiles import Window

SHIFTED = (500000.02, 10.0, 0.0, 5000000.0, 0.0, -10.0)
CLOSE = (500000.009, 10.0, 0.0, 5000000.0, 0.0, -10.0)
STRETCHED = (500000.0, 10.0001, 0.0, 5000000.0, 0.0, -10.0)


def test_labels_on_another_grid_are_refused_saying_both(scene, make_labels):
    said = refusal(SceneError, make_labels(numbers()[:, :-1]), scene)
    assert "labels.tif: labels on another grid than scene: it is 300x419 pixels, the scene 300x420" in said
    for transform in (SHIFTED, STRETCHED):
        said = refusal(SceneError, make_labels(numbers(), transform=transform), scene)
        assert f"has the geotransform {transform}, the scene {NORTH_UP}" in said
    said = refusal(SceneError, make_labels(numbers(), epsg=32632), scene)
    assert "is in WGS 84 / UTM zone 32N, the scene in WGS 84 / UTM zone 33N" in said


@pytest.mark.parametrize("options", [{"transform": CLOSE}, {"transform": None, "epsg": None}, {"epsg": None}])
def test_a_thousandth_of_a_pixel_and_labels_without_a_place_are_taken(options, scene, make_labels):
    np.testing.assert_array_equal(read(opened(make_labels(numbers(), **options), scene)), numbers())


def test_ground_control_points_must_be_the_same(data, make_labels):
    points = describe(str(data / "rasters" / "cog_gcps.tif"), "points")
    pixels = np.zeros((points.height, points.width), np.uint8)
    assert "the scene" in refusal(SceneError, make_labels(pixels), points)
    window = Window(0, 0, 50, 50)
    assert (read(opened(make_labels(pixels, transform=None, epsg=None), points), window) == 0).all()


def test_files_that_cannot_be_read_are_named(scene, tmp_path, data):
    assert f"{tmp_path / 'absent.tif'}: cannot be opened" in refusal(SceneError, tmp_path / "absent.tif", scene)
    broken = describe(str(data / "odd_inputs" / "corrupt.tif"), "broken")
    truth = opened(broken.path, broken, LabelSpec(band=1, map={str(k): k % 2 for k in range(256)}))
    with pytest.raises(ReadError, match=r"corrupt\.tif"):
        read(truth, Window(0, 0, broken.height, broken.width))
