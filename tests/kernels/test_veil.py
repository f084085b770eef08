"""The default filter of sea ice: each kernel against NumPy, its fit on colours drawn by hand, its answers on synthetic scenes."""

import numpy as np
import pytest
from kernels.tiled import halo_tiles

from hpcseg.kernels import veil
from hpcseg.kernels.ice import NODATA, THICK, THIN, WATER, Rule
from hpcseg.kernels.veil import HALO, SHADOWED, VEILED
from hpcseg.synthetic import IceScene
from hpcseg.tiles import Window

RULE = Rule()


def both(name):
    kernel = getattr(veil, name)
    return pytest.mark.parametrize("kernel", [kernel, getattr(kernel, "py_func", kernel)], ids=["jitted", "plain"])


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (rng.random((height, width)) < 0.8).astype(np.uint8)


def flat(values):
    return np.ascontiguousarray(values).reshape(values.shape[0], -1)


def v_and_chroma(values):
    top, low = values.max(2).astype(int), values.min(2).astype(int)
    return top, top - low


def by_colour(values):
    top = values.max(2)
    return np.where(top <= RULE.water, WATER, np.where(top < RULE.thick, THIN, THICK)).astype(np.uint8)


def count(values, valid):
    counts = np.zeros((256, 256), np.int64)
    veil.count_colours(flat(values), valid, Window(0, 0, *valid.shape), counts)
    return counts


def filter_scene(values, valid, core):
    """The default filter tile by tile: its fit, labels and mask."""
    fit = veil.fit_colours(count(values, valid), RULE)
    labels, mask = np.empty((2, *valid.shape), np.uint8)
    for here, pixels, marks, where in halo_tiles(values, valid, core, HALO, 60):
        veil.see_through(pixels, marks, *where, fit.table, labels[here.slices], mask[here.slices])
    return fit, labels, mask


def scene(seed, size=500, **options):
    picture, truth = IceScene(seed, 0, size, size, **options).block(Window(0, 0, size, size))
    return np.ascontiguousarray(picture.transpose(1, 2, 0)), truth


def right(labels, truth):
    return (labels == truth).mean()


@both("count_colours")
def test_colours_are_counted_by_v_and_chroma(kernel):
    values, valid = noise(20, 30)
    core, counts = Window(2, 3, 15, 21), np.ones((256, 256), np.int64)
    kernel(flat(values), valid, core, counts)
    inner = valid[core.slices] == 1
    expected = np.ones((256, 256), np.int64)
    np.add.at(expected, tuple(each[core.slices][inner] for each in v_and_chroma(values)), 1)
    np.testing.assert_array_equal(counts, expected)


@both("label_through_veil")
def test_the_table_is_looked_up(kernel):
    values, valid = noise(20, 30)
    table = np.random.default_rng(1).integers(0, 5, (256, 256), dtype=np.uint8)
    part = Window(2, 3, 15, 21)
    out = np.empty(part[2:], np.uint8)
    kernel(flat(values), valid, part, table, out)
    np.testing.assert_array_equal(out, np.where(valid == 1, table[v_and_chroma(values)], NODATA)[part.slices])


@both("confirm")
@pytest.mark.parametrize("core", [Window(0, 0, 30, 40), Window(7, 9, 12, 20), Window(0, 20, 3, 20), Window(29, 0, 1, 1)])
def test_what_is_told_otherwise_has_its_like_around_it(kernel, core):
    rng = np.random.default_rng(2)
    seen = np.where(rng.random((30, 40)) < np.linspace(0, 0.6, 40), VEILED, rng.integers(0, 5, (30, 40))).astype(np.uint8)
    seen[rng.random((30, 40)) < 0.3] = NODATA
    labels, mask = np.empty((2, *core[2:]), np.uint8)
    kernel(seen, core, labels, mask)
    padded = np.pad(seen, HALO, constant_values=NODATA)
    around = np.lib.stride_tricks.sliding_window_view(padded, (2 * HALO + 1, 2 * HALO + 1))
    number = {kind: (around == kind).sum((2, 3)) for kind in (VEILED, SHADOWED)}
    known = (around != NODATA).sum((2, 3))
    changed = {kind: (seen == kind) & (4 * number[kind] >= known) for kind in number}
    plain = np.where((seen == VEILED) | (seen == SHADOWED), THIN, seen)
    expected = np.where(changed[VEILED], WATER, np.where(changed[SHADOWED], THICK, plain))
    np.testing.assert_array_equal(labels, expected[core.slices])
    told = changed[VEILED] | changed[SHADOWED]
    np.testing.assert_array_equal(mask, np.where(seen == NODATA, NODATA, told)[core.slices])
    assert core != Window(0, 0, 30, 40) or 0.1 < told.mean() < 0.9


@both("clear_picture")
def test_cloud_and_shadow_are_taken_off(kernel):
    clear = np.array([[[8, 15, 20], [8, 15, 20], [214, 218, 220], [90, 110, 140], [255, 255, 255]]], np.float64)
    opacity, light = np.array([0.4, 0.0, 0.0, 0.0, 0.0])[:, None], np.array([1.0, 1.0, 0.7, 1.0, 0.0])[:, None]
    values = np.round(clear * light * (1 - opacity) + 220 * opacity).astype(np.uint8)
    labels, mask = np.array([[WATER, WATER, THICK, THIN, NODATA]], np.uint8), np.array([[1, 0, 1, 0, NODATA]], np.uint8)
    out = np.empty((1, 15), np.uint8)
    kernel(flat(values), Window(0, 0, 1, 5), labels, mask, 220, 20, out)
    np.testing.assert_allclose(out.reshape(1, 5, 3), clear, atol=2)
    assert out.reshape(5, 3).max(1).tolist() == [20, 20, 220, 140, 255]


