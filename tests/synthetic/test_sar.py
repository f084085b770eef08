"""Radar scenes: the same pixels however they are made, the shares and levels asked for, truth that fits the picture."""

import zlib
from importlib import import_module

import numpy as np
import pytest
from osgeo import gdal
from synthetic.files import read

from hpcseg import synthetic
from hpcseg.errors import UsageError
from hpcseg.synthetic import SarScene
from hpcseg.tiles import Grid, Window

WHOLE = Window(0, 0, 512, 512)


def decibels(picture):
    return 10 * np.log10(picture[0].astype(np.float64))


@pytest.mark.parametrize("core", [64, 150])
def test_blocks_do_not_change_the_scene_before(core):
    scene, grid = SarScene(3, 1, 300, 200, scale="amplitude", flood=0.1), Grid(300, 200, core, 0)
    before = scene.before(grid.extent)
    for tile in range(grid.size):
        window = grid.core_window(tile)
        np.testing.assert_array_equal(scene.before(window), before[(slice(None), *window.slices)])


def test_truths_are_those_that_teachers_were_made_with():
    truth = SarScene(7, 0, 900, 800, water=0.05, flood=0.1).block(Window(111, 77, 401, 399))[1]
    assert zlib.crc32(truth.tobytes()) == 0x5949B1


