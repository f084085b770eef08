"""Thresholds from histograms: Otsu's against OpenCV and by hand, percentiles against statistics, modes against drawn mixtures."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcseg.statistics import Histogram, summarise
from hpcseg.thresholds import bimodal, fit_modes, otsu, percentile_levels


def counts_of(values, bins=256):
    return np.bincount(np.clip(np.round(values), 0, bins - 1).astype(np.int64).ravel(), minlength=bins)


def mixture(share, apart, number=60_000, seed=0):
    """Two normal modes of deviation 12, `apart` deviations from one another, the lower holding `share`."""
    rng = np.random.default_rng(seed)
    low = int(number * share)
    return counts_of(np.r_[rng.normal(80, 12, low), rng.normal(80 + 12 * apart, 12, number - low)])


def brute_otsu(counts):
    """Otsu's level by the definition, in rational numbers; None without two levels."""
    levels, best, found = np.arange(counts.size), 0, None
    for cut in range(counts.size - 1):
        low, high = counts[: cut + 1], counts[cut + 1 :]
        n, m = int(low.sum()), int(high.sum())
        if n and m:
            s, t = int((low * levels[: cut + 1]).sum()), int((high * levels[cut + 1 :]).sum())
            numerator, denominator = (s * m - t * n) ** 2, n * m
            if best == 0 or numerator * best[1] > best[0] * denominator:
                best, found = (numerator, denominator), cut
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=12))
def test_otsu_is_the_cut_of_greatest_variance(counts):
    counts = np.array(counts, dtype=object)
    assert otsu(counts) == brute_otsu(counts)


@pytest.mark.parametrize("seed", range(12))
def test_otsu_parts_pixels_as_opencv_does(seed):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random((80, 90)) < rng.random(), rng.normal(60, 20, (80, 90)), rng.normal(170, 30, (80, 90)))
    image = np.clip(image, 0, 255).astype(np.uint8)
    _, theirs = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    np.testing.assert_array_equal(image > otsu(np.bincount(image.ravel(), minlength=256)), theirs == 255)


@pytest.mark.parametrize("counts", [[0, 0, 0], [0, 9, 0]], ids=["nothing", "constant"])
def test_otsu_is_undefined_without_two_levels(counts):
    assert otsu(np.array(counts)) is None


def test_otsu_of_65536_levels():
    counts = np.zeros(65536, np.int64)
    counts[[10, 11, 60_000]] = 2**30, 2**30, 5
    assert otsu(counts) == 11


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_those_of_statistics(seed):
    counts = counts_of(np.random.default_rng(seed).normal(100, 30, 1001))
    asked = [0, 1, 2.5, 50, 99, 100]
    theirs = summarise(Histogram(np.zeros(1), np.ones(1), counts[None]), asked)[0].percentiles
    assert percentile_levels(counts, asked) == theirs


def test_modes_are_found_where_they_were_drawn():
    modes = fit_modes(mixture(0.2, 5)[None])
    np.testing.assert_allclose(modes.share[0], [0.2, 0.8], atol=0.01)
    np.testing.assert_allclose(modes.mean[0], [80, 140], atol=0.5)
    np.testing.assert_allclose(modes.deviation[0], 12, atol=0.5)
    np.testing.assert_allclose(modes.separation(), 5, atol=0.1)


@pytest.mark.parametrize(("share", "apart"), [(0.5, 3), (0.2, 3), (0.2, 6), (0.85, 4), (0.13, 5)])
def test_two_modes(share, apart):
    assert bimodal(mixture(share, apart)[None]).all()


@pytest.mark.parametrize(("share", "apart"), [(0.5, 1), (0.2, 2), (0.05, 4), (0.02, 6), (0.95, 6)])
def test_overlapping_or_scarce_modes_do_not_count(share, apart):
    assert not bimodal(mixture(share, apart)[None]).any()


def test_one_mode_of_any_shape_is_not_two():
    rng = np.random.default_rng(1)
    drawn = rng.normal(120, 20, 9999), rng.normal(99, 2, 9999), rng.exponential(30, 9999), rng.gamma(20, 5, 9999), rng.rayleigh(50, 9999)
    assert not bimodal(np.stack([counts_of(values) for values in drawn])).any()


def test_nothing_and_a_constant_have_no_two_modes():
    counts = np.zeros((2, 16), np.int64)
    counts[1, 7] = 100
    assert not bimodal(counts).any()
    assert np.isfinite(np.stack(fit_modes(counts))).all()


def test_each_histogram_is_judged_by_itself():
    both = np.stack([mixture(0.3, 5), mixture(0.5, 0)])
    np.testing.assert_array_equal(bimodal(both), [True, False])
    for k in range(2):
        np.testing.assert_array_equal(np.stack(fit_modes(both[k : k + 1]))[:, 0], np.stack(fit_modes(both))[:, k])
