"""Who trains what: ranks divide over the networks of a gallery by what these cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_GAIN = 0.8


class Group(NamedTuple):
    """Ranks that train together, and the jobs that they do one after the other, the dearest first."""

    ranks: range
    jobs: list[int]


def divide(costs: Sequence[float], size: int) -> list[Group]:
    """Groups of `size` ranks for jobs of these costs, every rank and every job in one; the same on every rank.

    Of all numbers of groups that which ends first; of equals, the most groups. n ranks are taken to be n**0.8 times as fast as one.
    """
    plans = [_plan(costs, size, groups) for groups in range(min(size, len(costs)), 0, -1)]
    return min(plans, key=lambda plan: round(_end(costs, plan), 9))


def _end(costs: Sequence[float], plan: Sequence[Group]) -> float:
    """When the last group ends."""
    return max(_load(costs, group.jobs) / len(group.ranks) ** _GAIN for group in plan)


def _load(costs: Sequence[float], jobs: Sequence[int]) -> float:
    return sum(costs[job] for job in jobs)


def _plan(costs: Sequence[float], size: int, groups: int) -> list[Group]:
    """The dearest job left to the group with the least to do (Graham, SIAM J. Appl. Math. 17, 1969), then each rank that is left to the
    group with the most to do for each of its own; ties to the first."""
    jobs: list[list[int]] = [[] for _ in range(groups)]
    loads = np.zeros(groups)
    for job in sorted(range(len(costs)), key=lambda k: (-costs[k], k)):
        least = int(np.argmin(loads))
        jobs[least].append(job)
        loads[least] += costs[job]
    ranks = np.ones(groups, int)
    for _ in range(size - groups):
        ranks[np.argmax(loads / ranks)] += 1
    ends = np.cumsum(ranks).tolist()
    return [Group(range(end - n, end), each) for each, end, n in zip(jobs, ends, ranks.tolist(), strict=True)]