@pytest.mark.parametrize("water", [0.0, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("swath", [False, True])
def test_the_share_of_water_is_as_asked(water, swath):
    for seed in range(2):
        truth = SarScene(seed, 0, 512, 512, water=water, swath=swath).block(WHOLE)[1]
        assert set(np.unique(truth)) <= {0, 1, 255}
        assert (truth[truth != 255] == 1).mean() == pytest.approx(water, abs=1e-3)


def test_the_share_holds_where_only_a_sample_of_the_scene_is_looked_at(monkeypatch):
    monkeypatch.setattr(import_module("hpcseg.synthetic.sar"), "SAMPLES", 100)
    shares = [(SarScene(seed, 0, 1024, 1024).block(Window(0, 0, 1024, 1024))[1] == 1).mean() for seed in range(3)]
    assert all(share != 0.05 for share in shares)
    np.testing.assert_allclose(shares, 0.05, rtol=0.25)


def test_levels_are_those_of_water_and_land():
    land, calm = [], []
    for seed in range(4):
        picture, truth = SarScene(seed, 0, 512, 512, water=0.3, wind=0, shadow=0, looks=400).block(WHOLE)
        level = decibels(picture)
        land.append(np.median(level[truth == 0]))
        calm.append(level[truth == 1].mean())
    assert np.mean(calm) == pytest.approx(-20, abs=0.2)
    assert np.mean(land) == pytest.approx(-8, abs=1)


def test_wind_makes_water_rougher_and_brighter():
    calm, windy = ([], [])
    for seed in range(4):
        scenes = (SarScene(seed, 0, 512, 512, water=0.4, wind=wind, looks=400) for wind in (0.0, 0.5))
        (one, truth), (two, same) = (scene.block(WHOLE) for scene in scenes)
        np.testing.assert_array_equal(truth, same)
        calm.append(decibels(one)[truth == 1])
        windy.append(decibels(two)[truth == 1])
    calm, windy = np.concatenate(calm), np.concatenate(windy)
    assert np.percentile(calm, 99) < -18.5
    assert 0.2 < (windy > -18).mean() < 0.7
    patch = windy[windy > -16]
    assert np.median(patch) == pytest.approx(-14, abs=0.7)
    assert patch.std() > 2 * calm.std()


def test_shadow_darkens_land_and_leaves_the_truth_dry():
    for seed in range(2):
        scenes = (SarScene(seed, 0, 512, 512, water=0.05, shadow=shadow, looks=400) for shadow in (0.0, 0.05))
        (one, truth), (two, same) = (scene.block(WHOLE) for scene in scenes)
        np.testing.assert_array_equal(truth, same)
        darkened = (one != two)[0]
        assert 0.03 < darkened.mean() <= 0.051
        assert (truth[darkened] == 0).all()
        assert decibels(two)[darkened].max() < -19


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_speckle_is_of_so_many_looks(looks):
    rough, smooth = (SarScene(1, 0, 512, 512, looks=each).block(WHOLE)[0].astype(float) for each in (looks, 1e4))
    ratio = rough / smooth
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    # The smooth one still has a deviation of 0.01, in step with the rough one's.
    assert ratio.std() + 0.01 == pytest.approx(looks**-0.5, rel=0.02)


def test_scales_are_of_one_picture():
    power, amplitude, db = (SarScene(1, 0, 512, 512, swath=True, scale=s).block(WHOLE)[0] for s in ("power", "amplitude", "db"))
    np.testing.assert_allclose(amplitude.astype(float) ** 2, power, rtol=1e-6)
    seen = power > 0
    np.testing.assert_array_equal(seen, db != 0)
    np.testing.assert_allclose(10 ** (db[seen].astype(float) / 10), power[seen], rtol=1e-5)


def test_a_flood_lies_around_the_water_and_only_after():
    scene = SarScene(2, 0, 512, 512, water=0.05, flood=0.1, wind=0, shadow=0, looks=50, scale="db")
    (after, truth), before = scene.block(WHOLE), scene.before(WHOLE)
    shares = np.bincount(truth.ravel(), minlength=3) / truth.size
    np.testing.assert_allclose(shares, (0.85, 0.05, 0.1), atol=1e-3)
    assert np.median(after[0][truth == 2]) == pytest.approx(-20, abs=0.7)
    assert np.median(before[0][truth == 2]) > -12
    for picture in (before, after):
        assert np.median(picture[0][truth == 1]) == pytest.approx(-20, abs=0.7)
    plain = SarScene(2, 0, 512, 512, water=0.05, wind=0, shadow=0, looks=50, scale="db").block(WHOLE)[1]
    np.testing.assert_array_equal(truth == 1, plain == 1)
    assert (before != after).mean() > 0.99, "each date has speckle of its own"


def test_a_swath_has_empty_corners_and_noise_at_its_border():
    picture, truth = SarScene(1, 0, 512, 512, swath=True).block(WHOLE)
    empty, noise = picture[0] == 0, (picture[0] > 0) & (picture[0] < 2e-4)
    assert 0.15 < empty.mean() < 0.35
    assert 0.005 < noise.mean() < 0.12
    np.testing.assert_array_equal(truth == 255, empty | noise)
    assert not noise[200:300, 200:300].any(), "it lies along the edge alone"


def test_files(tmp_path):
    paths = synthetic.sar(tmp_path, 2, 260, 300, seed=5, block=100, flood=0.1, swath=True)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "sar_000.tif", "before/sar_000.tif", "truth/sar_000.tif", "sar_001.tif", "before/sar_001.tif", "truth/sar_001.tif"]  # fmt: skip
    for index in range(2):
        scene = SarScene(5, index, 260, 300, flood=0.1, swath=True)
        picture, truth = scene.block(Window(0, 0, 260, 300))
        np.testing.assert_array_equal(read(paths[3 * index]), picture[0])
        np.testing.assert_array_equal(read(paths[3 * index + 1]), scene.before(Window(0, 0, 260, 300))[0])
        np.testing.assert_array_equal(read(paths[3 * index + 2]), truth)
    after, before, truth = (gdal.Open(str(p)) for p in paths[:3])
    assert after.GetGeoTransform() == before.GetGeoTransform() == truth.GetGeoTransform()
    assert after.GetSpatialRef().GetAuthorityCode(None) == "32631"
    assert [each.GetRasterBand(1).GetNoDataValue() for each in (after, before, truth)] == [0, 0, 255]


def test_without_a_flood_there_is_one_date(tmp_path):
    paths = synthetic.sar(tmp_path, 1, 60, 70, seed=5)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == ["sar_000.tif", "truth/sar_000.tif"]
    assert gdal.Open(str(paths[0])).GetRasterBand(1).GetNoDataValue() is None


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"count": 0}, "count"), ({"height": 0}, "size"), ({"seed": -1}, "seed"), ({"looks": 0.5}, "looks"), ({"water": 1.0}, "water"),
     ({"wind": -0.1}, "wind"), ({"water": 0.6, "flood": 0.5}, "water and flood"), ({"scale": "dB"}, "scale dB")],
)  # fmt: skip
def test_wrong_arguments_are_named(tmp_path, wrong, name):
    with pytest.raises(UsageError, match=name):
        synthetic.sar(tmp_path, **{"count": 1, "height": 10, "width": 10, "seed": 0, **wrong})
