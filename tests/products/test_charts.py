"""Charts: what is drawn is what was given, in few bytes, and nothing lies outside."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from hpcseg.products.charts import STAGES, Axis, Lane, Series, _fill, draw_lanes, draw_lines, draw_shares


def texts(svg: str) -> list[str]:
    """All words of a drawing."""
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def lines():
    series = [
        Series("512 px", [1, 2, 4, 8], [1, 1.9, 3.6, 6.4], [1, 1.8, 3.5, 6.2], [1, 2, 3.7, 6.5]),
        Series("ideal", [1, 2, 4, 8], [1, 2, 4, 8], style="ideal"),
    ]
    return draw_lines("Speed-up", Axis("ranks", log=True, ticks=[1, 2, 4, 8]), Axis("speed-up", log=True, right=("km²/s", 2.0)), series)


def test_lines_are_told_with_their_axes_and_a_legend(lines):
    found = texts(lines.svg)
    assert {"Speed-up", "ranks", "speed-up", "km²/s", "512 px", "ideal", "1", "2", "4", "8"} <= set(found)
    assert lines.alt == "Speed-up"


def test_a_drawing_is_small_and_complete(lines):
    assert len(lines.svg) < 16_000
    assert ElementTree.fromstring(lines.svg).tag.endswith("svg")
    assert "DejaVu" not in lines.svg


def test_numbers_on_an_axis_keep_their_digits():
    chart = draw_lines("Share", Axis("ranks", ticks=[2, 4]), Axis("share", least=0), [Series("a", [2, 4], [0.0553, 0.0447])])
    assert len(set(texts(chart.svg))) == len(texts(chart.svg)), "two ticks with one name"


def test_the_same_as_png(lines):
    height, width, _ = imread(io.BytesIO(lines.png())).shape
    assert 700 < width < 1000
    assert 400 < height < 700


def test_ticks_that_would_cover_one_another_are_left_out():
    ticks = [256, 500, 512, 1000, 1024, 1500, 2048]
    chart = draw_lines("Tiles", Axis("px", log=True, ticks=ticks), Axis("share"), [Series("a", ticks, ticks)])
    assert {"256", "500", "1,000"} <= set(texts(chart.svg))
    assert not {"512", "1,024"} & set(texts(chart.svg))


def test_bars_are_cut_into_stages():
    chart = draw_shares("Busy", "percent", ["1 rank", "2 ranks"], {"read": [10, 20], "forward": [90, 80]})
    assert {"1 rank", "2 ranks", "read", "forward", "percent"} <= set(texts(chart.svg))
    assert all(STAGES[stage] in chart.svg for stage in ("read", "forward"))


def test_a_lane_shows_the_stages_of_each_bin_from_below_and_idle_time_white():
    picture = np.ones((10, 360, 3))
    lane = Lane("0", [100.0], [1.0], [{"read": [50, 0, 0], "forward": [50, 100, 0]}])
    _fill(picture, lane, ["read", "forward"], 100.0, 3.0, 100.0)
    first, second, third = picture[:, 60], picture[:, 180], picture[:, 300]
    assert (first[:5] == to_rgb(STAGES["forward"])).all()
    assert (first[5:] == to_rgb(STAGES["read"])).all()
    assert (second == to_rgb(STAGES["forward"])).all()
    assert (third == 1).all()


def test_ranks_that_begin_later_lie_further_right():
    picture = np.ones((4, 360, 3))
    _fill(picture, Lane("1", [102.0], [1.0], [{"read": [100]}]), ["read"], 100.0, 4.0, 100.0)
    assert (picture[:, 170] == 1).all()
    assert (picture[:, 225] == to_rgb(STAGES["read"])).all()


def test_a_thousand_ranks_are_one_picture_of_bounded_size():
    lanes = [Lane(f"{k}", [0.0], [1.0], [{"read": [30] * 60, "forward": [70] * 60}]) for k in range(1000)]
    chart = draw_lanes("What each rank did", lanes)
    assert len(chart.svg) < 60_000
    assert {"rank", "read", "forward"} <= set(texts(chart.svg))
