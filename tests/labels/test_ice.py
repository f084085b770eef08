"""The ice teacher, from files to labels."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import UsageError
from hpcseg.kernels.filters import ByBackground, ByColour
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
    ice(tmp_path / "synth", 1, 700, 600, seed=3, clouds=0.3, scale=0.1)
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
    assert (found[0][1] == 1).mean() > 0.01
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


def filtered_picture(path):
    """The pixels (3, h, w) of a filtered picture and where it has data."""
    dataset = gdal.Open(str(path))
    return dataset.ReadAsArray(), dataset.GetRasterBand(1).GetMaskBand().ReadAsArray() != 0, dataset


@pytest.mark.parametrize("filtered", ["published", "default"])
def test_the_filtered_picture_is_that_of_the_whole_scene(run, plane, make_scene, cloudy, tmp_path, filtered):
    pixels = gdal.Open(str(cloudy)).ReadAsArray()
    pixels[:, :20] = 0
    path = make_scene(tmp_path / "cloudy.tif", 700, 600, pixels=pixels, nodata=0)
    found = []
    for core, threads in ((128, 2), (1024, 1)):
        run(ice_teacher(filtered, picture=True), path, core=core, threads=threads, overwrite=True)
        found.append(filtered_picture(tmp_path / "out/filtered/cloudy.tif"))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    picture, known, dataset = found[0]
    np.testing.assert_array_equal(known, plane("cloudy") != 255)
    assert not known[:20].any()
    assert (picture[:, :20] == 255).all()
    assert dataset.GetGeoTransform() == gdal.Open(str(path)).GetGeoTransform()
    assert dataset.GetProjection() == gdal.Open(str(path)).GetProjection()
    filter_, valid, whole = {"default": ByColour(), "published": ByBackground()}[filtered], known.astype(np.uint8), Window(0, 0, 700, 600)
    values, counts, wanted = interleaved(pixels), filter_.start(), np.empty((700, 1800), np.uint8)
    filter_.count(values, valid, whole, whole, counts)
    filter_.clear(values, valid, whole, whole, filter_.fit(counts), wanted)
    np.testing.assert_array_equal(interleaved(picture), wanted)
    masked, labels = plane("cloudy", "mask") == 1, plane("cloudy")
    if filtered == "published":
        assert (picture[0] == picture[1]).all()
        assert (picture[:, labels == 0] == 0).all()
        ice_there = known & (labels != 0)
        np.testing.assert_array_equal(by_colour(picture)[ice_there] == 2, labels[ice_there] == 2)
    else:
        np.testing.assert_array_equal(picture[:, ~masked & known], pixels[:, ~masked & known])
        np.testing.assert_array_equal(by_colour(picture)[masked & known], labels[masked & known])
        assert masked.mean() > 0.05


def interleaved(pixels):
    """(3, h, w) as windows hold them, (h, w * 3)."""
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(pixels.shape[1], -1)


def test_a_filtered_picture_is_made_again_with_its_labels_or_when_it_is_gone(run, cloudy, tmp_path):
    out = tmp_path / "out/filtered/ice_000.tif"
    teacher = ice_teacher(picture=True)
    run(teacher, cloudy)
    first = out.read_bytes()
    out.write_bytes(b"kept as it is")
    run(teacher, cloudy)
    assert out.read_bytes() == b"kept as it is"
    run(teacher, cloudy, overwrite=True)
    assert out.read_bytes() == first
    out.unlink()
    run(teacher, cloudy)
    assert out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["ice_000.tif"]


def test_a_filtered_picture_never_replaces_its_scene(run, cloudy, tmp_path):
    run(ice_teacher(picture=True), cloudy)
    with pytest.raises(UsageError, match="would write over the scene"):
        run(ice_teacher(picture=True), tmp_path / "out/filtered/ice_000.tif")
    with pytest.raises(UsageError, match="--filtered writes what a filter makes"):
        ice_teacher("none", picture=True)
