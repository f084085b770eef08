"""Clusters against scikit-learn's own cuts, variances and the knee against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from hpcseg.gallery.clusters import Standard, cut_tree, find_knee, grow_tree, mean_variance, nearest_mean

POINTS = np.random.default_rng(0).normal(size=(60, 5)) + 4 * np.random.default_rng(1).integers(0, 3, (60, 1))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 59, 60])
def test_a_cut_of_the_tree_is_what_clustering_to_that_number_gives(count):
    labels = cut_tree(grow_tree(POINTS), count)
    assert adjusted_rand_score(labels, AgglomerativeClustering(count).fit_predict(POINTS)) == 1
    assert sorted(set(labels)) == list(range(count))


def test_clusters_are_numbered_by_size_then_by_first_point():
    labels = cut_tree(grow_tree(POINTS), 12)
    sizes, firsts = np.bincount(labels), [np.flatnonzero(labels == k)[0] for k in range(12)]
    assert sorted(zip(-sizes, firsts, strict=True)) == list(zip(-sizes, firsts, strict=True))


def test_variance_is_the_mean_squared_distance_to_the_clusters_mean_and_falls_with_each_cut():
    merges = grow_tree(POINTS)
    found = [mean_variance(POINTS, cut_tree(merges, count)) for count in range(1, 61)]
    labels = cut_tree(merges, 7)
    means = np.stack([POINTS[labels == k].mean(0) for k in range(7)])
    assert found[6] == pytest.approx(((POINTS - means[labels]) ** 2).sum(1).mean())
    assert (np.diff(found) < 0).all()
    assert found[-1] == 0


@given(st.lists(st.floats(0, 100, allow_subnormal=False), min_size=2, max_size=20))
def test_the_knee_is_the_point_farthest_below_the_chord(variances):
    numbers = list(range(2, 2 + len(variances)))
    (x0, y0), (x1, y1) = (numbers[0], variances[0]), (numbers[-1], variances[-1])
    # Perpendicular distances, positive below.
    far = [((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / np.hypot(x1 - x0, y1 - y0) for x, y in zip(numbers, variances, strict=True)]
    assert far[numbers.index(find_knee(numbers, variances))] == pytest.approx(max(far), abs=1e-9)


def test_a_straight_curve_has_its_knee_at_the_lowest_number():
    assert find_knee([2, 3, 4], [6.0, 4.0, 2.0]) == 2
    assert find_knee([2], [6.0]) == 2


def test_standard_features_have_mean_0_and_keep_their_spreads_beside_each_other():
    features = np.concatenate([POINTS * [7, 7, 7, 1, 1] + 3, np.full((60, 1), 5.0)], axis=1).astype(np.float32)
    points = Standard.of(features).apply(features)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(points.var(0).mean(), 1, rtol=1e-5)
    np.testing.assert_allclose(points.std(0) / points.std(0)[0], features.std(0) / features.std(0)[0], rtol=1e-4)


def test_features_that_never_vary_are_shifted_to_0():
    np.testing.assert_array_equal(Standard.of(np.full((4, 3), 5.0)).apply(np.full((4, 3), 5.0)), 0)


def test_the_nearest_mean_is_that_of_the_least_distance():
    means = POINTS[:4]
    wanted = [min(range(4), key=lambda k: np.linalg.norm(point - means[k])) for point in POINTS]
    assert nearest_mean(POINTS, means).tolist() == wanted
