"""The simulation: the program's own plan, fair shares of a file system, and what schemes cost."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.partition import make_plan
from hpcseg.scaling.costs import Rates
from hpcseg.scaling.simulate import (
    SCHEMES,
    Archive,
    fair_speeds,
    finish_times,
    load_of,
    read_alone,
    read_together,
    saturation,
    simulate,
    take_turns,
    whole_rows,
)

RATES = Rates(decode=9e-9, prepare=4e-9, forward=140e-9, write=2e-9, stored=2.0, start=3.0)
ONE = Archive(1, 4096, 4096, 512, 112)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def blocks_of(archive: Archive, tiles: np.ndarray) -> int:
    """Pixels of all blocks that the windows of some tiles touch, each once, by a map of the scene."""
    seen = np.zeros((archive.height, archive.width), bool)
    high, wide = archive.blocks
    for tile in tiles:
        window = archive.grid.window(int(tile)).intersect(archive.grid.extent)
        top, left = window.row // high * high, window.col // wide * wide
        seen[top : -(-window.stop[0] // high) * high, left : -(-window.stop[1] // wide) * wide] = True
    return int(seen.sum())


def test_one_rank_has_the_same_to_do_by_any_scheme():
    found = [simulate(ONE, RATES, 1, scheme) for scheme in SCHEMES]
    assert len({each.loops for each in found}) == 1
    assert found[0].balance == 1


def test_the_time_of_one_rank_is_the_sum_of_its_pixels():
    halo_share = (736 / 512) ** 2
    of_pixel = RATES.decode + RATES.write + halo_share * (RATES.prepare + RATES.forward)
    found = simulate(ONE, RATES, 1)
    assert found.loops == pytest.approx(4096**2 * of_pixel)
    assert found.makespan == pytest.approx(found.loops + 3.0)


def test_each_rank_that_has_tiles_touches_its_first_window_once():
    rates = replace(RATES, touch=200e-9)
    longer = [simulate(ONE, rates, ranks).loops - simulate(ONE, RATES, ranks).loops for ranks in (1, 2, 64, 128)]
    assert longer == pytest.approx([736**2 * 200e-9] * 4)


def test_windows_are_full_at_the_edges_of_a_scene_and_cores_are_not():
    ragged, windows = Archive(1, 4096, 4097, 512, 112), replace(RATES, decode=0, write=0)
    assert ragged.core_pixels().sum() == 4096 * 4097
    assert simulate(ragged, windows, 1).loops == pytest.approx(9 / 8 * simulate(ONE, windows, 1).loops)


def test_stages_that_have_cores_of_their_own_run_beside_each_other():
    rates = replace(RATES, shared=False)
    assert simulate(ONE, rates, 1).loops == pytest.approx(64 * 736**2 * RATES.forward)


def test_spans_are_those_of_the_programs_own_plan():
    archive = Archive(3, 3000, 5000, 512, 112, tilt=0.2)
    plan = make_plan([archive.work()] * 3, 7)
    found = load_of(archive, replace(RATES, decode=0, write=0), 7, "spans", random())
    assert np.allclose(found.seconds / found.seconds.sum(), plan.load / plan.load.sum())


def test_tiles_of_a_swaths_empty_corners_cost_nothing():
    whole, swath = ONE, replace(ONE, tilt=0.3)
    assert 0 < swath.work().cost.sum() < whole.work().cost.sum()
    assert simulate(swath, RATES, 1).loops < simulate(whole, RATES, 1).loops


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 100]), st.integers(0, 80), st.booleans())
def test_a_tile_alone_reads_all_blocks_that_its_window_touches(height, width, core, halo, by_rows):
    archive = Archive(1, height, width, core, halo, by_rows=by_rows)
    tiles = range(0, archive.grid.size, 7)
    assert [read_alone(archive)[k] for k in tiles] == [blocks_of(archive, np.array([k])) for k in tiles]


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("ranks", [2, 5, 8])
def test_what_spans_read_is_about_what_their_windows_touch(ranks, by_rows):
    archive = Archive(1, 8192, 8192, 512, 112, by_rows=by_rows)
    plan = make_plan([archive.work()], ranks)
    exact = sum(blocks_of(archive, tiles) for rank in range(ranks) for _, tiles in plan.of_rank(rank))
    base = plan.load * 512.0**2
    if by_rows:
        base = whole_rows(archive, plan.ranks[0], plan.tiles[0], ranks)
    told = read_together(archive, plan.load, base).sum()
    assert told == pytest.approx(exact, rel=0.15)


def test_strips_of_scenes_of_a_single_row_of_tiles_are_read_for_each_scene():
    archive, tile = Archive(3, 512, 4096, 512, 112, by_rows=True), np.tile(np.arange(8), 3)
    assert whole_rows(archive, np.zeros(24, int), tile, 1).tolist() == [3 * 512 * 4096]


def test_handing_out_tiles_gives_each_to_whoever_is_free_first():
    seconds, pace = np.array([4.0, 1, 1, 1, 3]), np.array([1.0, 1.0])
    assert take_turns(seconds, pace).tolist() == [0, 1, 1, 1, 1]


def test_handing_out_evens_slow_ranks_out():
    rates = replace(RATES, spread=0.3)
    static, dynamic = (simulate(Archive(40, 4096, 4096, 512, 112), rates, 16, scheme, seed=3).balance for scheme in ("spans", "dynamic"))
    assert static < 0.8 < 0.97 < dynamic


def test_the_same_seed_gives_the_same_run():
    rates = replace(RATES, spread=0.1, tile_spread=0.1)
    assert simulate(ONE, rates, 8, seed=5) == simulate(ONE, rates, 8, seed=5) != simulate(ONE, rates, 8, seed=6)


@given(st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=40), st.floats(0.5, 500))
def test_shares_are_fair_and_use_all_that_there_is(wants, limit):
    demand = np.sort(np.array(wants))
    speed = fair_speeds(demand, limit)
    got = speed * demand
    assert got.sum() == pytest.approx(min(limit, demand.sum()))
    held = speed < 1
    assert not held.any() or (np.ptp(got[held]) < 1e-6 * limit and got[~held].max(initial=0) <= got[held].max() * (1 + 1e-6))


def test_without_a_limit_ranks_end_when_they_have_computed():
    seconds = np.array([3.0, 0.0, 5.0])
    assert finish_times(seconds, 1e9 * seconds, np.inf).tolist() == seconds.tolist()


def test_equal_ranks_that_want_twice_what_there_is_take_twice_as_long():
    assert finish_times(np.full(10, 4.0), np.full(10, 8.0), 10.0) == pytest.approx(8.0)


def test_a_rank_that_is_left_alone_gets_all():
    # Each wants 2 a second of 2: half pace until the first has ended at 2 s; the other has moved 2 of 8 then, and goes on at full pace.
    assert finish_times(np.array([1.0, 4.0]), np.array([2.0, 8.0]), 2.0).tolist() == pytest.approx([2.0, 5.0])


def test_a_run_takes_no_less_than_its_bytes():
    archive, limit = Archive(8, 4096, 4096, 512, 112), 1e7
    found = simulate(archive, RATES, 64, limit=limit)
    assert found.loops >= (found.read_gb * 1e9 + 8 * 4096**2) / limit
    assert found.loops == pytest.approx((found.read_gb * 1e9 + 8 * 4096**2) / limit, rel=0.1)


def test_seams_bring_saturation_nearer():
    archive = Archive(16, 4096, 4096, 512, 112)
    limit = 100 * simulate(archive, RATES, 1).demand
    found = saturation(archive, RATES, limit)
    assert found < 90
    assert simulate(archive, RATES, round(found)).demand == pytest.approx(limit, rel=0.05)


def test_the_file_system_holds_ranks_up_from_its_saturation_on():
    archive = Archive(256, 4096, 4096, 512, 112)
    limit = 100 * simulate(archive, RATES, 1).demand
    assert saturation(archive, RATES, limit) == pytest.approx(100)
    assert simulate(archive, RATES, 64, limit=limit).io == pytest.approx(0, abs=1e-9)
    assert simulate(archive, RATES, 256, limit=limit).io > 0.5


def test_starting_more_ranks_takes_longer():
    rates = replace(RATES, start_log=2.0)
    assert simulate(ONE, rates, 8).makespan - simulate(ONE, rates, 8).loops == pytest.approx(3 + 2 * 3)


@pytest.mark.long
def test_an_archive_of_two_million_tiles_on_all_of_summit_takes_seconds():
    archive = Archive(1440, 40_000, 35_000, 1024, 112, tilt=0.14)
    begin = time.perf_counter()
    for scheme in SCHEMES:
        simulate(archive, replace(RATES, spread=0.02, tile_spread=0.1), 27_360, scheme, limit=2.5e12)
    assert time.perf_counter() - begin < 60
