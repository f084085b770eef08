"""Matching against every way there is, and the figures that follow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcseg.matching import Figures, Objects, best_level, calibrate, curve, figures, match


def objects(points, scores=None, places=None) -> Objects:
    y, x = np.array(points, float).reshape(-1, 2).T
    zeros = np.zeros(len(y), int)
    return Objects(zeros if places is None else np.array(places), y, x, np.array(zeros if scores is None else scores, np.uint8))


def every_way(there, found, distance):
    """(most pairs, their least sum of distances), by trying all."""
    best = (0, 0.0)
    n = len(found)
    for order in itertools.permutations([*range(len(there)), *[-1] * n], n):
        pairs = [(k, j) for k, j in enumerate(order) if j >= 0]
        lengths = [np.hypot(there.y[j] - found.y[k], there.x[j] - found.x[k]) for k, j in pairs]
        same = all(there.place[j] == found.place[k] for k, j in pairs)
        if same and all(length <= distance for length in lengths):
            best = max(best, (len(pairs), -sum(lengths)))
    return best[0], -best[1]


spots = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(spots, spots, st.sampled_from([1.0, 2.0, 3.7]))
def test_as_many_pairs_as_can_be_and_the_nearest_of_those(first, second, distance):
    there, found = (objects([each[:2] for each in spots], places=[each[2] for each in spots]) for spots in (first, second))
    partner = match(there, found, distance)
    pairs = [(k, j) for k, j in enumerate(partner) if j >= 0]
    assert len({j for _, j in pairs}) == len(pairs)
    assert all(there.place[j] == found.place[k] for k, j in pairs)
    lengths = [np.hypot(there.y[j] - found.y[k], there.x[j] - found.x[k]) for k, j in pairs]
    assert all(length <= distance for length in lengths)
    most, least = every_way(there, found, distance)
    assert len(pairs) == most
    assert sum(lengths) == pytest.approx(least)


def test_a_thousand_objects_closer_than_the_distance_are_matched_in_a_moment():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 60, (1500, 2))
    moved = points + rng.normal(0, 0.1, points.shape)
    assert figures(objects(points), objects(moved), 3.0) == Figures(1500, 1500, 1500)


def test_figures_of_nothing_are_zero_and_its_count_error_is_unknown():
    none, one = objects([]), objects([(1, 1)])
    assert [getattr(figures(none, none, 1.0), name) for name in ("precision", "recall", "f1")] == [0, 0, 0]
    assert np.isnan(figures(none, one, 1.0).count_error)
    assert figures(one, none, 1.0).record() == {
        "there": 1, "found": 0, "matched": 0, "precision": 0, "recall": 0, "f1": 0, "count_error": -1,
    }  # fmt: skip


def test_the_curve_drops_what_scores_less_and_its_best_level_is_the_middle_of_equals():
    there = objects([(0, 0), (9, 9)])
    found = objects([(0, 0), (9, 9), (5, 5)], scores=[200, 100, 50])
    levels = [40, 60, 80, 100, 150, 250]
    along = curve(there, found, 1.0, levels)
    assert [(each.found, each.matched) for each in along] == [(3, 2), (2, 2), (2, 2), (2, 2), (1, 1), (0, 0)]
    assert best_level(levels, along) == 80


def test_calibration_rises_and_adds_up_to_what_is_there():
    rng = np.random.default_rng(3)
    scores = rng.integers(13, 255, 4000)
    real = rng.random(4000) < scores / 254
    points = np.column_stack([np.arange(4000) * 10.0, np.zeros(4000)])
    table = calibrate(objects(points[real]), objects(points, scores), 1.0)
    assert len(table) == 255
    assert table == sorted(table)
    assert table[100] == pytest.approx(100 / 254 * 1e6, rel=0.15)
    assert sum(table[score] for score in scores) == pytest.approx(1e6 * real.sum(), rel=1e-6)


def test_nothing_found_calibrates_nothing():
    assert calibrate(objects([(0, 0)]), objects([]), 1.0) == []
