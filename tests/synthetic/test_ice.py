"""Synthetic scenes: the same pixels however they are made, truth that fits the picture, files that know where they lie."""

import zlib

import numpy as np
import pytest
from osgeo import gdal, gdal_array, osr
from synthetic.files import read

from hpcseg import synthetic
from hpcseg.errors import UsageError
from hpcseg.kernels.noise import NODATA, THICK, THIN, WATER
from hpcseg.synthetic import IceScene
from hpcseg.tiles import Window


@pytest.mark.parametrize(
    ("options", "digest"),
    [({}, 0xAD020D01), ({"clouds": 0.4, "ponds": 0.2, "swath": True}, 0x885ED591), ({"scale": 0.3, "clouds": 0}, 0xC6B87C07),
     ({"degrade": True, "swath": True}, 0xB4B91E42), ({"lead_width": 64.0}, 0x7FC01F84)],
)  # fmt: skip
def test_scenes_are_those_that_models_and_teachers_were_made_with(options, digest):
    picture, _ = IceScene(7, 0, 3000, 2000, **options).block(Window(1111, 777, 401, 399))
    assert zlib.crc32(picture.tobytes()) == digest


def test_clear_colours_tell_the_class():
    for seed in range(4):
        picture, truth = IceScene(seed, 0, 900, 900, clouds=0).block(Window(0, 0, 900, 900))
        value = picture.max(0)
        np.testing.assert_array_equal(truth, np.where(value <= 30, WATER, np.where(value < 205, THIN, THICK)))


def test_all_classes_are_present():
    counts = np.bincount(IceScene(0, 0, 4000, 4000, scale=0.25).block(Window(0, 0, 1000, 1000))[1].ravel(), minlength=3)
    assert (counts / counts.sum() > 0.03).all()


def test_clouds_hide_what_they_should():
    window = Window(0, 0, 600, 600)
    clear, cloudy = (IceScene(0, 0, 600, 600, scale=0.2, clouds=c) for c in (0.0, 0.3))
    (before, truth), (after, same) = clear.block(window), cloudy.block(window)
    np.testing.assert_array_equal(truth, same)
    assert 0.15 < (before != after).any(0).mean() < 0.8


def test_a_camera_changes_the_picture_and_not_the_truth():
    window = Window(40, 30, 200, 180)
    for seed in range(4):
        (clear, truth), (seen, same) = (IceScene(seed, 0, 400, 400, degrade=d).block(window) for d in (False, True))
        np.testing.assert_array_equal(truth, same)
        assert (seen != clear).mean() > 0.5
        assert seen.min() >= 1


def test_cameras_differ_within_their_bounds():
    cameras = [synthetic.draw_camera(seed, index) for seed in range(8) for index in range(8)]
    assert {camera.radius for camera in cameras} == {0, 1}
    assert all(0 <= camera.grain <= 3 and (np.diff(camera.response) > 0).all() for camera in cameras)
    black, white = (np.array([camera.response[:, level] for camera in cameras]) for level in (0, 255))
    clear = (black == 0).all(1)
    assert 0.25 < clear.mean() < 0.75, "about half of them look through haze"
    assert black.max() < 0.28 * 235
    assert 0.74 * 0.95 * 255 <= white[clear].min() < white[clear].max() <= 1.06 * 1.05 * 255 + 0.01


def test_grain_has_the_camera_s_deviation():
    flat = np.full((3, 64, 64), 120, np.uint8)
    camera = synthetic.Camera(0, np.tile(np.arange(256, dtype=np.float32), (3, 1)), 2.5)
    scene = IceScene(1, 0, 64, 64, degrade=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IceScene, "_clear", lambda self, window: (flat, flat[0]))
        seen, _ = scene._seen_by(camera, Window(0, 0, 64, 64))
    for band in seen.astype(float):
        assert abs(band.std() - 2.5) < 0.15
        assert abs(band.mean() - 120) < 0.2
    assert (seen[0] != seen[1]).mean() > 0.5


def distance_to(mask):
    """Distance of each pixel to the next one in the mask, by GDAL."""
    source = gdal_array.OpenArray(mask.astype(np.uint8))
    target = gdal.GetDriverByName("MEM").Create("", *mask.shape[::-1], 1, gdal.GDT_Float32)
    gdal.ComputeProximity(source.GetRasterBand(1), target.GetRasterBand(1), ["VALUES=1"])
    return target.ReadAsArray()


