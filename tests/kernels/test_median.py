"""The median of large squares: against OpenCV, and its two instructions against NumPy."""

import cv2
import numpy as np
import pytest
from numba import njit

from hpcseg.kernels import median as kernels
from hpcseg.kernels.median import BINS, median, rank, slide


def medians(plane, radius, kernel=median):
    """Of a whole image, whose edge pixels go on beyond it."""
    out = np.empty_like(plane)
    kernel(cv2.copyMakeBorder(plane, radius, radius, radius, radius, cv2.BORDER_REPLICATE), radius, out)
    return out


def image(kind, height, width):
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.integers(0, 256, (height, width), dtype=np.uint8)
    if kind == "extremes":
        return rng.choice(np.array([0, 255], np.uint8), (height, width))
    coarse = rng.integers(0, 256, (height // 20 + 2, width // 20 + 2), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("kind", ["noise", "extremes", "fields"])
@pytest.mark.parametrize("radius", [1, 2, 40, 77, 127])
def test_it_is_that_of_opencv(kind, radius):
    plane = image(kind, 90, 230)
    np.testing.assert_array_equal(medians(plane, radius), cv2.medianBlur(plane, 2 * radius + 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (200, 2100)])
def test_any_shape(shape):
    plane = image("fields", *shape)
    np.testing.assert_array_equal(medians(plane, 77), cv2.medianBlur(plane, 155))


def test_stripes_do_not_show(monkeypatch):
    plane = image("noise", 12, 90)
    plain = getattr(median, "py_func", median)
    monkeypatch.setattr(kernels, "_STRIPE", 37)
    np.testing.assert_array_equal(medians(plane, 5, plain), cv2.medianBlur(plane, 11))


def compiled(function):
    """As kernels call it."""
    if function is slide:
        return njit(lambda total, at, rows, comes, goes: slide(total, at, rows, comes, goes))
    return njit(lambda counts, at, limit: rank(counts, at, limit))


@pytest.mark.parametrize("wrap", [lambda function: function, compiled], ids=["plain", "jitted"])
def test_counts_slide(wrap):
    rng = np.random.default_rng(1)
    total, rows = rng.integers(0, 1 << 15, (2, 5 * BINS)).astype(np.uint16)
    wanted = total.astype(int)
    wanted[7 : 7 + BINS] += rows[40 : 40 + BINS].astype(int) - rows[3 : 3 + BINS]
    wrap(slide)(total, 7, rows, 40, 3)
    np.testing.assert_array_equal(total, wanted % (1 << 16))


@pytest.mark.parametrize("wrap", [lambda function: function, compiled], ids=["plain", "jitted"])
@pytest.mark.parametrize("limit", [0, 1, 200, 65025])
def test_ranks_are_counted(wrap, limit):
    counts = np.sort(np.random.default_rng(limit).integers(0, 400, 3 * BINS)).astype(np.uint16)
    counts[11] = limit
    assert wrap(rank)(counts, 9, limit) == (counts[9 : 9 + BINS] <= limit).sum()
