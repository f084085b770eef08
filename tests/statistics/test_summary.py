"""What counts say, against NumPy on the values themselves."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.statistics import Levels, above, bin_levels, describe

PERCENTILES = (0.0, 5.0, 50.0, 99.0, 100.0)


def levels(values, low=0.0, step=1.0, size=512):
    """Values that are levels, counted."""
    return Levels(low, step, np.bincount(np.rint((np.asarray(values) - low) / step).astype(int), minlength=size))


def lowest_not_exceeded(values, percentiles):
    ordered = np.sort(values)
    return [ordered[max(1, int(np.ceil(len(ordered) * p / 100))) - 1] for p in percentiles]


@pytest.fixture
def scenes():
    """Values of three scenes: integers, others of the same type, and floats in steps of their own."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, 500), rng.integers(100, 200, 300), -3.5 + 0.37 * rng.integers(0, 400, 400)


@pytest.fixture
def parts(scenes):
    return [levels(scenes[0]), levels(scenes[1]), levels(scenes[2], -3.5, 0.37)]


def test_scenes_of_different_levels_pool_as_if_their_values_stood_side_by_side(scenes, parts):
    pooled, values = describe(parts, PERCENTILES), np.concatenate(scenes)
    assert pooled.count == values.size
    assert pooled.mean == pytest.approx(values.mean(), rel=1e-12)
    assert pooled.deviation == pytest.approx(values.std(), rel=1e-12)
    assert (pooled.minimum, pooled.maximum) == (pytest.approx(values.min()), pytest.approx(values.max()))
    np.testing.assert_allclose(pooled.percentiles, lowest_not_exceeded(values, PERCENTILES), rtol=1e-12)


@given(st.permutations(range(4)), st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=4, max_size=4))
def test_the_order_of_scenes_changes_no_bit(order, lows):
    rng = np.random.default_rng(1)
    parts = [Levels(low, 0.1 + k, rng.integers(0, 9, 50)) for k, low in enumerate(lows)]
    assert describe([parts[k] for k in order], PERCENTILES) == describe(parts, PERCENTILES)


def test_sums_are_exact_where_floats_would_cancel():
    counts = np.zeros(3, np.int64)
    counts[[0, 2]] = 2**40
    found = describe([Levels(1e9, 2.0**-20, counts)], ())
    assert found.mean == float(Fraction(10**9) + Fraction(1, 2**20))
    assert found.deviation == 2.0**-20


def test_no_pixel_says_nothing():
    empty = Levels(0.0, 1.0, np.zeros(256, np.int64))
    assert describe([empty, empty], (50.0,)).count == 0
    found = above([empty], [empty], 3.0)
    assert (found.count, found.share, found.mean, found.mean_rest_0) == (0, 0.0, None, 0.0)
    assert bin_levels([empty], 10).counts == []


def test_above_a_threshold(scenes, parts):
    values = np.concatenate(scenes)
    chosen = [levels(each[each > 120], part.low, part.step) for each, part in zip(scenes, parts, strict=True)]
    found = above(parts, chosen, 120.0)
    assert found.count == (values > 120).sum()
    assert found.share == (values > 120).mean()
    assert found.mean == pytest.approx(values[values > 120].mean(), rel=1e-12)
    assert found.mean_rest_0 == pytest.approx(np.where(values > 120, values, 0).mean(), rel=1e-12)


def test_above_every_value_there_is_no_mean(parts):
    nothing = [Levels(part.low, part.step, np.zeros_like(part.counts)) for part in parts]
    found = above(parts, nothing, 1e9)
    assert (found.count, found.share, found.mean, found.mean_rest_0) == (0, 0.0, None, 0.0)


@pytest.mark.parametrize("bins", [1, 7, 10, 256, 1000])
def test_whole_numbers_go_into_bins_of_a_whole_width(scenes, parts, bins):
    found, values = bin_levels(parts[:2], bins), np.concatenate(scenes[:2])
    assert len(found.counts) <= bins
    assert found.width.is_integer()
    edges = found.low + found.width * np.arange(len(found.counts) + 1)
    assert edges[0] == values.min()
    assert edges[-2] <= values.max() < edges[-1]
    assert found.counts == np.histogram(values, edges)[0].tolist()


@pytest.mark.parametrize("bins", [1, 7, 64])
def test_other_values_go_into_as_many_bins_as_asked(scenes, parts, bins):
    found, values = bin_levels(parts, bins), np.concatenate(scenes)
    assert len(found.counts) == bins
    assert sum(found.counts) == values.size
    assert found.low + bins * found.width == pytest.approx(values.max())
    inner = found.low + found.width * np.arange(1, bins)
    # Values within rounding of an edge may go to either side.
    expected = np.searchsorted(np.sort(values), inner)
    np.testing.assert_allclose(np.cumsum(found.counts)[:-1], expected, atol=2)


def test_a_constant_band_has_one_bin():
    found = bin_levels([Levels(3.25, 1e-9, np.array([7]))], 5)
    assert (found.low, found.counts) == (3.25, [7])
