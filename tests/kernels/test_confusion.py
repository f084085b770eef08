"""Counting pairs and finding borders: each kernel against plain NumPy, compiled and not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from hpcseg.kernels.confusion import count_pairs, mark_borders

NONE = np.empty((0, 0), np.uint8)


def both(kernel):
    return pytest.mark.parametrize("kernel", [kernel, getattr(kernel, "py_func", kernel)], ids=["jitted", "plain"])


def planes(seed=0, shape=(23, 31), classes=4, unlabelled=0.2):
    rng = np.random.default_rng(seed)
    truth, labels = rng.integers(0, classes, (2, *shape)).astype(np.uint8)
    truth[rng.random(shape) < unlabelled] = 255
    labels[rng.random(shape) < unlabelled] = 255
    return truth, labels


def counted(kernel, truth, labels, near=NONE, classes=4):
    table, unmapped = np.zeros((classes, classes), np.int64), np.zeros(classes, np.int64)
    unknown = kernel(truth, labels, near, table, unmapped)
    return table, unmapped, unknown


def reference(truth, labels, judged, classes=4):
    """Confusion matrix and unmapped counts by bincount."""
    judged = judged & (truth != 255)
    both = judged & (labels != 255)
    pairs = truth[both].astype(int) * classes + labels[both]
    table = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return table, np.bincount(truth[judged & (labels == 255)], minlength=classes)


@both(count_pairs)
@pytest.mark.parametrize("masked", [False, True])
def test_pairs_are_counted_where_truth_is_labelled_and_no_border_is_near(kernel, masked):
    truth, labels = planes()
    near = (np.random.default_rng(1).random(truth.shape) < 0.3).astype(np.uint8)
    table, unmapped, unknown = counted(kernel, truth, labels, near if masked else NONE)
    wanted, missing = reference(truth, labels, near == 0 if masked else np.ones(truth.shape, bool))
    np.testing.assert_array_equal(table, wanted)
    np.testing.assert_array_equal(unmapped, missing)
    assert unknown == 0


@both(count_pairs)
def test_counts_add_up_over_windows_that_are_no_copies(kernel):
    truth, labels = planes(2)
    table, unmapped = np.zeros((4, 4), np.int64), np.zeros(4, np.int64)
    for part in (np.s_[:9, :], np.s_[9:, :14], np.s_[9:, 14:]):
        kernel(truth[part], labels[part], NONE, table, unmapped)
    whole = counted(kernel, truth, labels)
    np.testing.assert_array_equal(table, whole[0])
    np.testing.assert_array_equal(unmapped, whole[1])


@both(count_pairs)
def test_rows_are_truth_and_columns_are_labels(kernel):
    table, _, _ = counted(kernel, np.full((2, 3), 1, np.uint8), np.full((2, 3), 2, np.uint8))
    assert table[1, 2] == table.sum() == 6


@both(count_pairs)
def test_classes_without_a_place_are_counted_apart_and_touch_nothing(kernel):
    truth = np.array([[0, 3, 254, 255, 1]], np.uint8)
    labels = np.array([[2, 0, 255, 200, 1]], np.uint8)
    table, unmapped, unknown = counted(kernel, truth, labels, classes=2)
    assert unknown == 3
    assert (table.sum(), table[1, 1], unmapped.sum()) == (1, 1, 0)


def another_class_near(truth, reach):
    """Where the square around a labelled pixel holds another class, all its pixels looked at one by one."""
    squares = sliding_window_view(np.pad(truth, reach, constant_values=255), (2 * reach + 1, 2 * reach + 1))
    other = (squares != truth[..., None, None]) & (squares != 255)
    return other.any((-1, -2)) & (truth != 255)


def marked(kernel, truth, reach):
    out = np.full(truth.shape, 7, np.uint8)
    kernel(np.pad(truth, reach, constant_values=255), reach, out)
    return out


@both(mark_borders)
@pytest.mark.parametrize("reach", [0, 1, 2, 5, 40])
def test_borders_are_marked_within_reach(kernel, reach):
    rng = np.random.default_rng(reach)
    truth = np.kron(rng.integers(0, 3, (4, 5)), np.ones((9, 9))).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    np.testing.assert_array_equal(marked(kernel, truth, reach), another_class_near(truth, reach))


@both(mark_borders)
def test_one_pixel_marks_the_square_around_it(kernel):
    truth = np.zeros((9, 9), np.uint8)
    truth[4, 4] = 1
    wanted = np.zeros((9, 9), np.uint8)
    wanted[2:7, 2:7] = 1
    np.testing.assert_array_equal(marked(kernel, truth, 2), wanted)


@both(mark_borders)
def test_what_is_not_labelled_makes_no_border(kernel):
    truth = np.ones((6, 8), np.uint8)
    truth[2:4, 3:5] = 255
    assert not marked(kernel, truth, 3).any()


@given(seed=st.integers(0, 10**6), reach=st.integers(0, 4), cut=st.integers(1, 15))
def test_borders_do_not_depend_on_how_the_scene_is_cut(seed, reach, cut):
    truth = np.where(np.random.default_rng(seed).random((16, 20)) < 0.9, 0, 2).astype(np.uint8)
    padded, whole = np.pad(truth, reach, constant_values=255), marked(mark_borders, truth, reach)
    for rows in (slice(0, cut), slice(cut, 16)):
        part = np.empty((rows.stop - rows.start, 20), np.uint8)
        mark_borders(padded[rows.start : rows.stop + 2 * reach], reach, part)
        np.testing.assert_array_equal(part, whole[rows])
