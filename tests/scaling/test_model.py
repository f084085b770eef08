"""What figures say: speed-up, efficiency, serial share, balance, fits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling.rows import make_row

from hpcseg.scaling.model import efficiency, fit, group, karp_flatt, pop, pop_of, speed_up, spread_of


def test_half_the_time_on_two_ranks_is_perfect():
    assert speed_up(10.0, 5.0) == 2.0
    assert efficiency("strong", 10.0, 5.0, 2) == 1.0


def test_a_study_may_begin_at_more_than_one_rank():
    assert speed_up(10.0, 2.5, base_ranks=4) == 16.0
    assert efficiency("strong", 10.0, 2.5, 16, base_ranks=4) == 1.0


def test_with_work_that_grows_the_same_time_is_perfect():
    assert efficiency("weak", 10.0, 10.0, 8) == 1.0
    assert efficiency("weak", 10.0, 12.5, 8) == 0.8


@given(st.floats(0, 1, allow_subnormal=False), st.integers(2, 30_000))
def test_karp_flatt_finds_the_serial_share_of_amdahl(serial, ranks):
    assert karp_flatt(1 / (serial + (1 - serial) / ranks), ranks) == pytest.approx(serial, abs=1e-9)


def test_karp_flatt_says_nothing_of_one_rank():
    assert math.isnan(karp_flatt(1.0, 1))


def test_pop_splits_lost_time_into_imbalance_and_the_rest():
    found = pop([3.0, 4.0], 5.0)
    assert found == (0.875, 0.8, pytest.approx(0.7))
    assert found.parallel == pytest.approx(found.balance * found.communication)


def test_pop_of_no_times_is_no_number():
    assert all(map(math.isnan, pop([], 5.0)))


def test_of_a_map_the_whole_program_counts_and_of_training_the_epochs():
    assert pop_of(make_row(useful=[5.0])).communication == pytest.approx(5 / 6)
    assert pop_of(make_row(useful=[4.0], stage="train")).communication == pytest.approx(4 / 5)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.sampled_from(["strong", "weak"]))
def test_a_fit_finds_what_made_the_times_and_foretells_more_ranks(a, b, mode):
    basis = {"strong": lambda p: 1 / p, "weak": np.log2}[mode]
    ranks = [1, 2, 4, 8]
    found = fit(mode, ranks, [a + b * basis(p) for p in ranks])
    assert (found.a, found.b) == (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6))
    assert found.seconds(1024) == pytest.approx(a + b * basis(1024), rel=1e-6)
    assert found.error < 1e-6
    assert max(map(abs, found.residuals)) < 1e-6


def test_the_error_of_a_fit_is_that_of_foretelling_what_was_left_out():
    found = fit("strong", [1, 2, 4], [10.0, 5.0, 5.0])
    a, b = 0.0, 10.0  # of the first two alone
    assert found.error == pytest.approx(max(abs(a + b / 4 - 5) / 5, found.error))
    assert found.error >= 0.5


def test_two_measurements_cannot_judge_a_fit():
    assert math.isnan(fit("strong", [1, 2], [10.0, 6.0]).error)


def test_no_part_of_a_fit_falls_below_zero():
    found = fit("strong", [1, 2], [10.0, 4.0])
    assert found.a == 0
    assert found.b > 0


def test_amdahls_share_is_that_of_one_rank():
    assert fit("strong", [1, 2, 4], [10.0, 6.0, 4.0]).serial_share == pytest.approx(0.2)


def test_repeats_of_a_case_come_together_without_their_warm_up():
    rows = [make_row(repeat=0), make_row(repeat=1, work=5.0), make_row(repeat=2, work=7.0), make_row(ranks=2)]
    found = group(rows)
    assert [len(runs) for runs in found.values()] == [2, 1]
    assert spread_of(row.work for row in found[rows[0].case]) == (6.0, 5.0, 7.0, 2)
