"""Sea ice by colour and by the published filter: each kernel against NumPy, the filter against its chain of OpenCV calls."""

import cv2
import numpy as np
import pytest
from kernels.tiled import halo_tiles

from hpcseg.kernels import ice
from hpcseg.kernels.ice import HALO, NODATA, THICK, THIN, WATER, Rule
from hpcseg.tiles import Window


def both(name):
    kernel = getattr(ice, name)
    return pytest.mark.parametrize("kernel", [kernel, getattr(kernel, "py_func", kernel)], ids=["jitted", "plain"])


def picture(height, width, seed=0, wide=40):
    """Fields of ice and water about `wide` pixels across, with noise: u8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (height // wide + 3, width // wide + 3, 1)) * rng.uniform(0.6, 1, 3)
    fields = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.where(fields < 60, fields / 3, fields) + rng.normal(0, 4, fields.shape), 0, 255).astype(np.uint8)


def flat(values):
    return values.reshape(values.shape[0], -1)


def by_colour(values, rule=Rule()):  # noqa: B008 (a tuple cannot change)
    top = values.max(2)
    return np.where(top <= rule.water, WATER, np.where(top < rule.thick, THIN, THICK)).astype(np.uint8)


def opencv_chain(values, rule=Rule()):  # noqa: B008
    """The published filter on a whole image by OpenCV calls: labels, Otsu's level, differences, gray picture (arXiv 2303.12719)."""
    water = cv2.inRange(cv2.cvtColor(values, cv2.COLOR_RGB2HSV), (0, 0, 0), (185, 255, rule.water))
    white = cv2.bitwise_or(values, cv2.cvtColor(water, cv2.COLOR_GRAY2RGB))
    gray = cv2.cvtColor(white, cv2.COLOR_RGB2GRAY)
    background = cv2.medianBlur(cv2.dilate(gray, np.ones((7, 7), np.uint8)), 155)
    difference = cv2.bitwise_not(cv2.absdiff(gray, background))
    level, clear = cv2.threshold(difference, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    kept = cv2.bitwise_and(difference, clear)
    shown = cv2.normalize(kept, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    shown = cv2.normalize(cv2.threshold(shown, 235, 0, cv2.THRESH_TRUNC)[1], None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    labels = np.where(cv2.inRange(shown, rule.thick, 255) > 0, THICK, THIN).astype(np.uint8)
    labels[water > 0] = WATER
    return labels, level, difference, np.where(water > 0, 0, shown)


def filter_scene(values, valid, core, rule=Rule()):  # noqa: B008
    """The published filter tile by tile: its fit, the scratch plane and the labels."""
    counts, codes = np.zeros((2, 256), np.int64), np.empty(values.shape[:2], np.uint8)
    for here, pixels, marks, where in halo_tiles(values, valid, core, HALO, 77):
        ice.take_background(pixels, marks, *where, rule, counts, codes[here.slices])
    fit = ice.fit_background(counts, rule)
    labels = np.empty_like(codes)
    ice.look_up(codes, fit.labels, labels)
    return fit, codes, labels


@both("label_by_colour")
@pytest.mark.parametrize("rule", [Rule(), Rule(0, 1), Rule(60, 130), Rule(255, 256)])
def test_the_colour_rule(kernel, rule):
    values, valid = picture(30, 40, wide=5), (np.random.default_rng(1).random((30, 40)) < 0.8).astype(np.uint8)
    core = Window(3, 5, 20, 30)
    out = np.empty(core[2:], np.uint8)
    kernel(flat(values), valid, core, rule, out)
    np.testing.assert_array_equal(out, np.where(valid == 1, by_colour(values, rule), NODATA)[core.slices])


def test_classes_meet_where_the_published_ranges_do():
    top = np.array([0, 30, 31, 204, 205, 255], np.uint8)
    out = np.empty((1, 6), np.uint8)
    ice.label_by_colour(np.repeat(top, 3)[None], np.ones((1, 6), np.uint8), Window(0, 0, 1, 6), Rule(), out)
    assert out.tolist() == [[WATER, WATER, THIN, THIN, THICK, THICK]]


def test_gray_values_are_those_of_opencv():
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    values = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(levels.size, -1, 3)
    gray, kind = np.empty((2, *values.shape[:2]), np.uint8)
    whole = Window(0, 0, *gray.shape)
    ice.whiten(flat(values), np.ones_like(gray), whole, Rule(water=-1), gray, kind)
    np.testing.assert_array_equal(gray, cv2.cvtColor(values, cv2.COLOR_RGB2GRAY))


@both("whiten")
def test_water_and_no_data_are_white(kernel):
    values, valid = picture(24, 30, 2, wide=6), (np.random.default_rng(2).random((24, 30)) < 0.7).astype(np.uint8)
    part = Window(2, 4, 18, 21)
    gray, kind = np.empty((2, *part[2:]), np.uint8)
    kernel(flat(values), valid, part, Rule(), gray, kind)
    expected = np.where(valid == 0, 0, np.where(by_colour(values) == WATER, 1, 2))[part.slices]
    np.testing.assert_array_equal(kind, expected)
    np.testing.assert_array_equal(gray, np.where(expected < 2, 255, cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[part.slices]))


@both("code_differences")
def test_differences_are_coded_and_counted(kernel):
    rng = np.random.default_rng(3)
    gray, background = rng.integers(0, 256, (2, 20, 25), dtype=np.uint8)
    kind = rng.integers(0, 3, (20, 25), dtype=np.uint8)
    gray[5, 5], background[5, 5], kind[5, 5] = 0, 255, 2
    core = Window(1, 2, 15, 20)
    counts, out = np.ones((2, 256), np.int64), np.empty(core[2:], np.uint8)
    kernel(gray, background[core.slices], kind, core, counts, out)
    difference = 255 - np.abs(gray.astype(int) - background)
    difference = np.where(kind == 2, np.maximum(difference, 2), difference)[core.slices]
    inner = kind[core.slices]
    np.testing.assert_array_equal(out, np.where(inner == 2, difference, inner))
    np.testing.assert_array_equal(counts, 1 + np.stack([np.bincount(difference[inner == k], minlength=256) for k in (1, 2)]))


@both("look_up")
def test_look_up(kernel):
    codes, table = np.random.default_rng(4).integers(0, 256, (2, 256), dtype=np.uint8)
    out = np.empty((8, 32), np.uint8)
    kernel(codes.reshape(8, 32), table, out)
    np.testing.assert_array_equal(out.ravel(), table[codes])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("core", [500, 128, 70])
def test_the_filter_on_tiles_is_opencv_on_the_whole_image(core, seed):
    values = picture(310, 420, seed, wide=(12, 60, 200)[seed])
    labels, level, difference, shown = opencv_chain(values)
    fit, codes, ours = filter_scene(values, np.ones(values.shape[:2], np.uint8), core)
    assert fit.level == level
    np.testing.assert_array_equal(ours, labels)
    ice_there = by_colour(values) != WATER
    np.testing.assert_array_equal(codes[ice_there], difference[ice_there])
    cloud = ice_there & (difference <= level)
    assert (fit.cloud, fit.valid) == (cloud.sum(), cloud.size)
    np.testing.assert_array_equal(fit.mask[codes], cloud)
    np.testing.assert_array_equal(fit.filtered[codes], shown)
    assert len(np.unique(shown)) > 20
    assert {WATER, THIN, THICK} == set(np.unique(labels))


def test_no_data_is_white_and_does_not_count():
    values, valid = picture(200, 240, 5), np.ones((200, 240), np.uint8)
    valid[:90, :100] = 0
    fits = [filter_scene(np.where(valid[..., None] == 1, values, hidden), valid, core) for hidden, core in ((0, 240), (200, 64))]
    for first, second in zip(fits[0][1:], fits[1][1:], strict=True):
        np.testing.assert_array_equal(first, second)
    fit, codes, labels = fits[0]
    assert fit.valid == valid.sum()
    np.testing.assert_array_equal(labels == NODATA, valid == 0)
    np.testing.assert_array_equal(fit.mask[codes] == NODATA, valid == 0)
    white = np.where(valid[..., None] == 1, values, 255).astype(np.uint8)
    ice_there = (valid == 1) & (by_colour(values) != WATER)
    np.testing.assert_array_equal(codes[ice_there], opencv_chain(white)[2][ice_there])


@pytest.mark.parametrize("shade", [0, 20, 100, 255])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 200), (90, 170)])
def test_a_constant_image_has_no_level_and_is_what_opencv_makes_of_it(shade, size):
    values = np.full((*size, 3), shade, np.uint8)
    fit, _, labels = filter_scene(values, np.ones(size, np.uint8), 64)
    assert fit.level is None
    assert fit.cloud == 0
    np.testing.assert_array_equal(labels, opencv_chain(values)[0])


def test_a_scene_without_data():
    fit, _, labels = filter_scene(picture(50, 60), np.zeros((50, 60), np.uint8), 32)
    assert (fit.level, fit.cloud, fit.valid) == (None, 0, 0)
    assert (labels == NODATA).all()
