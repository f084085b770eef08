"""Each noise kernel against plain NumPy."""

import numpy as np
import pytest

from hpcseg.kernels import noise

KEY = np.uint64(0x1234_5678_9ABC_DEF0)
RNG = np.random.default_rng(4)
# Without the compiler (NUMBA_DISABLE_JIT=1) the kernels' integers warn of the overflow that they rely on.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


def mix(key, i, j):
    """SplitMix64's finaliser on arrays."""
    with np.errstate(over="ignore"):
        a, b = i.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), j.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
        h = (np.uint64(key) ^ a) + b
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return h ^ (h >> np.uint64(31))


def lattice(key, row, col, height, width):
    bits = mix(key, row + np.arange(height)[:, None], col + np.arange(width)[None])
    return np.stack([bits >> np.uint64(40), (bits >> np.uint64(16)) & np.uint64(0xFFFFFF)]).astype(np.float64) / (1 << 24)


def weights(t):
    return np.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3]) / 6


def octave(key, row, col, height, width, size):
    y, x = (row + np.arange(height)) / size, (col + np.arange(width)) / size
    iy, ix = np.floor(y).astype(int), np.floor(x).astype(int)
    points = 2 * lattice(key, iy[0] - 1, ix[0] - 1, iy[-1] - iy[0] + 4, ix[-1] - ix[0] + 4)[0] - 1
    out = np.zeros((height, width))
    for a, down in enumerate(weights(y - iy)):
        for b, across in enumerate(weights(x - ix)):
            out += down[:, None] * across[None] * points[np.ix_(iy - iy[0] + a, ix - ix[0] + b)]
    return out * noise.GAIN


def test_mix_is_splitmix_and_well_spread():
    i, j = np.meshgrid(np.arange(-20, 20), np.arange(-20, 20), indexing="ij")
    ours = np.array([noise.mix(KEY, int(a), int(b)) for a, b in zip(i.ravel(), j.ravel(), strict=True)], np.uint64)
    np.testing.assert_array_equal(ours, mix(KEY, i, j).ravel())
    assert np.unique(ours).size == ours.size
    ones = np.unpackbits(ours.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.01


@pytest.mark.parametrize("origin", [(0, 0), (-7, 12), (40_000, -40_000)])
def test_lattice(origin):
    ours = noise.lattice(KEY, *origin, 6, 9)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, lattice(KEY, *origin, 6, 9), rtol=1e-6)


def test_spline_weights_sum_to_one():
    first, ours = noise.spline(-5, 40, 7.3)
    at = (np.arange(40) - 5) / 7.3
    np.testing.assert_array_equal(first, np.floor(at) - 1)
    np.testing.assert_allclose(ours, weights(at - np.floor(at)), atol=1e-6)
    np.testing.assert_allclose(ours.sum(0), 1, atol=1e-6)


@pytest.mark.parametrize("size", [3.0, 17.5, 300.0])
def test_add_octave(size):
    out = np.ones((20, 31), np.float32)
    noise.add_octave(out, KEY, -11, 5, size, 0.5)
    np.testing.assert_allclose(out, 1 + 0.5 * octave(KEY, -11, 5, 20, 31, size), atol=1e-5)


def test_fractal_noise():
    ours = noise.fractal_noise(KEY, 3, -9, 25, 18, 40.0, 3)
    reference = sum(0.5**k * octave(mix(KEY, np.array(k), np.array(0)), 3, -9, 25, 18, 40 / 2**k) for k in range(3))
    np.testing.assert_allclose(ours, reference / np.sqrt(1 + 1 / 4 + 1 / 16), atol=1e-5)


def test_fractal_noise_has_unit_variance():
    ours = noise.fractal_noise(KEY, 0, 0, 400, 400, 8.0, 3)
    assert abs(ours.mean()) < 0.05
    assert abs(ours.std() - 1) < 0.05


