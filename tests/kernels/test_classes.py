"""Values to class numbers, and counting them: each kernel against plain NumPy, compiled and not."""

import numpy as np
import pytest

from hpcseg.kernels.classes import NOT_LABELLED, assign_classes, count_classes

KNOWN = np.array([-9999, 0, 1, 7, 255, 0xFF8000], np.float32)
CLASSES = np.array([255, 0, 2, 1, 255, 254], np.uint8)


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, kernel.py_func], ids=["jitted", "plain"])


def window(seed=0, shape=(13, 17)):
    """Values in runs, some of them not valid."""
    rng = np.random.default_rng(seed)
    return rng.choice(KNOWN, shape).repeat(3, 1), (rng.random((shape[0], 3 * shape[1])) < 0.8).astype(np.uint8)


@both(assign_classes)
def test_each_value_becomes_its_class_and_what_is_not_valid_255(kernel):
    values, valid = window()
    out = np.zeros(values.shape, np.uint8)
    assert kernel(values, valid, KNOWN, CLASSES, out) == -1
    np.testing.assert_array_equal(out, np.where(valid, CLASSES[np.searchsorted(KNOWN, values)], NOT_LABELLED))


@both(assign_classes)
@pytest.mark.parametrize("strange", [0.5, 2, 256, 1e30, -1e30, 0xFF8001])
def test_the_first_unknown_value_is_pointed_at(kernel, strange):
    values, valid = window()
    valid[2, 3] = valid[5, 6] = valid[5, 7] = 1
    values[5, 6:8] = values[9, 1] = strange
    out = np.zeros(values.shape, np.uint8)
    assert kernel(values, valid, KNOWN, CLASSES, out) == 5 * values.shape[1] + 6
    assert out[5, 6] == out[5, 7] == NOT_LABELLED


@both(assign_classes)
def test_what_is_not_valid_may_have_any_value(kernel):
    values = np.array([[np.nan, 3, 0, np.nan, 1]], np.float32)
    out = np.zeros((1, 5), np.uint8)
    assert kernel(values, np.array([[0, 0, 1, 0, 1]], np.uint8), KNOWN, CLASSES, out) == -1
    assert out.tolist() == [[255, 255, 0, 255, 2]]


@both(count_classes)
def test_counts_are_added_and_255_is_not_counted(kernel):
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 254, 255], np.uint8), (31, 17))
    counts = np.ones(255, np.int64)
    kernel(labels, counts)
    np.testing.assert_array_equal(counts, 1 + np.bincount(labels.ravel(), minlength=256)[:255])
