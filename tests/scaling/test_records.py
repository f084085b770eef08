"""The table of a study: what is written is read again, a line at a time, and other programs read it too."""

from __future__ import annotations

import csv
import json

import pytest
from scaling.rows import make_row

from hpcseg.errors import UsageError
from hpcseg.scaling.records import EXTRAP, METRICS, TABLE, add_row, counted, read_rows, unit_lines


def test_rows_read_back_as_they_were_written(tmp_path):
    rows = [
        make_row(useful=[4.5, 5.25], cpu='Intel, "Xeon"', launcher='mpirun -x "A=b c" hpcseg', binding="vm 0; vm 1"),
        make_row(stage="train", repeat=2, useful=[], extra="--epochs 2"),
    ]
    for row in rows:
        add_row(tmp_path, row)
    assert read_rows(tmp_path) == read_rows(tmp_path / TABLE) == rows


def test_a_table_has_one_header_and_what_follows_from_fields(tmp_path):
    for repeat in (1, 2):
        add_row(tmp_path, make_row(repeat=repeat))
    with (tmp_path / TABLE).open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [each["repeat"] for each in found] == ["1", "2"]
    assert float(found[0]["mpx_per_s"]) == pytest.approx(4096**2 / 1e6 / 5, rel=1e-5)
    assert float(found[0]["km2_per_s"]) == pytest.approx(351.7, rel=1e-5)


def test_extra_p_reads_a_line_for_each_metric_but_of_warm_ups(tmp_path):
    for repeat in (0, 1):
        add_row(tmp_path, make_row(repeat=repeat, ranks=2))
    lines = [json.loads(line) for line in (tmp_path / EXTRAP).read_text().splitlines()]
    assert [each["metric"] for each in lines] == list(METRICS)
    assert lines[METRICS.index("work")] == {
        "params": {"p": 2, "t": 512}, "callpath": "strong->predict->sea-ice->bf16->hilbert", "metric": "work", "value": 5.0,
    }  # fmt: skip


def test_warm_ups_do_not_count():
    rows = [make_row(repeat=0), make_row(repeat=1)]
    assert counted(rows) == rows[1:]


def test_lines_have_keys_values_and_units():
    lines = unit_lines(make_row(ranks=2))
    assert {"ranks=2", "tile=512 px", "work=5.000 s", "throughput=3.355 Mpx/s"} <= set(lines)


def test_a_folder_without_a_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no table of a study"):
        read_rows(tmp_path)


def test_another_table_is_refused_by_its_missing_column(tmp_path):
    (tmp_path / TABLE).write_text("mode,stage\nstrong,predict\n")
    with pytest.raises(UsageError, match="no column"):
        read_rows(tmp_path)


def test_a_line_cut_short_is_named(tmp_path):
    add_row(tmp_path, make_row())
    text = (tmp_path / TABLE).read_text()
    (tmp_path / TABLE).write_text(text + text.splitlines()[1][:20] + "\n")
    with pytest.raises(UsageError, match="line 3"):
        read_rows(tmp_path)
