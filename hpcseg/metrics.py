"""Figures of merit from integer confusion matrices, and how far chance moves them.

A table is int64 (n, n), [truth, map]. Its figures are float64 (5, n + 1): rows as in MEASURES, one column a class, the last for all
classes together: the mean over the classes, and for accuracy the share of all pixels that are right. What is 0 / 0 is NaN here and
null in files: every figure of a class that occurs neither in truth nor in the map, precision where the map never has the class,
recall where the truth never has it. Means leave NaN out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

MEASURES = ("iou", "f1", "precision", "recall", "accuracy")
OVERALL = ("mean_iou", "mean_f1", "mean_precision", "mean_recall", "accuracy")
REPLICATES = 1000
_BATCH = 100
_INTERVAL = (0.025, 0.975)


def figures(table: np.ndarray) -> np.ndarray:
    """Figures of tables, int64 (..., n, n) -> float64 (..., 5, n + 1).

    With tp, fp, fn, tn of a class: IoU = tp / (tp + fp + fn) (Jaccard 1912), F1 = 2 tp / (2 tp + fp + fn) (Dice 1945),
    precision = tp / (tp + fp), recall = tp / (tp + fn), accuracy = (tp + tn) / all.
    """
    return _from_marginals(_marginals(table))


def _marginals(table: np.ndarray) -> np.ndarray:
    """Per class the pixels that are right, those of the truth, those of the map: int64 (..., 3, n). Figures need no more."""
    return np.stack([np.diagonal(table, axis1=-2, axis2=-1), table.sum(-1), table.sum(-2)], -2)


def _from_marginals(marginals: np.ndarray) -> np.ndarray:
    right, truth, found = np.moveaxis(marginals.astype(np.float64), -2, 0)
    either, total = truth + found - right, truth.sum(-1, keepdims=True)
    correct = np.where(either > 0, total - either + right, np.nan)
    classes = [_share(right, either), _share(2 * right, truth + found), _share(right, found), _share(right, truth), _share(correct, total)]
    overall = [mean(each, -1) for each in classes[:-1]] + [_share(right.sum(-1), total[..., 0])]
    return np.stack([np.concatenate([each, one[..., None]], -1) for each, one in zip(classes, overall, strict=True)], -2)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean along an axis with NaN left out; NaN where nothing is left."""
    known = np.isfinite(values)
    return _share(np.where(known, values, 0).sum(axis), known.sum(axis))


def pooled_interval(units: np.ndarray, seed: int = 0) -> np.ndarray:
    """95 % bootstrap interval of the figures of the sum of tables. units: int64 (u, n, n), scenes or blocks, resampled whole.

    Returns float64 (2, 5, n + 1): lower and upper ends by the percentile method (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, section 13.3) over 1,000 replicates; NaN with fewer than two units. The same for the same units and seed.
    """
    marginals = _marginals(units)
    flat = marginals.reshape(len(units), 3 * units.shape[-1]).astype(np.float64)
    # Sums of integers below 2**53 are exact in float64, whatever the order.
    samples = [_from_marginals((weights @ flat).reshape(-1, *marginals.shape[1:])) for weights in _draws(len(units), seed)]
    return _percentiles(samples, units.shape[-1])


def mean_interval(scenes: np.ndarray, seed: int = 0) -> np.ndarray:
    """95 % bootstrap interval of the mean over scenes, as `pooled_interval`. scenes: their figures, float64 (s, 5, n + 1)."""
    known = np.isfinite(scenes).reshape(len(scenes), len(MEASURES) * scenes.shape[-1])
    values = np.where(known, scenes.reshape(known.shape), 0)
    samples = [
        _share(weights @ values, weights @ known.astype(np.float64)).reshape(-1, *scenes.shape[1:])
        for weights in _draws(len(scenes), seed)
    ]
    return _percentiles(samples, scenes.shape[-1] - 1)


def _draws(units: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn in each replicate, float64 (batch, units); nothing where there are too few units."""
    rng = np.random.default_rng(seed)
    for _ in range(0, REPLICATES if units > 1 else 0, _BATCH):
        yield rng.multinomial(units, np.full(units, 1 / units), size=_BATCH).astype(np.float64)


def _percentiles(samples: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Ends of the interval over all samples, linear between them; samples in which a figure is NaN are left out."""
    if not samples:
        return np.full((2, len(MEASURES), classes + 1), np.nan)
    ordered = np.sort(np.concatenate(samples), axis=0)
    last = np.isfinite(ordered).sum(0) - 1
    ends = []
    for share in _INTERVAL:
        place = share * np.maximum(last, 0)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, np.maximum(last, 0))
        low, high = (np.take_along_axis(ordered, index[None], 0)[0] for index in (below, above))
        ends.append(low + (high - low) * (place - below))
    return np.stack(ends)
