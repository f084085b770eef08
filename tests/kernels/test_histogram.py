"""Counting values: each kernel against plain NumPy, compiled and not."""

import numpy as np
import pytest

from hpcseg.kernels.histogram import count_levels, update_limits


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, getattr(kernel, "py_func", kernel)], ids=["jitted", "plain"])


def window(seed=0, bands=3):
    rng = np.random.default_rng(seed)
    return rng.normal(50, 30, (12, 17, bands)).astype(np.float32), (rng.random((12, 17)) < 0.7).astype(np.uint8)


LOW, STEP = np.array([0.0, 20.0, -5.0]), np.array([1.0, 0.5, 7.0])


def reference(values, valid, bins):
    levels = np.clip(np.floor((values[valid == 1] - LOW) / STEP + 0.5), 0, bins - 1).astype(int)
    return np.stack([np.bincount(levels[:, b], minlength=bins) for b in range(3)])


@both(count_levels)
@pytest.mark.parametrize("bins", [1, 16, 256])
def test_levels_are_rounded_and_clipped_to_the_bins(kernel, bins):
    values, valid = window()
    counts = np.zeros((3, bins), np.int64)
    kernel(values, valid, LOW, STEP, counts)
    np.testing.assert_array_equal(counts, reference(values, valid, bins))


@both(count_levels)
def test_counts_add_up(kernel):
    values, valid = window()
    counts = np.zeros((3, 64), np.int64)
    kernel(values[:5], valid[:5], LOW, STEP, counts)
    kernel(values[5:], valid[5:], LOW, STEP, counts)
    np.testing.assert_array_equal(counts, reference(values, valid, 64))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_every_integer_value_has_a_level_of_its_own(dtype):
    info = np.iinfo(dtype)
    values = np.arange(info.min, info.max + 1, dtype=np.float32)[None, :, None]
    counts = np.zeros((1, values.size), np.int64)
    count_levels(values, np.ones(values.shape[:2], np.uint8), np.array([float(info.min)]), np.ones(1), counts)
    assert (counts == 1).all()


@both(count_levels)
def test_nothing_valid_counts_nothing(kernel):
    values, valid = np.full((2, 2, 1), np.nan, np.float32), np.zeros((2, 2), np.uint8)
    counts = np.zeros((1, 4), np.int64)
    kernel(values, valid, np.zeros(1), np.ones(1), counts)
    assert not counts.any()


@both(update_limits)
def test_limits_widen_to_the_valid_values(kernel):
    values, valid = window()
    low, high = np.array([np.inf, 0.0, np.inf]), np.array([-np.inf, 1000.0, -np.inf])
    assert kernel(values, valid, low, high) == valid.sum()
    kept = values[valid == 1]
    np.testing.assert_array_equal(low, np.minimum(kept.min(0), [np.inf, 0, np.inf]))
    np.testing.assert_array_equal(high, np.maximum(kept.max(0), [-np.inf, 1000, -np.inf]))
