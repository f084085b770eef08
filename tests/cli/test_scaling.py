"""hpcseg scaling: studies and simulations from the command line."""

from __future__ import annotations

import os
import subprocess

import pytest
from scaling.programs import write_programs
from scaling.rows import make_row

from hpcseg.scaling import study
from hpcseg.scaling.records import add_row, read_rows


def train(hpcseg, tmp_path, monkeypatch, *words):
    """A study of training by programs that do nothing."""
    launch, program = write_programs(tmp_path)
    monkeypatch.setattr(study, "PROGRAM", program)
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).touch()
    given = ["--out", tmp_path / "out", "--launch", launch, "--labels", "la", "--labels", "lb", "--repeat", 1]
    return hpcseg("scaling", "strong", "train", tmp_path / "a.tif", tmp_path / "b.tif", *given, *words)


def test_a_study_says_medians_speed_up_and_where_its_table_is(hpcseg, tmp_path, monkeypatch):
    code, out, _ = train(hpcseg, tmp_path, monkeypatch)
    assert code == 0
    assert len(read_rows(tmp_path / "out")) == 3
    assert "ranks=2  runs=1  work=4.000 s" in out
    assert "base=1 ranks  speedup=1.0000  efficiency=0.5000  karp_flatt=1.0000" in out
    assert "fit_a=4.0000 s  fit_b=0.0000 s" in out
    assert out.endswith(f"table={tmp_path / 'out' / 'study.csv'}\nfailed_runs=0\n")


def test_a_study_with_failed_runs_names_them_and_returns_3(hpcseg, tmp_path, monkeypatch):
    code, out, _ = train(hpcseg, tmp_path, monkeypatch, "--extra=--fail")
    assert code == 3
    assert out.endswith("failed_runs=3\n")
    assert out.count("no room on the disk") == 6


@pytest.mark.parametrize(("words", "said"), [
    (["strong", "sort", "--out", "o"], "stage 'sort': wanted some of predict, label, train, count"),
    (["strong", "predict", "--out", "o", "--partitions", "cyclic"], "--partitions 'cyclic': wanted some of hilbert, rows"),
    (["weak", "predict", "--out", "o", "--ranks", "0,1"], "wanted numbers of 1 or more"),
    (["strong", "train", "a.tif", "--out", "o"], "train: 1 scenes and 0 --labels, wanted labels of each"),
    (["simulate"], "wanted --calibrate DIR"),
    (["simulate", "--calibrate", "."], "no table of a study"),
])  # fmt: skip
def test_wrong_use_is_one_line(hpcseg, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, _, error = hpcseg("scaling", *words)
    assert code == 2
    assert said in error
    assert error.count("\n") == 1


@pytest.fixture
def table(tmp_path):
    """A study of one run of predict on one rank."""
    add_row(tmp_path, make_row(decode=0.15, preprocess=0.12, write=0.07))
    return tmp_path


def test_a_simulation_says_makespan_balance_and_saturation(hpcseg, table):
    words = ["--ranks", "1,16", "--schemes", "spans,cyclic", "--scenes", 2, "--height", 4096, "--width", 4096, "--core", 512]
    code, out, _ = hpcseg("scaling", "simulate", "--calibrate", table, *words, "--file-system", 0.03)
    assert code == 0
    assert "simulated=1" in out
    assert "file_system=0.03 GB/s  scheme=spans  saturated_from=" in out
    assert "ranks=1  scheme=spans  makespan=14.00 s  loops=10.00 s" in out
    assert out.count("ranks=16  scheme=") == 2


def test_a_network_ten_times_as_fast_leaves_reading_and_writing(hpcseg, table):
    words = ["--ranks", "1", "--schemes", "spans", "--scenes", 1, "--height", 4096, "--width", 4096, "--core", 512, "--pace", 10]
    _, out, _ = hpcseg("scaling", "simulate", "--calibrate", table, *words)
    assert f"loops={0.34 + 4.66 / 10:.2f} s" in out


def test_a_simulation_is_checked_against_what_was_measured(hpcseg, table):
    code, out, _ = hpcseg("scaling", "simulate", "--calibrate", table, "--validate")
    assert code == 0
    assert out.endswith("measured=5.000 s  simulated=5.000 s  error=-0.00 %\nlargest_error=0.00 %\n") or "error=+0.00 %" in out


@pytest.mark.mpi
@pytest.mark.long
def test_real_studies_of_all_stages_on_two_ranks(hpcseg, tmp_path):
    small = ["--out", str(tmp_path), "--repeat", "1", "--tiles", "256", "--size", "1024", "--sample", "256"]
    for words in (["strong", "predict,label,train", "--ranks", "2"], ["weak", "predict", "--ranks", "1,2"]):
        # A process of its own: this one may have started MPI, and a launcher takes it for its parent then.
        done = subprocess.run(["hpcseg", "scaling", *words, *small], capture_output=True, text=True, env=dict(os.environ), check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rows = {(row.mode, row.stage, row.ranks): row for row in read_rows(tmp_path) if not row.warmup}
    assert len(rows) == 5
    assert all(len(row.useful) == row.ranks and row.work > 0 for row in rows.values())
    assert rows["weak", "predict", 2].mpx == 2 * rows["weak", "predict", 1].mpx == 2 * rows["strong", "predict", 2].mpx
    code, out, _ = hpcseg("scaling", "simulate", "--calibrate", tmp_path, "--tile", 256, "--validate")
    assert (code, out.count("simulated=")) == (0, 3)
