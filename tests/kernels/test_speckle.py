"""Each kernel of radar scenes against plain NumPy."""

import math

import numpy as np
import pytest

from hpcseg.kernels import speckle
from hpcseg.kernels.noise import mix

KEY = np.uint64(0xFEDC_BA98_7654_3210)
RNG = np.random.default_rng(6)
# Without the compiler (NUMBA_DISABLE_JIT=1) the kernels' integers warn of the overflow that they rely on.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, getattr(kernel, "py_func", kernel)], ids=["jitted", "plain"])


def test_quantiles_of_one_look_are_those_of_the_exponential_distribution():
    ours = speckle.gamma_quantiles(1.0)
    share = np.clip(np.arange(65537) / 65536, 2.0**-20, 1 - 2.0**-20)
    np.testing.assert_allclose(ours, -np.log1p(-share), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("looks", [1.0, 4.4, 30.0, 400.0])
def test_quantiles_have_the_moments_of_the_gamma_distribution(looks):
    ours = speckle.gamma_quantiles(looks).astype(float)
    assert (np.diff(ours) > 0).mean() > 0.99
    assert ours[0] > 0
    middle = (ours[1:] + ours[:-1]) / 2
    assert middle.mean() == pytest.approx(1, abs=1e-4)
    assert middle.var() == pytest.approx(1 / looks, rel=3e-3)
    assert np.log(middle).mean() == pytest.approx(digamma(looks) - math.log(looks), abs=1e-3)


def digamma(x):
    """The derivative of log gamma."""
    return (math.lgamma(x + 1e-5) - math.lgamma(x - 1e-5)) / 2e-5


@both(speckle.speckle)
def test_speckle(kernel):
    quantiles = speckle.gamma_quantiles(3.0)
    ours = kernel(KEY, -3, 40_000, 7, 9, quantiles)
    bits = np.array([[int(mix(KEY, -3 + i, 40_000 + j)) for j in range(9)] for i in range(7)], object)
    at = np.array([[(b >> 48) + ((b >> 24) & 0xFFFFFF) / 2**24 for b in row] for row in bits], float)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, np.interp(at, np.arange(65537), quantiles), rtol=1e-5)


def test_speckle_is_independent_from_pixel_to_pixel():
    ours = speckle.speckle(KEY, 0, 0, 500, 500, speckle.gamma_quantiles(4.0)).astype(float) - 1
    assert abs(ours.mean()) < 0.005
    assert ours.var() == pytest.approx(0.25, rel=0.03)
    assert abs((ours[1:] * ours[:-1]).mean()) < 0.003
    assert abs((ours[:, 1:] * ours[:, :-1]).mean()) < 0.003


def test_speckle_does_not_depend_on_the_window():
    quantiles = speckle.gamma_quantiles(2.0)
    whole = speckle.speckle(KEY, -20, 7, 60, 50, quantiles)
    np.testing.assert_array_equal(speckle.speckle(KEY, -20 + 11, 7 + 13, 20, 30, quantiles), whole[11:31, 13:43])


@both(speckle.wetness)
def test_wetness(kernel):
    lake, course = RNG.normal(0, 1, (12, 9)).astype(np.float32), RNG.normal(0, 1, (13, 10)).astype(np.float32)
    width = RNG.uniform(0.3, 3, (12, 9)).astype(np.float32)
    slope = np.hypot(course[1:, :-1] - course[:-1, :-1], course[:-1, 1:] - course[:-1, :-1])
    distance = np.abs(course[:-1, :-1]) / (slope + 1e-6) / width
    np.testing.assert_allclose(kernel(lake, course, width), np.maximum(lake, 3.9 / (1 + 0.138 * distance) - 0.5), rtol=1e-4, atol=1e-5)


def test_a_straight_river_widens_as_the_level_falls():
    course = np.broadcast_to(0.02 * (np.arange(101, dtype=np.float32) - 50), (3, 101)).copy()
    wet = speckle.wetness(np.full((2, 100), -9, np.float32), course, np.ones((2, 100), np.float32))
    widths = [(wet[0] > level).sum() for level in (3.3, 2.4, 0.8)]
    assert widths == [1, 5, 29]
