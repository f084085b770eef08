"""Pictures of scenes: which bands, how they are stretched, what is not there."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.errors import SceneError
from hpcseg.products.picture import Thumbnails, read_picture, sample_limits
from hpcseg.tiles import Window


def ramp(bands, height, width):
    """0 at the left to 200 at the right, each band 20 above the one before."""
    return np.stack([np.tile(np.linspace(0, 200, width), (height, 1)) + 20 * k for k in range(bands)])


def test_a_window_is_shown_at_the_size_asked_for(make_scene, tmp_path):
    pixels = np.zeros((3, 64, 96))
    pixels[:, 32:, 48:] = 100
    scene = make_scene(tmp_path / "a.tif", 64, 96, pixels=pixels)
    picture = read_picture(str(scene), (4, 8), Window(16, 32, 32, 64), np.array([[0.0], [100.0]]))
    assert (picture.shape, picture.dtype) == ((4, 8, 4), np.uint8)
    np.testing.assert_array_equal(picture[..., :3] == 255, np.add.outer(np.arange(4) < 2, np.arange(8) < 2)[..., None].repeat(3, 2) == 0)


def test_bytes_keep_their_hues_and_measurements_are_stretched_by_band(make_scene, tmp_path):
    whole = Window(0, 0, 40, 50)
    byte, real = (make_scene(tmp_path / f"{kind}.tif", 40, 50, dtype=kind, pixels=ramp(3, 40, 50)) for kind in ("uint8", "float32"))
    hues = read_picture(str(byte), (40, 50), whole)[20, 25, :3].astype(int)
    assert hues[0] < hues[1] < hues[2]
    assert np.ptp(read_picture(str(real), (40, 50), whole)[20, 25, :3]) == 0


def test_what_is_no_data_is_transparent_in_pictures_and_grey_in_thumbnails(make_scene, tmp_path):
    pixels = ramp(1, 64, 64)
    pixels[:, :, :32] = -9
    scene = make_scene(tmp_path / "a.tif", 64, 64, bands=1, dtype="float32", pixels=pixels, nodata=-9)
    assert (read_picture(str(scene), (64, 64))[..., 3] == np.where(np.arange(64) < 32, 0, 255)).all()
    thumbnail = Thumbnails(64).read_path(str(scene), Window(0, 0, 64, 64))
    assert (thumbnail[:, :32] == 236).all()
    assert len(np.unique(thumbnail[:, 32:])) > 10


def test_all_windows_of_a_scene_are_stretched_alike_and_shrunk_alike(make_scene, tmp_path):
    scene = make_scene(tmp_path / "a.tif", 256, 1024, pixels=ramp(3, 256, 1024))
    thumbnails = Thumbnails(edge=256, longest=64)
    left, right = (thumbnails.read_path(str(scene), Window(0, col, 256, 256)) for col in (0, 768))
    assert left.shape == (64, 64, 3)
    assert left.max() < right.min()
    assert thumbnails.read_path(str(scene), Window(128, 0, 128, 64)).shape == (32, 16, 3)


@pytest.mark.parametrize("longest", [40, 20])
def test_windows_that_reach_beyond_the_scene_keep_their_size_and_are_grey_there(make_scene, tmp_path, longest):
    scene, extent = make_scene(tmp_path / "a.tif", 60, 80, pixels=np.full((3, 60, 80), 9)), Window(0, 0, 60, 80)
    thumbnails, half = Thumbnails(40, longest), longest // 2
    for window, inside in ((Window(-20, -20, 40, 40), np.s_[half:, half:]), (Window(40, 60, 40, 40), np.s_[:half, :half])):
        wanted = np.full((longest, longest, 3), 236)
        wanted[inside] = 0
        np.testing.assert_array_equal(thumbnails.read_around(str(scene), window, extent), wanted)


def test_limits_are_those_of_the_whole_scene_nearly(make_scene, tmp_path):
    pixels = ramp(2, 1500, 1100)
    scene = make_scene(tmp_path / "a.tif", 1500, 1100, bands=2, dtype="float32", pixels=pixels)
    np.testing.assert_allclose(sample_limits(str(scene))[:, 0], np.percentile(pixels[0], (2, 98)), atol=4)


def test_a_scene_without_a_valid_pixel_has_a_picture(make_scene, tmp_path):
    scene = make_scene(tmp_path / "a.tif", 8, 8, bands=1, pixels=np.zeros((1, 8, 8)), nodata=0)
    assert (Thumbnails(8).read_path(str(scene), Window(0, 0, 8, 8)) == 236).all()


WAYS = [lambda path: read_picture(path, (4, 4)), sample_limits, lambda path: Thumbnails(8).read_path(path, Window(0, 0, 4, 4))]


@pytest.mark.parametrize("read", WAYS)
def test_what_cannot_be_opened_is_named(tmp_path, read):
    with pytest.raises(SceneError, match="absent"):
        read(str(tmp_path / "absent.tif"))