@pytest.mark.parametrize(("width", "scale"), [(20, 0.4), (60, 1.0), (240, 2.0)])
def test_leads_are_as_wide_as_asked_at_any_scale(width, scale):
    picture, truth = IceScene(2, 0, 1200, 1200, scale, clouds=0, lead_width=width).block(Window(0, 0, 1200, 1200))
    value = picture.max(0)
    np.testing.assert_array_equal(truth, np.where(value <= 30, WATER, np.where(value < 205, THIN, THICK)))
    counts = np.bincount(truth.ravel(), minlength=3) / truth.size
    assert counts[THIN] > 0.05, "there is thin ice"
    assert counts[THICK] > 0.3, "and thick ice between"
    # Half of a strip lies within a quarter of its width from its sides.
    inside = distance_to(truth == THICK)[truth != THICK]
    assert 0.8 * width < 4 * np.median(inside) < 1.35 * width


def test_leads_lie_under_clouds_too():
    window = Window(0, 0, 600, 600)
    (clear, truth), (cloudy, same) = (IceScene(0, 0, 600, 600, 0.2, clouds=c, lead_width=40).block(window) for c in (0.0, 0.3))
    np.testing.assert_array_equal(truth, same)
    assert (clear != cloudy).any(0).mean() > 0.1


def test_files(tmp_path):
    paths = synthetic.ice(tmp_path, 2, 260, 300, seed=5, block=100)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "ice_000.tif", "truth/ice_000.tif", "ice_001.tif", "truth/ice_001.tif"]  # fmt: skip
    for index in range(2):
        picture, truth = IceScene(5, index, 260, 300).block(Window(0, 0, 260, 300))
        np.testing.assert_array_equal(read(paths[2 * index]), picture)
        np.testing.assert_array_equal(read(paths[2 * index + 1]), truth)


def test_files_know_where_they_lie(tmp_path):
    scene, truth = (gdal.Open(str(p)) for p in synthetic.ice(tmp_path, 1, 60, 50, seed=5))
    for dataset in (scene, truth):
        assert dataset.GetSpatialRef().GetAuthorityCode(None) == "3413"
        assert dataset.GetGeoTransform()[1::4] == (10.0, -10.0)
        assert dataset.GetMetadata("IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert dataset.GetRasterBand(1).GetBlockSize() == [512, 512]
    assert scene.GetMetadata("IMAGE_STRUCTURE")["INTERLEAVE"] == "PIXEL"
    assert scene.GetRasterBand(1).GetNoDataValue() is None
    assert truth.GetRasterBand(1).GetNoDataValue() == NODATA
    geographic = osr.SpatialReference()
    geographic.ImportFromEPSG(4326)
    x, _, _, y, _, _ = scene.GetGeoTransform()
    latitude, longitude, _ = osr.CoordinateTransformation(scene.GetSpatialRef(), geographic).TransformPoint(x, y)
    assert 78 < latitude < 82
    assert -20 < longitude < 10


def test_a_swath_leaves_its_corners_empty(tmp_path):
    paths = synthetic.ice(tmp_path, 1, 700, 600, seed=5, swath=True)
    picture, truth = (read(p) for p in paths)
    empty = (picture == 0).all(0)
    np.testing.assert_array_equal(empty, truth == NODATA)
    assert 0.15 < empty.mean() < 0.35
    assert all(empty[row, col] for row in (0, -1) for col in (0, -1))
    assert not empty[350, 300]
    assert (picture[:, ~empty] > 0).all()
    dataset = gdal.Open(str(paths[0]))
    band = dataset.GetRasterBand(1)
    assert band.GetNoDataValue() == 0
    assert band.GetOverviewCount() == 1
    assert abs((band.GetOverview(0).ReadAsArray() == 0).mean() - empty.mean()) < 0.01


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"height": 0}, {"seed": -1}, {"scale": 0.0}, {"clouds": 1.0}, {"ponds": -0.1}, {"lead_width": -1.0}]
)
def test_wrong_arguments_are_named(tmp_path, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("height", "size").replace("_", " ")):
        synthetic.ice(tmp_path, **{"count": 1, "height": 10, "width": 10, "seed": 0, **wrong})
