"""Smoothing over valid pixels: each kernel against NumPy."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from hpcseg.kernels import smooth
from hpcseg.tiles import Window


@pytest.fixture(params=["jitted", "plain"], autouse=True)
def engine(request, monkeypatch):
    """Runs a test with the compiled kernels, and with their Python text alone."""
    if request.param == "plain":
        for name, kernel in list(vars(smooth).items()):
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(smooth, name, kernel.py_func)


def scene(height=24, width=31, share=0.8, seed=0):
    """Intensities under speckle, and where they are valid; NaN where not."""
    rng = np.random.default_rng(seed)
    values = (rng.gamma(4, 25, (height, width)) + 300 * (np.arange(width) > width // 2)).astype(np.float32)
    valid = (rng.random(values.shape) < share).astype(np.uint8)
    values[valid == 0] = np.nan
    return values, valid


def square(values, valid, i, j, radius):
    """The valid values of a square, float64."""
    part = slice(max(0, i - radius), i + radius + 1), slice(max(0, j - radius), j + radius + 1)
    return values[part][valid[part] != 0].astype(np.float64)


def each(values, valid, radius, core, function):
    """function(values of the square, row, col) of each pixel of a core."""
    pixels = [[(core.row + i, core.col + j) for j in range(core.width)] for i in range(core.height)]
    return np.array([[function(square(values, valid, i, j, radius), i, j) for i, j in row] for row in pixels])


CORES = (Window(0, 0, 24, 31), Window(5, 7, 9, 11), Window(23, 30, 1, 1))


@pytest.mark.parametrize("core", CORES, ids=str)
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_the_mean_counts_valid_pixels_alone(radius, core):
    values, valid = scene(share=0.2)
    out = np.empty((core.height, core.width), np.float32)
    smooth.valid_mean(values, valid, radius, core, out)
    wanted = each(values, valid, radius, core, lambda found, i, j: found.mean() if found.size else np.nan)
    np.testing.assert_allclose(out, wanted, rtol=1e-6)


def test_the_mean_of_all_pixels_is_numpys():
    values, valid = scene(share=1)
    out = np.empty((14, 21), np.float32)
    smooth.valid_mean(values, valid, 3, Window(5, 5, 14, 21), out)
    np.testing.assert_allclose(out, sliding_window_view(values, (7, 7)).mean((2, 3), dtype=np.float64)[2:16, 2:23], rtol=1e-6)


@pytest.mark.parametrize("core", CORES, ids=str)
def test_lee_equals_its_formula(core):
    values, valid = scene()
    looks = 4.0

    def formula(found, i, j):
        if not valid[i, j]:
            return np.nan
        mean, variance = found.mean(), found.var()
        share = np.clip((variance - mean**2 / looks) / (variance * (1 + 1 / looks)), 0, 1) if found.size > 1 else 0
        return mean + share * (values[i, j] - mean)

    out = np.empty((core.height, core.width), np.float32)
    smooth.lee(values, valid, 2, looks, core, out)
    np.testing.assert_allclose(out, each(values, valid, 2, core, formula), rtol=1e-5)


def test_lee_evens_speckle_out_and_keeps_points():
    rng = np.random.default_rng(1)
    values = rng.gamma(4, 25, (60, 60)).astype(np.float32)
    values[30, 30] = 20000
    out = np.empty_like(values)
    smooth.lee(values, np.ones(values.shape, np.uint8), 3, 4.0, Window(0, 0, 60, 60), out)
    assert out[:20, :20].std() < 0.4 * values[:20, :20].std()
    assert out[30, 30] > 0.7 * 20000
    np.testing.assert_allclose(out[:20].mean(), values[:20].mean(), rtol=0.02)


def test_lee_of_a_constant_is_the_constant():
    out = np.empty((5, 5), np.float32)
    smooth.lee(np.full((5, 5), 0.1, np.float32), np.ones((5, 5), np.uint8), 2, 4.0, Window(0, 0, 5, 5), out)
    np.testing.assert_array_equal(out, np.float32(0.1))


@pytest.mark.parametrize("kernel", ["mean", "lee"])
def test_results_do_not_depend_on_the_tile(kernel):
    values, valid = scene()
    values[:] *= np.float32(1 / 3)
    run = {
        "mean": lambda v, m, core, out: smooth.valid_mean(v, m, 3, core, out),
        "lee": lambda v, m, core, out: smooth.lee(v, m, 3, 4.0, core, out),
    }[kernel]
    whole, part = np.empty((24, 31), np.float32), np.empty((7, 9), np.float32)
    run(values, valid, Window(0, 0, 24, 31), whole)
    run(values[5:18, 6:21].copy(), valid[5:18, 6:21].copy(), Window(3, 3, 7, 9), part)
    np.testing.assert_array_equal(part, whole[8:15, 9:18])
