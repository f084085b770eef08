"""Figures of merit, against their definitions pixel by pixel; what is 0 / 0 is nothing, not a number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.metrics import MEASURES, figures, mean, mean_interval, pooled_interval

ROW = {name: k for k, name in enumerate(MEASURES)}


def table_of(truth, labels, classes):
    return np.bincount(truth * classes + labels, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def by_definition(truth, labels, classes):
    """{(measure, class): value} from sets of pixels, without those that are 0 / 0."""
    found = {}
    for k in range(classes):
        a, b = truth == k, labels == k
        tp, fp, fn = (int(each.sum()) for each in (a & b, ~a & b, a & ~b))
        parts = {
            "iou": (tp, tp + fp + fn), "f1": (2 * tp, 2 * tp + fp + fn), "precision": (tp, tp + fp), "recall": (tp, tp + fn),
            "accuracy": (int((a == b).sum()), len(truth) if tp + fp + fn else 0),
        }  # fmt: skip
        found |= {(name, k): part / whole for name, (part, whole) in parts.items() if whole}
    return found


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6), size=st.integers(1, 60))
def test_figures_are_what_their_definitions_say(seed, classes, size):
    truth, labels = np.random.default_rng(seed).integers(0, classes, (2, size))
    result, wanted = figures(table_of(truth, labels, classes)), by_definition(truth, labels, classes)
    for name in MEASURES:
        for k in range(classes):
            assert result[ROW[name], k] == pytest.approx(wanted.get((name, k), np.nan), nan_ok=True)
        known = [wanted[name, k] for k in range(classes) if (name, k) in wanted]
        overall = (truth == labels).mean() if name == "accuracy" else np.mean(known)
        assert result[ROW[name], classes] == pytest.approx(overall)


def test_a_class_that_never_occurs_has_no_figures_and_no_part_in_means():
    table = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]], np.int64)
    result = figures(table)
    assert np.isnan(result[:, 2]).all()
    np.testing.assert_allclose(result[:4, 3], result[:4, :2].mean(1))
    np.testing.assert_allclose(result[:, [0, 1, 3]], figures(table[:2, :2]))


def test_a_class_that_only_the_map_has_is_wrong_and_has_no_recall():
    result = figures(np.array([[5, 4], [0, 0]], np.int64))
    assert [result[ROW[name], 1] for name in ("iou", "f1", "precision")] == [0, 0, 0]
    assert np.isnan(result[ROW["recall"], 1])


def test_without_pixels_there_are_no_figures():
    assert np.isnan(figures(np.zeros((3, 3), np.int64))).all()


def test_counts_beyond_those_of_any_scene_keep_their_digits():
    result = figures(np.array([[3 * 10**14, 10**14], [0, 10**14]], np.int64))
    assert result[ROW["iou"], 0] == pytest.approx(0.75, rel=1e-15)


def test_many_tables_at_once_are_each_by_itself():
    tables = np.random.default_rng(0).integers(0, 50, (4, 7, 3, 3))
    result = figures(tables)
    assert result.shape == (4, 7, 5, 4)
    np.testing.assert_array_equal(result[2, 5], figures(tables[2, 5]))


def test_a_mean_leaves_out_what_is_not_known():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]])
    np.testing.assert_array_equal(mean(values), [2.0, 4.0, np.nan])


def units(count, seed=1, classes=2):
    """Tables of scenes of the same size whose quality varies."""
    rng = np.random.default_rng(seed)
    shares = [rng.dirichlet((40, 4, 6, 30) if classes == 2 else np.ones(classes**2)) for _ in range(count)]
    return np.stack([rng.multinomial(10_000, each).reshape(classes, classes) for each in shares])


def bootstrap(tables, replicates, seed):
    """The percentile bootstrap one resample at a time."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(tables), (replicates, len(tables)))
    return np.nanpercentile([figures(tables[pick].sum(0)) for pick in picks], (2.5, 97.5), axis=0)


def test_the_pooled_interval_is_that_of_a_plain_bootstrap():
    tables = units(25)
    low, high = pooled_interval(tables)
    wanted = bootstrap(tables, 4000, 7)
    width = wanted[1] - wanted[0]
    assert (width > 0).all()
    assert (np.abs(low - wanted[0]) < 0.12 * width).all()
    assert (np.abs(high - wanted[1]) < 0.12 * width).all()


def test_the_interval_of_the_mean_is_that_of_a_plain_bootstrap():
    scenes = figures(units(25, seed=3))
    rng = np.random.default_rng(5)
    wanted = np.percentile([scenes[rng.integers(0, 25, 25)].mean(0) for _ in range(4000)], (2.5, 97.5), axis=0)
    result = mean_interval(scenes)
    assert (np.abs(result - wanted) < 0.12 * (wanted[1] - wanted[0])).all()


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = figures(units(20_000, seed=10).sum(0))[ROW["iou"], 1]
    intervals = [pooled_interval(units(40, seed=100 + k))[:, ROW["iou"], 1] for k in range(100)]
    assert 86 <= sum(low <= truth <= high for low, high in intervals) <= 100


def test_intervals_depend_on_units_and_seed_alone():
    tables = units(9)
    np.testing.assert_array_equal(pooled_interval(tables, 4), pooled_interval(tables.copy(), 4))
    assert not np.array_equal(pooled_interval(tables, 4), pooled_interval(tables, 5))


def test_equal_units_leave_no_doubt():
    low, high = pooled_interval(np.repeat(units(1), 6, axis=0))
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("count", [0, 1])
def test_one_unit_has_no_interval(count):
    assert np.isnan(pooled_interval(units(3)[:count])).all()
    assert np.isnan(mean_interval(figures(units(3)[:count]))).all()


def test_resamples_without_a_class_do_not_count_for_it():
    tables = np.repeat(np.array([[[9, 1, 0], [2, 8, 0], [0, 0, 0]]], np.int64), 5, axis=0)
    tables[0, 2, 2] = 4
    for interval in (pooled_interval(tables), mean_interval(figures(tables))):
        np.testing.assert_array_equal(interval[:, ROW["iou"], 2], [1.0, 1.0])
        assert np.isfinite(interval).all()
