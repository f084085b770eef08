"""Numbers on pages: units, thousands apart, no more digits than were measured."""

from __future__ import annotations

import math

import pytest

from hpcseg.errors import UsageError
from hpcseg.products.html import area, figure, files_of, percent, seconds, size, whole, write_page


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0123456, "0.0123"), (5.2451, "5.25"), (71_618_680, "71,600,000"), (0, "0"), (-3.14159, "-3.14"), (None, "–"), (math.nan, "–")],
)
def test_a_measured_number_has_three_digits(value, words):
    assert figure(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.4321, "0.432 s"), (12.34, "12.3 s"), (252, "4 min 12 s"), (11_101, "3 h 05 min"), (187_200, "2 d 4 h"), (None, "–")],
)
def test_a_length_of_time_is_in_units_that_people_use(value, words):
    assert seconds(value) == words


@pytest.mark.parametrize(("value", "words"), [(0.12345, "12.3 %"), (0.0001, "< 0.1 %"), (0, "0.0 %"), (1, "100.0 %"), (math.nan, "–")])
def test_a_share_is_in_percent(value, words):
    assert percent(value) == words


@pytest.mark.parametrize(("value", "words"), [(943_513_069, "943.5 km²"), (4_141_160_000, "4,141 km²"), (830.4, "830 m²"), (None, "–")])
def test_ground_is_in_square_kilometres_or_metres(value, words):
    assert area(value) == words


def test_counts_are_exact_and_bytes_are_not():
    assert whole(1440) == "1,440"
    assert [size(n) for n in (512, 5_710, 3_193_940, 8.1e9)] == ["512 B", "5.71 kB", "3.19 MB", "8.10 GB"]


def test_files_are_named_with_their_size_maps_last_and_pages_not(tmp_path):
    for name in ("a.h5", "run.json", ".part", "report.html", "z.tif"):
        (tmp_path / name).write_bytes(b"12345")
    assert files_of(tmp_path, {"run.json": "what each rank did"}) == [
        ("run.json", "5 B", "what each rank did"), ("z.tif", "5 B", "raster"), ("a.h5", "5 B", "prediction file (HDF5)"),
    ]  # fmt: skip


def test_a_page_that_cannot_be_written_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        write_page(tmp_path / "none" / "page.html", "base.html", title="a title", states=[], cards=[])


def test_what_others_wrote_is_text_and_never_markup(tmp_path):
    write_page(tmp_path / "page.html", "base.html", title="<script>alert(1)</script> & co", states=[], cards=[("<b>", "x")])
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text
