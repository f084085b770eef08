"""Towns: the same pixels however they are made, truth that fits the picture, files that know where they lie."""

import numpy as np
import pytest
from osgeo import gdal
from synthetic.files import read

from hpcseg import synthetic
from hpcseg.errors import UsageError
from hpcseg.synthetic import BuildingScene
from hpcseg.tiles import Window

WHOLE = Window(0, 0, 512, 512)


def test_houses_fill_a_part_of_towns_and_little_of_the_country():
    town, country = (np.mean([BuildingScene(s, 0, 512, 512, settled=share).block(WHOLE)[1].mean() for s in range(4)]) for share in (1, 0))
    assert 0.12 < town < 0.4
    assert country < 0.02


def test_roofs_have_several_colours_and_woods_are_green():
    roofs, trees = [], []
    for seed in range(3):
        picture, truth = BuildingScene(seed, 0, 512, 512, settled=1.0).block(WHOLE)
        roofs.append(picture[:, truth == 1].astype(float))
        trees.append(BuildingScene(seed, 0, 512, 512, settled=0.0, woods=1.0).block(WHOLE)[0].astype(float).mean((1, 2)))
    red, _, blue = np.concatenate(roofs, 1)
    assert (red > blue + 40).mean() > 0.1
    assert (blue > red + 30).mean() > 0.05
    assert (np.abs(red - blue) < 20).mean() > 0.2
    for red, green, blue in trees:
        assert green > red
        assert green > blue


def test_a_house_is_as_large_on_the_ground_at_any_pixel():
    areas = [BuildingScene(5, 0, 1200, 1200, pixel=pixel, settled=1.0).block(Window(0, 0, edge, edge))[1].sum() * pixel**2
             for pixel, edge in ((0.3, 1200), (0.6, 600))]  # fmt: skip
    assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_files(tmp_path):
    paths = synthetic.buildings(tmp_path, 2, 260, 300, seed=5, block=100, pixel=0.5, swath=True)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "buildings_000.tif", "truth/buildings_000.tif", "buildings_001.tif", "truth/buildings_001.tif"]  # fmt: skip
    for index in range(2):
        picture, truth = BuildingScene(5, index, 260, 300, pixel=0.5, swath=True).block(Window(0, 0, 260, 300))
        np.testing.assert_array_equal(read(paths[2 * index]), picture)
        np.testing.assert_array_equal(read(paths[2 * index + 1]), truth)
        np.testing.assert_array_equal((picture == 0).all(0), truth == 255)
    scene, second = gdal.Open(str(paths[0])), gdal.Open(str(paths[2]))
    assert scene.GetGeoTransform()[1::4] == (0.5, -0.5)
    assert second.GetGeoTransform()[0] == scene.GetGeoTransform()[0] + 150
    assert scene.GetSpatialRef().GetAuthorityCode(None) == "32631"
    assert scene.GetRasterBand(1).GetNoDataValue() == 0


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"count": 0}, "count"), ({"height": 0}, "size"), ({"seed": -1}, "seed"), ({"pixel": 9.0}, "pixel"), ({"settled": 1.1}, "settled"),
     ({"woods": -0.1}, "woods")],
)  # fmt: skip
def test_wrong_arguments_are_named(tmp_path, wrong, name):
    with pytest.raises(UsageError, match=name):
        synthetic.buildings(tmp_path, **{"count": 1, "height": 10, "width": 10, "seed": 0, **wrong})
