"""Maps of buckets: every cell in its bucket's hue, hatched for mono, the scene alone where there is no data."""

from __future__ import annotations

from colorsys import rgb_to_hsv

import numpy as np
import pytest
from matplotlib import image

from hpcseg.errors import UsageError
from hpcseg.products.buckets import BucketMap, draw_bucket_map
from hpcseg.products.palette import number_color

MONO, NONE = 254, 255
LEFT, TOP, SCALE = 0.25 * 150, 0.75 * 150, 7 * 150 / 400


def drawn(path, buckets):
    """The map, without its margins, as (height, width, 3) of 0 to 1."""
    gray = np.full((60, 80, 4), 255, np.uint8)
    gray[..., :3] = 150
    draw_bucket_map(path, BucketMap("a scene", gray, (300, 400), 100, np.array(buckets, np.uint8), MONO, NONE))
    pixels = image.imread(path)[..., :3]
    return pixels[round(TOP) : round(TOP + 300 * SCALE), round(LEFT) : round(LEFT + 400 * SCALE)]


def middle(pixels, row, col):
    """A quarter of a cell around its middle."""
    y, x = (round((k + 0.5) * 100 * SCALE) for k in (row, col))
    return pixels[y - 30 : y + 30, x - 30 : x + 30].reshape(-1, 3)


def test_cells_have_the_hue_of_their_bucket(tmp_path):
    pixels = drawn(tmp_path / "map.png", [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    for bucket in range(12):
        found = middle(pixels, *divmod(bucket, 4))
        wanted = [int(number_color(bucket)[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        assert np.ptp(found, axis=0).max() < 0.02
        assert rgb_to_hsv(*found.mean(0).tolist())[0] == pytest.approx(rgb_to_hsv(*wanted)[0], abs=0.02)


def test_mono_is_hatched_and_no_data_shows_the_scene(tmp_path):
    pixels = drawn(tmp_path / "map.png", [[0, MONO, NONE, 0]] * 3)
    mono, none = middle(pixels, 1, 1), middle(pixels, 1, 2)
    assert np.ptp(mono, axis=0).min() > 0.2
    np.testing.assert_allclose(none, 150 / 255, atol=0.01)


def test_a_map_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        drawn(tmp_path / "absent" / "map.png", [[0]])
