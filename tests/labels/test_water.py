"""The water teacher, from files to labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hpcseg.errors import UsageError
from hpcseg.kernels.rays import Sfs
from hpcseg.labels.shares import share_lines
from hpcseg.labels.water import WaterOptions, water_teacher
from hpcseg.labels.water_steps import PARTS, holds_water_and_land


def speckled(height=600, width=560, seed=0, looks=4):
    """Power (h, w) of land at -8 dB with a lake at -20 dB; and where the lake is."""
    rows, cols = np.indices((height, width))
    lake = (rows - 280) ** 2 / 150**2 + (cols - 300) ** 2 / 120**2 < 1
    mean = np.where(lake, 10**-2.0, 10**-0.8)
    return mean * np.random.default_rng(seed).gamma(looks, 1 / looks, mean.shape), lake


@pytest.fixture
def scene(tmp_path, make_scene):
    def make(name, pixels, nodata=None):
        return make_scene(tmp_path / f"{name}.tif", *pixels.shape, 1, "float32", pixels=pixels[None], nodata=nodata)

    return make


def overlap(found, truth):
    return (found[found != 255].astype(bool) & truth[found != 255]).sum() / ((found == 1) | truth)[found != 255].sum()


def test_a_lake_is_found_in_any_scale_alike(run, plane, scene):
    power, lake = speckled()
    for name, pixels in {"power": power, "amplitude": np.sqrt(power), "db": 10 * np.log10(power)}.items():
        summary = run(water_teacher(WaterOptions(name)), scene(name, pixels))
        assert overlap(plane(name), lake) > 0.95
        assert "cells with two modes" in share_lines(summary)[0]
    assert (plane("power") != plane("db")).mean() < 1e-3
    assert (plane("power") != plane("amplitude")).mean() < 1e-3


def test_means_count_valid_pixels_alone(run, plane, scene):
    power, lake = speckled()
    power[:, 250:256] = 0
    run(water_teacher(WaterOptions("power")), scene("s", power))
    found = plane("s")
    assert (found[:, 250:256] == 255).all()
    beside = np.r_[240:250, 256:266]
    assert overlap(found[:, beside], lake[:, beside]) > 0.9


def test_labels_do_not_depend_on_tiles_or_threads(run, plane, scene):
    path = scene("s", speckled()[0])
    found = []
    for core, threads in ((256, 1), (512, 2)):
        run(water_teacher(WaterOptions("power")), path, core=core, threads=threads, overwrite=True)
        found.append(plane("s"))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("method", ["amplitude", "sfs"])
def test_labels_without_speckle_do_not_depend_on_tiles_or_threads(run, plane, scene, method):
    db = 10 * np.log10(speckled(520, 560)[0])
    db[250:262, :300] = -9999
    path = scene("s", db, nodata=-9999)
    options = WaterOptions("db", method, sfs=Sfs(spectral=5, spatial=12), fallback=12.0, speckle="lee", looks=4.0, speckle_radius=3)
    found = []
    for core, threads in ((256, 2), (1024, 1)):
        run(water_teacher(options), path, core=core, threads=threads, overwrite=True)
        found.append(plane("s"))
    np.testing.assert_array_equal(*found)
    assert set(np.unique(found[0])) == {0, 1, 255}


def test_speckle_is_filtered_in_power_whatever_the_scale(run, plane, scene):
    power, lake = speckled(looks=1)
    options = {"speckle": "lee", "looks": 1.0}
    for name, pixels in {"power": power, "amplitude": np.sqrt(power), "db": 10 * np.log10(power)}.items():
        run(water_teacher(WaterOptions(name, **options)), scene(name, pixels))
    assert (plane("power") != plane("db")).mean() < 1e-3
    assert (plane("power") != plane("amplitude")).mean() < 1e-3
    filtered = plane("power")
    assert overlap(filtered, lake) > 0.95
    run(water_teacher(WaterOptions("power")), scene("power", power), overwrite=True)
    assert (plane("power") != filtered).any()


SMOOTH = WaterOptions("power", "sfs", sfs=Sfs(spectral=15, spatial=12))


def test_texture_finds_the_lake_by_its_evenness(run, plane, scene):
    power, lake = speckled()
    summary = run(water_teacher(SMOOTH), scene("s", power))
    assert overlap(plane("s"), lake) > 0.8
    assert "water above" in share_lines(summary)[0]


@pytest.mark.parametrize("mode", ["paper", "otb"])
def test_textures_do_not_depend_on_tiles_or_threads(run, plane, scene, mode):
    path = scene("s", speckled(520, 300)[0])
    found = []
    for core, threads in ((256, 2), (1024, 1)):
        options = dataclasses.replace(SMOOTH, sfs=SMOOTH.sfs._replace(mode=mode), fallback=5.0)
        run(water_teacher(options), path, core=core, threads=threads, overwrite=True)
        found.append(plane("s"))
    np.testing.assert_array_equal(*found)
    assert set(np.unique(found[0])) == {0, 1}


@pytest.mark.parametrize(("polarity", "water"), [("below", 1), ("above", 0)])
def test_the_side_of_water_may_be_told(run, plane, scene, polarity, water):
    power, lake = speckled()
    run(water_teacher(WaterOptions("power", polarity=polarity)), scene("s", power))
    assert (plane("s")[lake] == water).mean() > 0.95


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (WaterOptions("db", feature="ripple"), "--feature ripple: wanted one of length"),
        (WaterOptions("db", db_per_unit=0.0), "--db-per-unit 0: wanted more than 0"),
        (WaterOptions("db", sfs=Sfs(spatial=500)), "spatial 500"),
        (WaterOptions("db", looks=0.0), "--looks 0: wanted more than 0"),
        (WaterOptions("db", doubt=0.5), "--doubt 0.5: wanted a share of 0 to below 0.5"),
        (WaterOptions("db", speckle_radius=0), "--speckle-radius 0: wanted 1 to 50 pixels"),
    ],
)
def test_wrong_use_is_named(options, named):
    with pytest.raises(UsageError, match=named):
        water_teacher(options)


def test_doubt_leaves_levels_near_the_threshold_unlabelled(run, plane, scene, tmp_path):
    power, lake = speckled()
    path = scene("s", power)
    run(water_teacher(WaterOptions("power")), path)
    run(water_teacher(WaterOptions("power", doubt=0.15)), path, out=tmp_path / "sure")
    every, sure = plane("s"), plane("s", out="sure")
    known = sure != 255
    np.testing.assert_array_equal(every[known], sure[known])
    # The shore is blurred by the square of the mean, all else is clear.
    assert 0.005 < (~known).mean() < 0.05
    assert (sure[known] == lake[known]).mean() > 0.999


def modes(low, high, spread=10):
    """Counts (bins,) of mean levels of two normal modes, three of four values in the higher."""
    rng = np.random.default_rng(0)
    levels = np.r_[rng.normal(low, spread, 5000), rng.normal(high, spread, 15_000)].clip(0, 255)
    return np.bincount((levels * PARTS).astype(np.int64), minlength=256 * PARTS)


@pytest.mark.parametrize(
    ("options", "levels", "holds"),
    [
        (WaterOptions("db"), (40, 160), True),
        (WaterOptions("db"), (90, 170), True),
        (WaterOptions("db"), (105, 155), False),
        (WaterOptions("db"), (140, 220), False),
        (WaterOptions("db", polarity="above"), (140, 220), True),
        (WaterOptions("db", polarity="above"), (30, 110), False),
        (WaterOptions("db", "sfs"), (140, 190), True),
        (WaterOptions("db", "sfs"), (140, 150), False),
    ],
    ids=["water", "rough water", "two crops", "fields and a town", "bright water", "no bright water", "texture", "one texture"],
)
def test_two_modes_are_water_and_land_where_water_may_be(options, levels, holds):
    assert holds_water_and_land(modes(*levels), options) == holds


def test_fields_and_a_town_beside_a_pond_give_no_threshold(run, scene):
    rows, cols = np.indices((512, 512))
    pond = (rows - 128) ** 2 + (cols - 128) ** 2 < 40**2
    level = np.select([pond, rows < 128, rows < 384], [10**-2.0, 10**-0.95, 10**-0.75], 10**-0.3)
    summary = run(water_teacher(WaterOptions("power")), scene("land", level * np.random.default_rng(2).gamma(4, 1 / 4, level.shape)))
    assert summary.refused[0][1].startswith("no water threshold: no cell has modes of water and land")


def test_a_scene_without_water_has_no_threshold_and_says_so(run, plane, scene, tmp_path):
    path = scene("land", np.random.default_rng(0).gamma(4, 1 / 4, (300, 300)))
    summary = run(water_teacher(WaterOptions("power")), path)
    assert (summary.exit_code, not (tmp_path / "out" / "land.h5").exists()) == (3, True)
    assert summary.refused[0][1].startswith("no water threshold: no cell has modes of water and land; --fallback")
    assert "land" in (tmp_path / "out" / "failed.csv").read_text()
    summary = run(water_teacher(WaterOptions("power", fallback=0.03)), path)
    assert (summary.exit_code, summary.shares["land"].classes["water"].px) == (0, 0)
    assert "fallback below 0.03" in share_lines(summary)[0]


@pytest.mark.parametrize("value", [0.5, -12.0])
def test_a_constant_scene_is_told_apart(run, scene, value):
    summary = run(water_teacher(WaterOptions("db")), scene("flat", np.full((300, 280), value)))
    assert summary.refused[0][1].startswith("no water threshold: it is constant")


def test_a_scene_without_data_is_labelled_as_such(run, plane, scene):
    summary = run(water_teacher(WaterOptions("db")), scene("void", np.full((300, 280), -9999.0), nodata=-9999))
    assert (plane("void") == 255).all()
    assert summary.exit_code == 0
    assert share_lines(summary) == ["void: no valid pixels"]


def test_the_flood_of_the_garonne_is_found(run, plane, data):
    gdal = pytest.importorskip("osgeo.gdal")
    run(water_teacher(WaterOptions("db")), data / "water/garonne/after_VV.tif", core=1024)
    truth = gdal.Open(str(data / "water/garonne/floodmask.tif")).ReadAsArray()
    found = plane("after_VV")
    found[truth == 255] = 255
    assert overlap(found, truth == 1) >= 0.60
