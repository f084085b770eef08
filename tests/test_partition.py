"""The partition: contiguous spans of equal cost, every tile once, few shared scenes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.partition import Work, make_plan
from hpcseg.tiles import Grid, hilbert_order

FREE_OR_NOT = st.integers(0, 1)


@st.composite
def works(draw, costs=FREE_OR_NOT, most=4):
    """Scenes of up to 12x12 tiles, some of them done."""
    result = []
    for _ in range(draw(st.integers(0, most))):
        ny, nx = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        seed = draw(st.integers(0, 2**16))
        rng = np.random.default_rng(seed)
        cost = np.array(draw(st.lists(costs, min_size=ny * nx, max_size=ny * nx)), np.int64)
        done = rng.random(ny * nx) < draw(st.sampled_from([0, 0.3, 1]))
        result.append(Work(Grid(ny * 8, nx * 8, 8, 2), draw(st.booleans()), cost, done))
    return result


ranks = st.integers(1, 40)


def order_of(plan, size):
    """(scene, tile) rank by rank, as the ranks do them."""
    return [[(scene, int(t)) for scene, tiles in plan.of_rank(rank) for t in tiles] for rank in range(size)]


@given(works(), ranks)
def test_every_tile_that_is_not_done_has_exactly_one_owner(scenes, size):
    plan = make_plan(scenes, size)
    owned = [task for mine in order_of(plan, size) for task in mine]
    wanted = {(k, int(t)) for k, work in enumerate(scenes) for t in np.flatnonzero(~work.done)}
    assert len(owned) == len(set(owned)) == plan.size
    assert set(owned) == wanted


@given(works(), ranks)
def test_spans_are_contiguous_in_one_order_of_all_tiles(scenes, size):
    plan = make_plan(scenes, size)
    one_rank = order_of(make_plan(scenes, 1), 1)[0]
    assert list(itertools.chain(*order_of(plan, size))) == one_rank


@given(works(st.just(1)), ranks)
def test_loads_of_equal_tiles_differ_by_at_most_one(scenes, size):
    load = make_plan(scenes, size).load
    assert load.max() - load.min() <= 1


@given(works(), ranks)
def test_free_tiles_do_not_disturb_the_balance(scenes, size):
    plan = make_plan(scenes, size)
    assert plan.load.shape == (size,)
    assert plan.load.max() - plan.load.min() <= 1
    assert plan.load.sum() == sum(int(work.cost[~work.done].sum()) for work in scenes)


@given(works(st.integers(0, 9)), ranks)
def test_a_load_is_within_one_tile_of_its_fair_share(scenes, size):
    plan = make_plan(scenes, size)
    dearest = max((int(work.cost.max()) for work in scenes), default=0)
    assert (np.abs(plan.load - plan.load.mean()) <= dearest).all()
    for rank, mine in enumerate(order_of(plan, size)):
        assert plan.load[rank] == sum(int(scenes[scene].cost[tile]) for scene, tile in mine)


@given(works(most=8), ranks)
def test_a_rank_shares_at_most_two_scenes_and_they_are_neighbours(scenes, size):
    plan = make_plan(scenes, size)
    shared = plan.shared_scenes()
    assert shared == [k for k in range(len(scenes)) if len(plan.owners(k)) > 1]
    for rank in range(size):
        places = [shared.index(scene) for scene, _ in plan.of_rank(rank) if scene in shared]
        assert len(places) <= 2
        assert len(places) < 2 or places[1] - places[0] == 1


@given(works(), ranks)
def test_owners_are_the_ranks_that_have_tiles_of_a_scene(scenes, size):
    plan = make_plan(scenes, size)
    spans = [dict(plan.of_rank(rank)) for rank in range(size)]
    for scene in range(len(scenes)):
        assert plan.owners(scene) == [rank for rank in range(size) if scene in spans[rank]]


def test_tiles_follow_a_hilbert_curve_or_rows():
    grid = Grid(64, 64, 8, 0)
    nothing, one = np.zeros(64, bool), np.ones(64, int)
    plan = make_plan([Work(grid, False, one, nothing), Work(grid, True, one, nothing)], 1)
    np.testing.assert_array_equal(plan.tiles[0], hilbert_order(8, 8))
    np.testing.assert_array_equal(plan.tiles[1], np.arange(64))


@pytest.mark.parametrize("size", [1, 3, 64, 100])
def test_scenes_that_seem_empty_are_shared_out_all_the_same(size):
    grid = Grid(64, 64, 8, 0)
    plan = make_plan([Work(grid, False, np.zeros(64, int), np.zeros(64, bool))], size)
    counts = np.bincount(plan.ranks[0], minlength=size)
    assert counts.max() - counts.min() <= 1
    assert not plan.load.any()
    assert plan.imbalance == 1.0


def test_more_ranks_than_tiles_leave_some_without_work():
    plan = make_plan([Work(Grid(8, 24, 8, 0), False, np.ones(3, int), np.zeros(3, bool))], 7)
    assert sorted(plan.load) == [0, 0, 0, 0, 1, 1, 1]
    assert plan.imbalance == pytest.approx(7 / 3)
    assert [bool(plan.of_rank(rank)) for rank in range(7)] == plan.load.astype(bool).tolist()


def test_nothing_to_do_is_a_plan():
    done = Work(Grid(8, 8, 8, 0), False, np.ones(1, int), np.ones(1, bool))
    for scenes in ([], [done], [done, done]):
        plan = make_plan(scenes, 4)
        assert (plan.size, plan.imbalance, plan.shared_scenes()) == (0, 1.0, [])
        assert [plan.of_rank(rank) for rank in range(4)] == [[]] * 4


def test_a_plan_depends_on_nothing_but_its_table():
    rng = np.random.default_rng(5)
    scenes = [Work(Grid(80, 120, 8, 0), False, rng.integers(0, 2, 150), rng.random(150) < 0.2) for _ in range(3)]
    copies = [Work(w.grid, w.by_rows, w.cost.copy(), w.done.copy()) for w in scenes]
    first, second = make_plan(scenes, 6), make_plan(copies, 6)
    for a, b in zip(first.tiles + first.ranks, second.tiles + second.ranks, strict=True):
        np.testing.assert_array_equal(a, b)
