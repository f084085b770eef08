"""Ranks divide over the networks of a gallery: all are used, nothing is left out, and the last ends soon."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.gallery.schedule import divide

COSTS = st.lists(st.integers(1, 1000), min_size=1, max_size=8)


def end(costs, groups) -> float:
    return max(sum(costs[job] for job in group.jobs) / len(group.ranks) for group in groups)


@given(COSTS, st.integers(1, 20))
def test_every_rank_and_every_job_is_in_one_group(costs, size):
    groups = divide(costs, size)
    assert [rank for group in groups for rank in group.ranks] == list(range(size))
    assert sorted(job for group in groups for job in group.jobs) == list(range(len(costs)))


@given(COSTS, st.integers(1, 20))
def test_no_group_is_idle_and_its_dearest_job_comes_first(costs, size):
    for group in divide(costs, size):
        assert group.jobs
        assert [costs[job] for job in group.jobs] == sorted((costs[job] for job in group.jobs), reverse=True)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(1, 4))
def test_it_ends_within_two_of_the_best_that_single_ranks_could_do(costs, size):
    best = min(
        max(sum(c for c, r in zip(costs, ranks, strict=True) if r == rank) for rank in range(size))
        for ranks in product(range(size), repeat=len(costs))
    )
    assert end(costs, divide(costs, size)) <= 4 / 3 * best + 1e-9


def test_one_rank_does_all():
    (group,) = divide([2, 3, 1], 1)
    assert group.jobs == [1, 0, 2]


def test_as_many_ranks_as_equal_jobs_take_one_each():
    assert [(group.ranks, group.jobs) for group in divide([5, 5, 5], 3)] == [(range(k, k + 1), [k]) for k in range(3)]


def test_ranks_that_are_left_go_where_most_is_to_do():
    assert {tuple(group.jobs): len(group.ranks) for group in divide([60, 20, 20], 10)} == {(0,): 6, (1,): 2, (2,): 2}


def test_one_dear_job_among_cheap_ones_gets_several_ranks():
    """Six buckets and the mono model, of as many samples as all of them, on six ranks: single ranks would end after 60."""
    groups = divide([60, 10, 10, 10, 10, 10, 10], 6)
    assert len(next(group for group in groups if 0 in group.jobs).ranks) >= 3
    assert end([60, 10, 10, 10, 10, 10, 10], groups) <= 30


@pytest.mark.parametrize("size", [1, 3, 7, 16])
def test_equal_jobs_end_together(size):
    groups = divide([10] * 7, size)
    assert end([10] * 7, groups) <= 2 * 70 / size
