"""Labels and confidences: each kernel against plain NumPy, compiled and not."""

import numpy as np
import pytest

from hpcseg.kernels.labels import NODATA, close_calls, confidence, label
from hpcseg.tiles import Window


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, getattr(kernel, "py_func", kernel)], ids=["jitted", "plain"])


def logits_of(classes, seed=0, height=9, width=14):
    """Logits (h, w, c) in steps of 1/4, so that ties occur, and a validity with gaps."""
    rng = np.random.default_rng(seed)
    logits = (rng.integers(-16, 17, (height, width, classes)) / 4).astype(np.float32)
    return logits, (rng.random((height, width)) < 0.8).astype(np.uint8)


def labels_of(kernel, logits, valid, cut=0.0):
    out = np.full(valid.shape, 77, np.uint8)
    kernel(logits, valid, Window(0, 0, *valid.shape), (0,) * logits.shape[2], np.float32(cut), out)
    return out


def chance(logits, of_class):
    """Probability (h, w) of a class per pixel in float64."""
    if logits.shape[2] == 1:
        one = 1 / (1 + np.exp(-logits[..., 0].astype(np.float64)))
        return np.where(of_class == 1, one, 1 - one)
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    return np.take_along_axis(shares, np.broadcast_to(of_class, logits.shape[:2])[..., None], -1)[..., 0]


@both(label)
@pytest.mark.parametrize("classes", [2, 3, 8, 255])
def test_the_label_is_the_argmax_and_the_lowest_class_on_ties(kernel, classes):
    logits, valid = logits_of(classes)
    wanted = np.where(valid, logits.argmax(-1), NODATA)
    np.testing.assert_array_equal(labels_of(kernel, logits, valid), wanted)


@both(label)
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_a_single_logit_is_class_1_from_the_threshold_on(kernel, threshold):
    logits, valid = logits_of(1)
    cut = np.float32(np.log(threshold / (1 - threshold)))
    logits[0, 0], logits[0, 1], valid[0, :2] = cut, cut - np.float32(1e-6), 1
    out = labels_of(kernel, logits, valid, cut)
    np.testing.assert_array_equal(out, np.where(valid, logits[..., 0] >= cut, NODATA))
    assert out[0, :2].tolist() == [1, 0]


@both(label)
def test_only_the_core_is_labelled(kernel):
    logits, valid = logits_of(4)
    out = np.full((5, 6), 77, np.uint8)
    kernel(logits, valid, Window(2, 3, 5, 6), (0,) * 4, np.float32(0), out)
    np.testing.assert_array_equal(out, labels_of(label, logits, valid)[2:7, 3:9])


@both(label)
def test_bits_of_bfloat16_are_labelled_as_their_values(kernel):
    logits, valid = logits_of(3)
    bits = (logits.view(np.uint32) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(labels_of(kernel, bits, valid), labels_of(label, logits, valid))


@both(confidence)
@pytest.mark.parametrize("classes", [1, 2, 3, 8])
def test_the_confidence_of_a_label_is_its_own_probability(kernel, classes):
    logits, valid = logits_of(classes)
    labels = labels_of(label, logits, valid)
    out = np.zeros(labels.shape, np.uint8)
    kernel(logits, labels, -1, out)
    exact = 254 * chance(logits, np.where(valid, labels, 0))
    assert (out[valid == 0] == NODATA).all()
    assert (np.abs(out - exact)[valid == 1] <= 0.5 + 1e-3).all()
    assert out[valid == 1].min() >= 126 // max(classes - 1, 1)


@both(confidence)
@pytest.mark.parametrize(("classes", "of_class"), [(1, 0), (1, 1), (2, 0), (3, 2)])
def test_the_probability_of_a_chosen_class(kernel, classes, of_class):
    logits, valid = logits_of(classes, seed=3)
    labels = labels_of(label, logits, valid)
    out = np.zeros(labels.shape, np.uint8)
    kernel(logits, labels, of_class, out)
    exact = 254 * chance(logits, np.full(labels.shape, of_class))
    assert (out[valid == 0] == NODATA).all()
    assert (np.abs(out - exact)[valid == 1] <= 0.5 + 1e-3).all()


@both(confidence)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_extreme_logits_give_certainty_not_an_overflow(kernel):
    logits = np.array([[[1e4, -1e4, 0]]], np.float32)
    for of_class, wanted in ((-1, 254), (0, 254), (1, 0), (2, 0)):
        out = np.zeros((1, 1), np.uint8)
        kernel(logits, np.zeros((1, 1), np.uint8), of_class, out)
        assert out[0, 0] == wanted


@both(close_calls)
@pytest.mark.parametrize("margin", [0.0, 0.25, 1.0])
def test_close_calls_are_valid_pixels_whose_top_two_lie_within_the_margin(kernel, margin):
    logits, valid = logits_of(3)
    ordered = np.sort(logits, -1)
    wanted = ((ordered[..., -1] - ordered[..., -2] <= margin) & (valid == 1)).sum()
    assert 0 < wanted < valid.sum()
    assert kernel(logits, valid, np.float32(margin)) == wanted
