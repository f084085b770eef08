"""The paper's case: its tables, what they say, and the archive simulated."""

from __future__ import annotations

import pytest

from hpcseg.scaling.resflow import BASE_MINUTES, GIGABYTES, KM2, SCENES_MOST, TABLES, VI, VII, case_lines, extrapolate


def test_all_tables_have_the_six_workloads():
    assert all(len(row) == len(KM2) == len(GIGABYTES) for table in TABLES for row in table.minutes.values())
    assert [list(table.minutes)[-1] for table in TABLES] == [8, 16, 32]


def test_twelve_scenes_on_two_nodes_fit_seven_minutes_and_seventeen_shared():
    found = VI.fitted()
    assert found.a == pytest.approx(7.0, abs=0.05)
    assert found.b == pytest.approx(17.2, abs=0.05)
    assert sum(found.residuals) == pytest.approx(0, abs=1e-9)


def test_thirty_two_gpus_are_three_and_a_half_times_one():
    assert VI.speed_ups()[32][-1] == pytest.approx(3.5, abs=0.01)
    assert all(each == 1 for table in TABLES for each in table.speed_ups()[1])


def test_the_papers_750_counts_scenes_twice():
    assert BASE_MINUTES * SCENES_MOST**2 / VI.minutes[32][-1] == pytest.approx(750, rel=0.01)


def test_a_days_data_are_gigabytes():
    assert VII.gb_per_s * 86_400 == pytest.approx(VII.gb_per_day, rel=0.01)
    assert VII.km2_per_s * 86_400 == pytest.approx(VII.km2_per_day, rel=0.01)


def test_the_serial_part_is_nine_tenths_of_the_large_case():
    hours = {each.of: each.hours for each in extrapolate(1)}
    assert hours["published"] == 21
    assert hours["fit with a"] == pytest.approx(120 * (7.02 + 17.22 / 28) / 60, rel=0.01)
    assert hours["fit without a"] == pytest.approx(120 * 17.22 / 28 / 60, rel=0.01)
    assert hours["simulated, batch after batch, with a"] == pytest.approx(hours["fit with a"], rel=0.01)


def test_spans_lose_next_to_nothing_of_what_the_fit_promises():
    hours = {each.of: each.hours for each in extrapolate(1)}
    assert hours["fit without a"] <= hours["simulated, all scenes in one run, without a"] < 1.01 * hours["fit without a"]


def test_the_lines_of_the_case_tell_fit_residuals_and_speed_ups():
    text = "\n".join(case_lines())
    assert "fit_a=7.023 min" in text
    assert "residual=+2.96 min" in text
    assert "case='published'  hours=21.00 h  ground=5.245 km2/s" in text
    assert text.count("speedup_by_workload=") == sum(len(table.minutes) for table in TABLES)
