"""The ice teacher, from files to labels."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.errors import UsageError
from hpcseg.kernels.ice import Rule
from hpcseg.labels.ice import ice_teacher


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
    summary = run(ice_teacher(), path, core=128)
    wanted = np.where((pixels == 0).all(0), 255, by_colour(pixels))
    np.testing.assert_array_equal(plane("s"), wanted)
    assert set(np.unique(wanted)) == {0, 1, 2, 255}
    assert [share.px for share in summary.shares["s"].classes.values()] == [(wanted == k).sum() for k in range(3)]


def test_the_thresholds_are_options(run, plane, scene):
    path, pixels = scene
    run(ice_teacher(rule=Rule(60, 150)), path)
    ok = plane("s") != 255
    np.testing.assert_array_equal(plane("s")[ok], by_colour(pixels, 60, 150)[ok])


def test_reflectance_is_stretched_to_8_bits_after_its_offset(run, plane, make_scene, tmp_path):
    pixels = np.random.default_rng(2).integers(900, 12000, (3, 90, 80))
    path = make_scene(tmp_path / "r.tif", 90, 80, 3, "uint16", pixels=pixels)
    summary = run(ice_teacher(), path)
    assert summary.refused == [("r", "has pixels of uint16: --stretch LOW,HIGH says which values are black and white")]
    run(ice_teacher(stretch=(0.0, 10000.0), offset=-1000.0), path)
    levels = np.clip(np.floor((pixels - 1000) * (255 / 10000) + 0.5), 0, 255)
    wrong = plane("r") != by_colour(levels)
    # Halves fall to either side in single precision.
    assert wrong.mean() < 1e-3


def test_a_mask_is_no_data(run, plane, scene, make_scene, tmp_path):
    path, pixels = scene
    land = np.zeros((1, 300, 270), int)
    land[0, :, :100] = 7
    mask = make_scene(tmp_path / "land.tif", 300, 270, 1, pixels=land)
    run(ice_teacher(), path, mask=f"{mask}:zero")
    found = plane("s")
    assert (found[:, :100] == 255).all()
    np.testing.assert_array_equal(found[:, 100:], np.where((pixels == 0).all(0), 255, by_colour(pixels))[:, 100:])
    with pytest.raises(UsageError, match="is another map: nodata is"):
        run(ice_teacher(), path, mask=f"{mask}:nonzero")


def test_a_scene_that_is_all_land_says_so(run, plane, scene, make_scene, tmp_path):
    mask = make_scene(tmp_path / "land.tif", 300, 270, 1, pixels=np.zeros((1, 300, 270), int))
    summary = run(ice_teacher(), scene[0], mask=str(mask))
    assert (plane("s") == 255).all()
    assert (summary.exit_code, summary.shares["s"].px) == (0, 0)


def test_a_mask_on_another_grid_refuses_its_scene(run, scene, make_scene, tmp_path):
    mask = make_scene(tmp_path / "m.tif", 10, 10, 1)
    summary = run(ice_teacher(), scene[0], mask=str(mask))
    assert "is 10x10 pixels, the scene 300x270" in summary.refused[0][1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"rule": Rule(205, 30)}, "--water 205 and --thick 30: wanted 0 <= water < thick"), ({"stretch": (5.0, 5.0)}, "--stretch 5,5")],
)
def test_wrong_use_is_named(arguments, named):
    with pytest.raises(UsageError, match=named):
        ice_teacher(**arguments)
