"""Objects that were found against objects that are there: matched one to one within a distance, and the figures that follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

SCORES = 255
_MILLION = 1_000_000
_LEVELS = 64


class Objects(NamedTuple):
    """Objects of any number of scenes. place: int64 (n,), what objects must share to match, such as scene and class. y, x: float64
    (n,), in one unit, metres where they are known. score: u8 (n,)."""

    place: np.ndarray
    y: np.ndarray
    x: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:  # type: ignore[override]  # of objects, not of fields
        return self[0].shape[0]

    def pick(self, keep: np.ndarray) -> Objects:
        """Some of the objects: bool (n,) or their numbers."""
        return Objects(*(each[keep] for each in self))


class Figures(NamedTuple):
    """Figures of a match. matched: pairs. A share of nothing is 0. count_error: (found - there) / there, NaN where none is there."""

    there: int
    found: int
    matched: int

    @property
    def precision(self) -> float:
        return self.matched / max(1, self.found)

    @property
    def recall(self) -> float:
        return self.matched / max(1, self.there)

    @property
    def f1(self) -> float:
        """0 if nothing is found or there; the harmonic mean of precision and recall."""
        return 2 * self.matched / max(1, self.found + self.there)

    @property
    def count_error(self) -> float:
        return (self.found - self.there) / self.there if self.there else float("nan")

    def record(self) -> dict[str, float | int]:
        """All of it by name."""
        names = ("precision", "recall", "f1", "count_error")
        return self._asdict() | {name: getattr(self, name) for name in names}


def match(there: Objects, found: Objects, distance: float) -> np.ndarray:
    """For each found object the number of the one that is there, or -1, int64 (n,): one to one, of the same place, at most `distance`
    apart; as many pairs as can be, and of all such ways the one with the least sum of distances."""
    partner = np.full(len(found), -1, np.int64)
    if not len(there) or not len(found):
        return partner
    # Places lie so far from each other that no pair joins two of them.
    trees = [cKDTree(np.column_stack([each.y, each.x, each.place * (2.0 * distance + 1.0)])) for each in (found, there)]
    near = trees[0].sparse_distance_matrix(trees[1], distance, output_type="ndarray")
    n = len(found)
    # An own stand-in for each found object, dearer than any chain of pairs: it is taken only where nothing else is left.
    dear = (distance + 1.0) * (min(n, len(there)) + 1)
    rows, cols = np.concatenate([near["i"], np.arange(n)]), np.concatenate([near["j"], len(there) + np.arange(n)])
    costs = np.concatenate([near["v"] + 1.0, np.full(n, dear)])
    first, second = min_weight_full_bipartite_matching(coo_matrix((costs, (rows, cols)), (n, len(there) + n)).tocsr())
    real = second < len(there)
    partner[first[real]] = second[real]
    return partner


def figures(there: Objects, found: Objects, distance: float) -> Figures:
    """The figures of a match."""
    return Figures(len(there), len(found), int((match(there, found, distance) >= 0).sum()))


def curve(there: Objects, found: Objects, distance: float, levels: Sequence[int]) -> list[Figures]:
    """The figures of the found objects whose score is at least a level, for each of them."""
    return [figures(there, found.pick(found.score >= level), distance) for level in levels]


def levels_of(found: Objects) -> list[int]:
    """The scores that occur, rising, at most 64 of them spread over all; [0] if nothing was found."""
    seen = np.unique(found.score).tolist()
    return [seen[k] for k in np.unique(np.linspace(0, len(seen) - 1, min(len(seen), _LEVELS)).round().astype(int))] or [0]


def best_level(levels: Sequence[int], along: Sequence[Figures]) -> int:
    """The level of the highest F1; of several that are equal the middle one, which is furthest from where it falls."""
    top = max(each.f1 for each in along)
    equal = [level for level, each in zip(levels, along, strict=True) if each.f1 == top]
    return equal[len(equal) // 2]


def calibrate(there: Objects, found: Objects, distance: float) -> list[int]:
    """P(object | score) in millionths for scores 0 to 254, rising: isotonic regression of what is matched on its score (Zadrozny and
    Elkan, KDD 2002); scores that were not seen take the chance of the next lower one, those below the lowest that of it. Empty if
    nothing was found."""
    if not len(found):
        return []
    hit = match(there, found, distance) >= 0
    seen, index = np.unique(found.score, return_inverse=True)
    weights = np.bincount(index).astype(float)
    chance = optimize.isotonic_regression(np.bincount(index, weights=hit) / weights, weights=weights).x
    steps = np.searchsorted(seen, np.arange(SCORES), side="right") - 1
    return np.rint(np.clip(chance[np.maximum(steps, 0)], 0, 1) * _MILLION).astype(int).tolist()
