"""Heat against plain NumPy, jitted and not."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.kernels.heat import FULL, draw, heat


def plainly_drawn(rows, cols, kinds, sigma, top, left, shape):
    y, x = np.indices(shape[1:])
    out = np.zeros(shape, np.uint8)
    for row, col, kind in zip(rows - top, cols - left, kinds, strict=True):
        squared = (y - row) ** 2 + (x - col) ** 2
        bell = np.where(squared <= 9 * sigma**2, FULL * np.exp(-squared / (2 * sigma**2)) + 0.5, 0)
        out[kind] = np.maximum(out[kind], bell.astype(np.uint8))
    return out


@pytest.mark.parametrize("drawn", [draw, draw.py_func], ids=["jitted", "plain"])
@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.7, 6.0])
def test_each_object_is_a_bell_in_the_plane_of_its_kind_also_from_beyond_the_window(drawn, sigma):
    rng = np.random.default_rng(1)
    rows, cols, kinds = rng.integers(90, 150, 25), rng.integers(190, 240, 25), rng.integers(0, 2, 25)
    out = np.full((2, 40, 30), 7, np.uint8)
    drawn(rows, cols, kinds, sigma, 100, 200, out)
    np.testing.assert_array_equal(out, plainly_drawn(rows, cols, kinds, sigma, 100, 200, out.shape))


def test_only_centres_are_full():
    out = np.empty((1, 40, 40), np.uint8)
    draw(np.array([3, 20]), np.array([5, 21]), np.zeros(2, np.int64), 5.0, 0, 0, out)
    assert sorted(zip(*(each.tolist() for each in np.nonzero(out[0] == FULL)), strict=True)) == [(3, 5), (20, 21)]


@pytest.mark.parametrize("scored", [heat, heat.py_func], ids=["jitted", "plain"])
def test_a_score_is_the_sigmoid_of_its_kinds_logit_and_255_without_data(scored):
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 6, (9, 8, 2)).astype(np.float32)
    valid = (rng.random((9, 8)) < 0.7).astype(np.uint8)
    wanted = np.where(valid, np.floor(FULL / (1 + np.exp(-logits[..., 1].astype(float))) + 0.5), 255)
    out = np.empty((9, 8), np.uint8)
    scored(logits, valid, 1, out)
    assert np.abs(out - wanted).max() <= 1
    assert ((out == 255) == (valid == 0)).all()


def test_half_a_float_is_scored_as_the_float_that_it_is():
    logits = np.array([[[1.5]], [[-80.0]], [[80.0]]], np.float32)
    bits = (logits.view(np.uint32) >> 16).astype(np.uint16)
    out = [np.empty((3, 1), np.uint8) for _ in range(2)]
    for each, given in zip(out, (logits, bits), strict=True):
        heat(given, np.ones((3, 1), np.uint8), 0, each)
    np.testing.assert_array_equal(out[0], out[1])
    assert out[0][1:, 0].tolist() == [0, FULL]