def drawn_counts(*, snow=9000, water=9000, young=9000, chroma=60):
    """Snow of V 220 and chroma 5, water of V 20 and chroma 12, young ice of V 40..199, its chroma falling from `chroma` to 5."""
    counts = np.zeros((256, 256), np.int64)
    counts[220, 5], counts[20, 12] = snow, water
    for v in range(40, 200):
        counts[v, round(5 + (chroma - 5) * (200 - v) / 160)] = young // 160
    return counts


def test_lines_of_snow_water_and_young_ice():
    fit = veil.fit_colours(drawn_counts(), RULE)
    assert (fit.snow, fit.water) == ((220, 5), (20, 12))
    levels = np.arange(31, 205)
    np.testing.assert_array_equal(fit.table[:31], WATER)
    np.testing.assert_array_equal(fit.table[205:], THICK)
    young = np.round(5 + 55 * (200 - np.arange(40, 195)) / 160).astype(int)
    np.testing.assert_array_equal(fit.table[np.arange(40, 195), young], THIN)
    assert fit.table[150, 3] == SHADOWED
    assert fit.table[70, 10] == VEILED
    assert (fit.table[levels[levels < 123]] != SHADOWED).all(), "no thin cloud's shadow is as dark as that"


@pytest.mark.parametrize("absent", ["snow", "young", "water"])
def test_what_a_scene_does_not_show_is_not_told(absent):
    fit = veil.fit_colours(drawn_counts(**{absent: 0}), RULE)
    told = set(np.unique(fit.table)) - {WATER, THIN, THICK}
    assert told == (set() if absent != "water" else {SHADOWED})
    assert fit.water is None
    assert (fit.snow is None) == (absent != "water")


@pytest.mark.parametrize("value", [None, 0, 20, 100, 255])
def test_constant_empty_and_gray_scenes_are_the_rule_s(value):
    values, valid = np.full((40, 50, 3), 0 if value is None else value, np.uint8), np.full((40, 50), value is not None, np.uint8)
    _, labels, mask = filter_scene(values, valid, 50)
    np.testing.assert_array_equal(labels, NODATA if value is None else by_colour(values))
    assert (mask == (NODATA if value is None else 0)).all()
    gray = np.repeat(noise(60, 60)[0][..., :1], 3, axis=2)
    np.testing.assert_array_equal(filter_scene(gray, np.ones((60, 60), np.uint8), 60)[1], by_colour(gray))


@pytest.mark.parametrize("core", [64, 130])
def test_tiles_do_not_show(core):
    values, _ = scene(1, 300, scale=0.2, clouds=0.3)
    valid = noise(300, 300)[1]
    valid[100:180, 40:90] = 0
    whole, tiled = filter_scene(values, valid, 300), filter_scene(values, valid, core)
    for first, second in zip(whole[1:], tiled[1:], strict=True):
        np.testing.assert_array_equal(first, second)
    assert 0.02 < (whole[2] == 1).mean() < 0.5
    np.testing.assert_array_equal(whole[1] == NODATA, valid == 0)


def test_much_young_ice_is_likelier_than_little_water():
    plenty, little = drawn_counts(), drawn_counts(water=150, young=90_000)
    assert (veil.fit_colours(little, RULE).table == VEILED).sum() < 0.5 * (veil.fit_colours(plenty, RULE).table == VEILED).sum()


@pytest.mark.parametrize("options", [{"scale": 0.2}, {"scale": 1.0}, {"scale": 3.0}, {"lead_width": 40.0}, {"lead_width": 300.0}], ids=str)
def test_a_clear_scene_is_the_rule_s(options):
    for seed in range(3):
        values, truth = scene(seed, clouds=0.0, **options)
        _, labels, mask = filter_scene(values, np.ones(truth.shape, np.uint8), 500)
        assert right(labels, truth) >= right(by_colour(values), truth) - 0.001
        assert (mask == 1).mean() < 0.001


@pytest.mark.parametrize("lead_width", [0.0, 20.0, 64.0, 256.0])
def test_a_cloudy_scene_is_told_better(lead_width):
    gain = []
    for seed in range(1, 5):
        values, truth = scene(seed, 700, scale=0.2, clouds=0.3, lead_width=lead_width)
        gain.append(right(filter_scene(values, np.ones(truth.shape, np.uint8), 700)[1], truth) - right(by_colour(values), truth))
    assert min(gain) > 0
    assert np.mean(gain) > 0.03


def test_a_colour_is_seen_through_every_veil_and_shadow():
    counts = np.zeros((256, 256), np.int64)
    counts[22, 15] = 7
    seen = veil._seen_dimly(counts, 220)
    opacity, shadow = np.meshgrid(veil._OPACITIES, veil._SHADOWS)
    chance, light = np.exp(-opacity / veil._OPACITY_MEAN - shadow / veil._SHADOW_MEAN), (1 - opacity) * (1 - shadow)
    # Bins are four levels of V wide, and neighbours in chroma count.
    expected = np.zeros((64, 256))
    for change in (-1, 0, 1):
        where = ((light * 22 + opacity * 220) // 4).astype(int), np.maximum(np.round(light * 15).astype(int) + change, 0)
        np.add.at(expected, where, 7 * chance)
    np.testing.assert_allclose(seen[::4, 1:], expected[:, 1:], atol=1e-9)
    np.testing.assert_array_equal(seen[::4], seen[3::4])
