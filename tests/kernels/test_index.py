"""The normalised difference, its median and its threshold: the same as sorting every square."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.kernels.index import label_index
from hpcseg.tiles import Window


@pytest.fixture(params=["jitted", "plain"])
def kernel(request):
    return label_index if request.param == "jitted" else label_index.py_func


def reference(a, b, valid, radius, above):
    """Labels of whole arrays by sorting: the lower median of the valid pixels of each square, edges repeated."""
    known = np.pad((valid != 0) & (a + b != 0), radius, mode="edge")
    index = np.pad(np.divide(a - b, a + b, out=np.zeros(a.shape), where=a + b != 0), radius, mode="edge")
    out = np.full(a.shape, 255, np.uint8)
    for i, j in np.argwhere(known[radius : radius + a.shape[0], radius : radius + a.shape[1]]):
        square = np.s_[i : i + 2 * radius + 1, j : j + 2 * radius + 1]
        ordered = np.sort(index[square][known[square]])
        out[i, j] = ordered[(len(ordered) - 1) // 2] > above
    return out


def scene(seed=0, height=23, width=31):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 40, (2, height, width)).astype(np.float32)
    return a, b, (rng.random((height, width)) > 0.15).astype(np.uint8)


@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_it_is_the_median_of_the_valid_pixels(kernel, radius):
    a, b, valid = scene(radius)
    out, whole = np.empty(a.shape, np.uint8), Window(0, 0, *a.shape)
    kernel(np.stack([a, b], -1).reshape(a.shape[0], -1), valid, whole, whole, radius, 0.1, out)
    np.testing.assert_array_equal(out, reference(a.astype(float), b.astype(float), valid, radius, 0.1))
    assert set(np.unique(out)) == {0, 1, 255}


def test_a_part_of_a_window_is_what_it_is_in_the_whole_scene(kernel):
    a, b, valid = scene(7)
    window = np.full((23 + 10, 31 + 10, 2), 99, np.float32)
    window[5:28, 5:36, 0], window[5:28, 5:36, 1] = a, b
    marks = np.pad(valid, 5)
    core, out = Window(5 + 8, 5 + 20, 15, 11), np.empty((15, 11), np.uint8)
    kernel(window.reshape(33, -1), marks, core, Window(5, 5, 23, 31), 2, 0.1, out)
    np.testing.assert_array_equal(out, reference(a.astype(float), b.astype(float), valid, 2, 0.1)[8:23, 20:31])


def test_what_has_no_index_is_no_data(kernel):
    values = np.array([[0, 0, 1, -1, 4, 2]], np.float32)
    out, whole = np.empty((1, 3), np.uint8), Window(0, 0, 1, 3)
    kernel(values, np.ones((1, 3), np.uint8), whole, whole, 0, 0.25, out)
    assert out.tolist() == [[255, 255, 1]]