def test_fractal_noise_does_not_depend_on_the_window():
    whole = noise.fractal_noise(KEY, -50, 70, 90, 80, 23.0, 4)
    np.testing.assert_array_equal(noise.fractal_noise(KEY, -50 + 37, 70 + 11, 20, 40, 23.0, 4), whole[37:57, 11:51])


def test_nearest_cells():
    table, window, size = (-2, 1, 9, 8), (-3, 20, 30, 25), 6.5
    points = RNG.random((2, 9, 8), np.float32)
    bend = RNG.normal(0, 2, (2, 30, 25)).astype(np.float32).clip(-5, 5)
    edge, index = noise.nearest_cells(points, table, window, bend, size)
    row, col = np.mgrid[-3:27, 20:45]
    y, x = (row + bend[0]) / size, (col + bend[1]) / size
    distances, indices = [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            k, m = np.floor(y).astype(int) + dy, np.floor(x).astype(int) + dx
            at = k - table[0], m - table[1]
            distances.append(np.hypot(k + points[0][at] - y, m + points[1][at] - x))
            indices.append(at[0] * 8 + at[1])
    order = np.argsort(distances, axis=0)[:3]
    first, second, third = np.take_along_axis(np.stack(distances), order, 0)
    np.testing.assert_array_equal(index, np.take_along_axis(np.stack(indices), order, 0)[0])
    harmonic = 1 / (1 / (second - first) + 1 / (third - first))
    np.testing.assert_allclose(edge, 0.5 * size * harmonic, rtol=1e-3, atol=1e-4)


def test_border_distance():
    table, window, size = (-3, 0, 12, 11), (-3, 20, 30, 25), 6.5
    points = RNG.random((2, 12, 11), np.float32)
    bend = RNG.normal(0, 2, (2, 30, 25)).astype(np.float32).clip(-5, 5)
    ours = noise.border_distance(points, table, window, bend, size)
    centres = np.stack([points[0] + np.arange(-3, 9)[:, None], points[1] + np.arange(0, 11)[None]], -1).reshape(-1, 2)
    row, col = np.mgrid[-3:27, 20:45]
    pixels = np.stack([row + bend[0], col + bend[1]], -1).reshape(-1, 1, 2) / size
    square = ((centres - pixels) ** 2).sum(-1)
    near = square.argmin(1)
    between = np.linalg.norm(centres[None] - centres[near][:, None], axis=-1)
    with np.errstate(invalid="ignore"):
        border = (square - square.min(1, keepdims=True)) / (2 * between)
    np.testing.assert_allclose(ours.ravel(), size * np.nanmin(border, 1), rtol=1e-3, atol=1e-4)


def test_lay_floes():
    edge, index = RNG.random((12, 10), np.float32) * 9, RNG.integers(0, 5, (12, 10), dtype=np.int32)
    gap, look = np.array([0, 1, 5, np.inf, 3], np.float32), RNG.random(5, np.float32)
    scene = RNG.random((5, 12, 10), np.float32)
    ours = noise.lay_floes(edge, index, gap, look, scene)
    floe = edge > gap[index]
    np.testing.assert_array_equal(ours[0], np.where(floe, 1, scene[0]))
    np.testing.assert_allclose(ours[1], np.where(floe, 0.6 * look[index] + 0.4 * scene[3], scene[1]), rtol=1e-6)
    np.testing.assert_array_equal(ours[2], np.where(floe, scene[4], scene[2]))
    np.testing.assert_array_equal(ours[3:], np.stack([look[index], edge]))


def test_young_ice():
    edge, index = RNG.random((12, 10), np.float32) * 4, RNG.integers(0, 6, (12, 10), dtype=np.int32)
    growth, age = np.linspace(-1, 2, 6, dtype=np.float32), RNG.random(6, np.float32)
    streak = RNG.normal(0, 1, (12, 10)).astype(np.float32)
    ours = noise.young_ice(edge, index, growth, age, streak)
    grown = growth[index] + 0.5 * streak
    sheet = (grown > 0.6) & (edge > 1)
    np.testing.assert_array_equal(ours[0], sheet | (grown > 0.2))
    tone = np.where(sheet, age[index] + 0.05 * streak, np.where(grown > 0.2, 0.25 * grown + 0.07, 0.5 + 0.2 * streak))
    np.testing.assert_allclose(ours[1], tone, atol=1e-6)


def test_shade():
    relief, rough = RNG.normal(0, 1, (9, 8)).astype(np.float32), RNG.normal(0, 1, (8, 7)).astype(np.float32)
    ridge = RNG.random((8, 7), np.float32) * 5
    reference = 14 * (relief[1:, 1:] - relief[:-1, :-1]) - np.clip(20 - 8 * ridge, 0, 20) * rough.clip(0, 1)
    np.testing.assert_allclose(noise.shade(relief, ridge, rough), reference, atol=1e-4)


@pytest.mark.parametrize(("surface", "low", "high"), [(noise.WATER, 0, 30), (noise.THIN, 31, 204), (noise.THICK, 205, 255)])
def test_paint_ice_keeps_each_class_within_its_values(surface, low, high):
    tone, strong = RNG.random((20, 20), np.float32), RNG.normal(0, 200, (20, 20)).astype(np.float32)
    ours = noise.paint_ice(np.full((20, 20), surface, np.uint8), tone, strong, np.zeros((20, 20), np.float32))
    clear = np.zeros((20, 20), np.float32)
    picture = noise.veil(ours, clear, clear).max(0)
    assert low <= picture.min()
    assert picture.max() <= high


def test_paint_ice():
    surface = RNG.integers(0, 3, (20, 20), dtype=np.uint8)
    tone, shade, wet = RNG.random((20, 20)), RNG.normal(0, 6, (20, 20)), RNG.random((20, 20))
    ours = noise.paint_ice(surface, *(a.astype(np.float32) for a in (tone, shade, wet)))
    thick, thin, water = (
        (209 + 34 * tone + shade).clip(205, 253),
        (33 + (150 + 0.4 * shade) * tone).clip(32, 198),
        16 + 14 * tone,
    )
    water = water.clip(6, 29.4)
    colours = {
        noise.THICK: [thick * (0.975 - 0.55 * wet), thick * (0.99 - 0.25 * wet), thick * (1 - 0.15 * wet)],
        noise.THIN: [thin * (0.66 + 0.3 * tone), thin * (0.84 + 0.14 * tone), thin],
        noise.WATER: [0.34 * water, 0.62 * water, water],
    }
    np.testing.assert_allclose(ours, sum(np.stack(c) * (surface == k) for k, c in colours.items()), rtol=1e-5)


def test_veil():
    colours, cloud, shadow = RNG.uniform(0, 255, (3, 9, 9)), RNG.random((9, 9)), RNG.random((9, 9))
    ours = noise.veil(*(a.astype(np.float32) for a in (colours, cloud, shadow)))
    assert ours.dtype == np.uint8
    np.testing.assert_allclose(ours, (colours * (1 - shadow) * (1 - cloud) + 238 * cloud).clip(1, 255), atol=0.51)
    assert ours.min() >= 1


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_expose(radius):
    picture = RNG.integers(0, 256, (3, 20 + 2 * radius, 15 + 2 * radius), dtype=np.uint8)
    response, grain = RNG.uniform(-20, 280, (3, 256)).astype(np.float32), RNG.normal(0, 9, (3, 20, 15)).astype(np.float32)
    side = 2 * radius + 1
    around = np.lib.stride_tricks.sliding_window_view(picture, (side, side), (1, 2)).mean((-2, -1))
    level = np.floor(around + 0.5).astype(int)
    expected = np.stack([table[index] for table, index in zip(response, level, strict=True)]) + grain
    ours = noise.expose(picture, radius, response, grain)
    assert ours.dtype == np.uint8
    np.testing.assert_allclose(ours, expected.clip(1, 255), atol=0.501)
    assert ours.min() == 1
