"""The figures of a study: medians, their spread, and what follows from them, as the definitions say."""

from __future__ import annotations

import msgspec
import pytest
from studies import invented, write_study

from hpcseg.products.charts import Series
from hpcseg.scaling import figures
from hpcseg.scaling.figures import draw_sweep, main_curve, make_curves
from hpcseg.scaling.records import read_rows
from hpcseg.scaling.told import curves

PUBLISHED = Series("others", [500.0, 1000.0], [3.7, 6.59], style="published")


def test_a_point_is_the_median_of_its_repeats_with_their_least_and_most():
    times = {1: (10.0, 11.0, 13.0), 2: (6.0, 5.5, 5.0)}
    rows = [invented("strong", "predict", p, k, work=t) for p, found in times.items() for k, t in enumerate(found, start=1)]
    (curve,) = make_curves(curves(rows))
    assert [(point.work.median, point.work.least, point.work.most) for point in curve.points] == [(11.0, 10.0, 13.0), (5.5, 5.0, 6.0)]
    assert curve.points[1].speed.median == pytest.approx(2.0)
    assert curve.points[1].speed.least == pytest.approx(11 / 6)
    assert curve.points[1].efficiency == pytest.approx(1.0)
    assert curve.points[1].karp_flatt == pytest.approx(0.0)


def test_a_weak_study_is_judged_at_fixed_work_a_rank():
    rows = [invented("weak", "predict", p, work=t) for p, t in ((1, 10.0), (4, 12.5))]
    (curve,) = make_curves(curves(rows))
    assert curve.points[1].efficiency == pytest.approx(0.8)
    assert curve.points[1].speed.median == pytest.approx(3.2)


def test_work_that_did_not_quite_grow_with_the_ranks_is_made_up_for():
    rows = [invented("weak", "train", p, work=10.0, mpx=mpx) for p, mpx in ((1, 12.0), (2, 22.0))]
    (curve,) = make_curves(curves(rows))
    assert curve.points[1].efficiency == pytest.approx(11 / 12)
    assert curve.fit.seconds(2) == pytest.approx(10 * 12 / 11)


def test_weak_studies_of_one_and_of_two_scenes_a_rank_are_two_curves():
    rows = [invented("weak", "predict", p, scenes=n * p) for n in (1, 2) for p in (1, 2)]
    assert [[point.ranks for point in curve.points] for curve in make_curves(curves(rows))] == [[1, 2], [1, 2]]


def test_a_fit_goes_through_its_points_also_from_two_ranks_on(monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "draw_lines", lambda title, x, y, series: drawn.update({title: series}))
    found = make_curves(curves([invented("strong", "predict", p, work=1 + 16 / p) for p in (2, 4, 8)]))
    figures.draw_curves("strong", "predict", found)
    line = next(each for each in drawn["Speed-up"] if each.style == "fit")
    assert (line.y[0], line.y[-1]) == pytest.approx((2.0, 2 * 9 / 3))


def test_curves_are_named_by_what_they_differ_in(tmp_path):
    choice = {"modes": ("strong",), "stages": ("predict",), "tiles": (256, 512), "precisions": ("fp32", "bf16")}
    rows = read_rows(write_study(tmp_path, (1, 2), 1, **choice))
    assert {curve.name for curve in make_curves(curves(rows))} == {"256 px, fp32", "256 px, bf16", "512 px, fp32", "512 px, bf16"}


def test_the_main_curve_has_most_ranks_and_of_these_is_the_fastest():
    rows = [invented("strong", "predict", p, tile=tile, work=work) for tile, p, work in (
        (256, 1, 10.0), (256, 2, 6.0), (512, 1, 9.0), (512, 2, 5.0), (1024, 1, 1.0))]  # fmt: skip
    assert main_curve(make_curves(curves(rows))).case.tile == 512


def test_a_sweep_needs_two_sizes_of_tiles():
    rows = [invented("strong", "predict", p) for p in (1, 2)]
    assert draw_sweep(make_curves(curves(rows)), PUBLISHED) == {}


def test_a_sweep_of_scenes_without_ground_is_in_pixels():
    rows = [msgspec.structs.replace(invented("strong", "predict", 1, tile=tile), km2=0.0) for tile in (256, 512)]
    assert "Mpx/s" in draw_sweep(make_curves(curves(rows)), PUBLISHED)["tiles"].svg
