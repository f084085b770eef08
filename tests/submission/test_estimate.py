"""How long so many ranks take, how many nodes that wants, and what is refused."""

from __future__ import annotations

import pytest

from hpcseg.errors import UsageError
from hpcseg.submission.estimate import MARGIN, START, Ask, Demand, clock, fewest_ranks, fit, seconds_on

WORK = Demand(units=1000, seconds=10.0, most=1000, told=("where from",))
HOUR = 3600


def test_an_estimate_is_the_fullest_rank_with_a_margin_and_a_start():
    assert seconds_on(WORK, 1) == START + MARGIN * 10 * 1001
    assert seconds_on(WORK, 100) == START + MARGIN * 10 * 11


@pytest.mark.parametrize("budget", [HOUR, 2 * HOUR, 5000])
def test_the_fewest_ranks_are_enough_and_one_less_is_not(budget):
    ranks = fewest_ranks(WORK, budget)
    assert seconds_on(WORK, ranks) <= budget < seconds_on(WORK, ranks - 1)


def test_no_number_of_ranks_is_faster_than_a_tile_each():
    assert seconds_on(WORK, 1000) > START + 15
    assert fewest_ranks(WORK, START + 15) == 0
    assert fewest_ranks(WORK, START - 1) == 0


def test_where_nothing_else_bounds_the_ranks_a_unit_each_is_the_most():
    free = WORK._replace(most=0)
    assert fewest_ranks(free, HOUR) == fewest_ranks(WORK, HOUR)
    assert fewest_ranks(free, START + 15) == 0
    assert fit(free, Ask(nodes=1001)).told[-1] == "warning: 1001 ranks, but work for 1000 only"


@pytest.mark.parametrize(("ranks", "nodes"), [(1, 5), (2, 3), (4, 2), (8, 1)])
def test_nodes_are_as_few_as_the_limit_takes(ranks, nodes):
    assert fewest_ranks(WORK, HOUR) == 5
    found = fit(WORK, Ask(ranks=ranks, limit=HOUR))
    assert found.nodes == nodes
    assert found.seconds == round(seconds_on(WORK, nodes * ranks)) <= HOUR


def test_without_a_limit_one_node_gets_all_the_time_it_needs():
    found = fit(WORK, Ask())
    assert (found.nodes, found.seconds) == (1, round(seconds_on(WORK, 1)))
    assert "where from" in found.told
    assert clock(found.seconds) in found.told[-1]


def test_nodes_that_are_given_stay():
    assert fit(WORK, Ask(nodes=20, limit=HOUR)).nodes == 20


def test_what_outlasts_its_limit_is_refused_with_what_would_do():
    reason = r"estimated 2:13:00 on 2 nodes with 1 ranks each, --time-limit is 1:00:00: --nodes 5 would do"
    with pytest.raises(UsageError, match=reason) as caught:
        fit(WORK, Ask(nodes=2, limit=HOUR))
    repeats = int(str(caught.value).split("--repeats ")[1].split()[0])
    assert fit(WORK, Ask(nodes=2, limit=HOUR, repeats=repeats)).nodes == 2
    with pytest.raises(UsageError):
        fit(WORK, Ask(nodes=2, limit=HOUR, repeats=repeats - 1))


def test_with_repeats_each_job_asks_for_the_limit_and_says_that_it_resumes():
    found = fit(WORK, Ask(nodes=2, limit=HOUR, repeats=2))
    assert found.seconds == HOUR
    assert "up to 3 jobs of 1:00:00 that resume one another" in found.told[-1]


def test_more_repeats_take_fewer_nodes():
    assert [fit(WORK, Ask(limit=HOUR, repeats=k)).nodes for k in (0, 1, 4)] == [5, 3, 1]


def test_a_limit_that_no_number_of_nodes_keeps_is_refused_with_another_way():
    with pytest.raises(UsageError, match=r"on 1000 nodes .*: with --repeats \d+ the job resumes"):
        fit(WORK, Ask(limit=int(START + 15)))
    with pytest.raises(UsageError, match="allow more"):
        fit(WORK, Ask(limit=int(START)))


def test_ranks_that_do_not_fit_into_a_node_are_refused_with_how_many_do():
    heavy = WORK._replace(memory=6e9)
    with pytest.raises(UsageError, match=r"8 ranks of 6.0 GB are 48.0 GB a node, --memory-per-node is 32: at most 5 fit"):
        fit(heavy, Ask(ranks=8, memory=32e9))
    assert fit(heavy, Ask(ranks=5, memory=32e9)).nodes == 1
    assert fit(heavy, Ask(ranks=8)).nodes == 1


def test_ranks_without_work_are_warned_of():
    assert not any("warning" in line for line in fit(WORK, Ask(nodes=1000)).told)
    assert fit(WORK, Ask(nodes=1001)).told[-1] == "warning: 1001 ranks, but work for 1000 only"


def test_a_time_that_is_given_is_asked_for_as_it_is():
    found = fit(WORK, Ask(nodes=3, time=HOUR))
    assert (found.nodes, found.seconds) == (3, HOUR)
    assert fit(Demand(), Ask(time=HOUR)).nodes == 1
    with pytest.raises(UsageError, match="--time 2:00:00 is more than --time-limit 1:00:00"):
        fit(WORK, Ask(time=2 * HOUR, limit=HOUR))


def test_what_nothing_is_known_of_needs_a_time():
    with pytest.raises(UsageError, match="--time H:MM:SS"):
        fit(Demand(), Ask(limit=HOUR))


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (1, "0:01:00"), (3600, "1:00:00"), (90000, "25:00:00")])
def test_clocks_round_up_to_minutes(seconds, text):
    assert clock(seconds) == text
