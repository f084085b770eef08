"""Clusters of features: one agglomerative tree, cut at each number of clusters, and the number at the knee of their variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import AgglomerativeClustering


@dataclass(frozen=True)
class Standard:
    """How features become what clusters and the hashing network take: (features - mean) / scale, mean float64 (d,).

    One scale for all of them: how far each spreads is what the encoder learned of its weight.
    """

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, features: np.ndarray) -> Standard:
        """From features (n, d), to a mean variance of 1; those that never vary are only shifted."""
        deviation = float(np.sqrt(features.var(0, dtype=np.float64).mean()))
        return cls(features.mean(0, dtype=np.float64), deviation or 1.0)

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Standardised features, float64 (n, d)."""
        return (features - self.mean) / self.scale


def grow_tree(points: np.ndarray) -> np.ndarray:
    """The merges of Ward's agglomerative clustering of points (n, d), n at least 2: int (n - 1, 2), the nearest first. Node n + k is what
    merge k makes."""
    return AgglomerativeClustering(n_clusters=None, distance_threshold=0.0, linkage="ward").fit(points).children_


def cut_tree(merges: np.ndarray, count: int) -> np.ndarray:
    """The cluster of each point, int64 (n,), when so many are left; the largest is 0, of equal ones that with the first point."""
    n = len(merges) + 1
    above = np.arange(2 * n - 1)
    for k, pair in enumerate(merges[: n - count]):
        above[pair] = n + k
    while not np.array_equal(above, above[above]):
        above = above[above]
    _, first, labels, sizes = np.unique(above[:n], return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    return np.argsort(order)[labels]


def mean_variance(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean over points (n, d) of the variance of their cluster, the mean squared distance to its mean. Each cut lowers it."""
    return float(sum(points[labels == k].var(0).sum() * np.mean(labels == k) for k in range(labels.max() + 1)))


def find_knee(numbers: Sequence[int], variances: Sequence[float]) -> int:
    """The number whose variance lies farthest below the chord between the first and the last; the lowest of equal ones.

    Distances to one line are in the same order whether they are perpendicular to it or vertical.
    """
    chord = np.interp(numbers, [numbers[0], numbers[-1]], [variances[0], variances[-1]])
    return numbers[int(np.argmax(chord - np.array(variances)))]


def nearest_mean(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The cluster whose mean (k, d) is nearest to each point (n, d), int64 (n,)."""
    return np.argmin(((points[:, None] - means[None]) ** 2).sum(2), axis=1)
