"""Levels, their means, counts and cuts, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.kernels import levels
from hpcseg.tiles import Window

MODES = ["jitted", "plain"]


def pick(name, mode):
    kernel = getattr(levels, name)
    return kernel if mode == "jitted" else kernel.py_func


@pytest.mark.parametrize("mode", MODES)
def test_power_follows_from_the_scale_of_the_values(mode):
    rng = np.random.default_rng(5)
    values = rng.normal(0, 8, (12, 17)).astype(np.float32)
    valid = (rng.random(values.shape) > 0.2).astype(np.uint8)
    values[valid == 0] = np.nan
    wanted = {0: 10 ** (values.astype(float) * 0.5 / 10), 1: values, 2: values.astype(float) ** 2}
    for exponent, power in wanted.items():
        found, known = np.empty(values.shape, np.float32), np.empty(values.shape, np.uint8)
        pick("to_power", mode)(values, valid, exponent, 0.5, found, known)
        np.testing.assert_array_equal(known, valid if exponent == 0 else valid & (values > 0))
        np.testing.assert_allclose(found, np.where(known, power, 0), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_level_is_the_number_of_steps_reached(mode):
    rng = np.random.default_rng(0)
    values = rng.normal(0, 10, (20, 30)).astype(np.float32)
    steps = np.sort(rng.normal(0, 8, 255)).astype(np.float32)
    values[0, :5], values[0, 5], values[0, 6] = steps[[0, 9, 100, 200, 254]], 1e9, -1e9
    valid = (rng.random(values.shape) > 0.2).astype(np.uint8)
    found, known = np.empty(values.shape, np.uint8), np.empty(values.shape, np.uint8)
    pick("to_levels", mode)(values, valid, steps, False, found, known)
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(found, np.where(valid, np.searchsorted(steps, values, "right"), 0))
    pick("to_levels", mode)(values, valid, steps, True, found, known)
    np.testing.assert_array_equal(known, valid & (values > 0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_a_mean_counts_the_known_pixels_of_its_square_alone(mode, radius):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (24, 19)).astype(np.uint8)
    known = (rng.random(values.shape) > 0.3).astype(np.uint8)
    values[known == 0] = 0
    core, out = Window(4, 3, 15, 12), np.empty((15, 12), np.uint16)
    pick("mean_levels", mode)(values, known, core, radius, 16, out)
    for i, j in np.ndindex(out.shape):
        square = np.s_[core.row + i - radius : core.row + i + radius + 1, core.col + j - radius : core.col + j + radius + 1]
        mean = 16 * int(values[square].sum()) / max(1, int(known[square].sum()))
        assert out[i, j] == (int(np.floor(mean + 0.5)) if known[core.row + i, core.col + j] else 65535)


@pytest.mark.parametrize("mode", MODES)
def test_cells_are_counted_each_for_itself(mode):
    rng = np.random.default_rng(2)
    found = rng.integers(0, 9, (10, 13)).astype(np.uint16)
    found[2:4, 5:9] = 65535
    counts = np.zeros((3, 4, 9), np.int64)
    pick("count_cells", mode)(found, 4, counts)
    for i, j in np.ndindex(3, 4):
        cell = found[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        np.testing.assert_array_equal(counts[i, j], np.bincount(cell[cell < 9], minlength=9))


@pytest.mark.parametrize("mode", MODES)
def test_a_cut_takes_what_is_not_above_it(mode):
    found, out = np.array([[0, 7, 8, 65535]], np.uint16), np.empty((1, 4), np.uint8)
    pick("cut_levels", mode)(found, 7, False, out)
    assert out.tolist() == [[1, 1, 0, 255]]
    pick("cut_levels", mode)(found, 7, True, out)
    assert out.tolist() == [[0, 0, 1, 255]]
