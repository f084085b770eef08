"""The ice teacher, from files to labels."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import UsageError
from hpcseg.kernels.ice import Rule, fit_background, take_background
from hpcseg.labels.ice import ice_teacher
from hpcseg.labels.shares import share_lines
from hpcseg.synthetic import ice
from hpcseg.tiles import Window


@pytest.fixture
def scene(tmp_path, make_scene):
    """A scene of 8 bits, whose first rows are no data, and its pixels (3, h, w)."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 300, 270))
    pixels[:, 30:] = np.minimum(pixels[:, 30:], np.random.default_rng(1).integers(1, 256, (1, 270, 270)))
    pixels[:, :30] = 0
    return make_scene(tmp_path / "s.tif", 300, 270, pixels=pixels, nodata=0), pixels


def by_colour(pixels, water=30, thick=205):
    top = pixels.max(0)
    return (top > water).astype(int) + (top >= thick)


def test_the_brightest_colour_decides(run, plane, scene):
    path, pixels = scene
    summary = run(ice_teacher("none"), path, core=128)
    wanted = np.where((pixels == 0).all(0), 255, by_colour(pixels))
    np.testing.assert_array_equal(plane("s"), wanted)
    assert set(np.unique(wanted)) == {0, 1, 2, 255}
    assert [share.px for share in summary.shares["s"].classes.values()] == [(wanted == k).sum() for k in range(3)]


def test_the_thresholds_are_options(run, plane, scene):
    path, pixels = scene
    run(ice_teacher("none", rule=Rule(60, 150)), path)
    ok = plane("s") != 255
    np.testing.assert_array_equal(plane("s")[ok], by_colour(pixels, 60, 150)[ok])


def test_reflectance_is_stretched_to_8_bits_after_its_offset(run, plane, make_scene, tmp_path):
    pixels = np.random.default_rng(2).integers(900, 12000, (3, 90, 80))
    path = make_scene(tmp_path / "r.tif", 90, 80, 3, "uint16", pixels=pixels)
    summary = run(ice_teacher("none"), path)
    assert summary.refused == [("r", "has pixels of uint16: --stretch LOW,HIGH says which values are black and white")]
    run(ice_teacher("none", stretch=(0.0, 10000.0), offset=-1000.0), path)
    levels = np.clip(np.floor((pixels - 1000) * (255 / 10000) + 0.5), 0, 255)
    wrong = plane("r") != by_colour(levels)
    # Halves fall to either side in single precision.
    assert wrong.mean() < 1e-3


def test_a_mask_is_no_data(run, plane, scene, make_scene, tmp_path):
    path, pixels = scene
    land = np.zeros((1, 300, 270), int)
    land[0, :, :100] = 7
    mask = make_scene(tmp_path / "land.tif", 300, 270, 1, pixels=land)
    run(ice_teacher("none"), path, mask=f"{mask}:zero")
    found = plane("s")
    assert (found[:, :100] == 255).all()
    np.testing.assert_array_equal(found[:, 100:], np.where((pixels == 0).all(0), 255, by_colour(pixels))[:, 100:])
    with pytest.raises(UsageError, match="is another map: nodata is"):
        run(ice_teacher("none"), path, mask=f"{mask}:nonzero")


def test_a_scene_that_is_all_land_says_so(run, plane, scene, make_scene, tmp_path):
    mask = make_scene(tmp_path / "land.tif", 300, 270, 1, pixels=np.zeros((1, 300, 270), int))
    summary = run(ice_teacher("none"), scene[0], mask=str(mask))
    assert (plane("s") == 255).all()
    assert (summary.exit_code, summary.shares["s"].px) == (0, 0)


def test_a_mask_on_another_grid_refuses_its_scene(run, scene, make_scene, tmp_path):
    mask = make_scene(tmp_path / "m.tif", 10, 10, 1)
    summary = run(ice_teacher("none"), scene[0], mask=str(mask))
    assert "is 10x10 pixels, the scene 300x270" in summary.refused[0][1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"rule": Rule(205, 30)}, "--water 205 and --thick 30: wanted 0 <= water < thick"), ({"stretch": (5.0, 5.0)}, "--stretch 5,5")],
)
def test_wrong_use_is_named(arguments, named):
    with pytest.raises(UsageError, match=named):
        ice_teacher(**arguments)


@pytest.fixture
def cloudy(tmp_path):
    """A synthetic scene with thin cloud, and its path."""
    ice(tmp_path / "synth", 1, 700, 600, seed=3, clouds=0.3)
    return tmp_path / "synth" / "ice_000.tif"


@pytest.mark.parametrize("filtered", ["published", "default"])
def test_filters_do_not_depend_on_tiles_or_threads(run, plane, cloudy, filtered):
    found = []
    for core, threads in ((128, 2), (1024, 1)):
        summary = run(ice_teacher(filtered), cloudy, core=core, threads=threads, overwrite=True)
        found.append((plane("ice_000"), plane("ice_000", "mask")))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert summary.shares["ice_000"].mask.px == (found[0][1] == 1).sum()
    assert filtered == "default" or (found[0][1] == 1).mean() > 0.01
    assert set(np.unique(found[0][1])) <= {0, 1, 255}


def test_the_published_filter_is_that_of_the_whole_image(run, plane, cloudy):
    run(ice_teacher("published"), cloudy, core=200)
    pixels = np.ascontiguousarray(gdal.Open(str(cloudy)).ReadAsArray().transpose(1, 2, 0)).reshape(700, -1)
    whole, counts, codes = Window(0, 0, 700, 600), np.zeros((2, 256), np.int64), np.empty((700, 600), np.uint8)
    take_background(pixels, np.ones((700, 600), np.uint8), whole, whole, Rule(), counts, codes)
    fitted = fit_background(counts, Rule())
    np.testing.assert_array_equal(plane("ice_000"), fitted.labels[codes])
    np.testing.assert_array_equal(plane("ice_000", "mask"), fitted.mask[codes])


@pytest.mark.parametrize("filtered", ["none", "published", "default"])
@pytest.mark.parametrize("value", [0, 20, 120, 255])
def test_a_constant_image_is_labelled_without_a_crash(run, plane, make_scene, tmp_path, filtered, value):
    scene = make_scene(tmp_path / "flat.tif", 200, 210, pixels=np.full((3, 200, 210), value))
    summary = run(ice_teacher(filtered), scene)
    assert summary.exit_code == 0
    assert len(np.unique(plane("flat"))) == 1
    assert all(np.isfinite(share.percent) for share in summary.shares["flat"].classes.values())


@pytest.mark.parametrize("filtered", ["published", "default"])
def test_a_filter_on_a_scene_without_data_says_so(run, plane, make_scene, tmp_path, filtered):
    scene = make_scene(tmp_path / "void.tif", 200, 210, pixels=np.zeros((3, 200, 210)), nodata=0)
    summary = run(ice_teacher(filtered), scene)
    assert (plane("void") == 255).all()
    assert (plane("void", "mask") == 255).all()
    assert (summary.exit_code, share_lines(summary)[0].startswith("void: no valid pixels")) == (0, True)
