"""A thousand ranks that have the same to say are one line."""

import warnings
from pathlib import Path

import pytest

from hpcseg import mpi
from mpi.launch import needs_mpirun, own_lines, start

PROGRAM = ("python", str(Path(__file__).with_name("inprocess_quiet.py")))


def test_a_warning_is_kept_for_the_end_and_shown_once_on_one_line(alone, monkeypatch, capsys):
    monkeypatch.setattr(mpi, "_warned", [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", mpi.keep_warning)
        for _ in range(3):
            warnings.warn("memory\nis short", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == ""
    mpi.show_warnings(alone)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"hpcseg: warning: {__file__}:")
    assert line.endswith(": RuntimeWarning: memory is short")


@pytest.mark.mpi
@pytest.mark.long
@needs_mpirun
def test_the_same_warning_of_all_ranks_is_one_line():
    result = start(4, "end", program=PROGRAM).wait()
    assert result.returncode == 0
    short, slow = sorted(own_lines(result), key=lambda line: "disk" in line)
    assert short.startswith("hpcseg: warning: ")
    assert short.endswith("RuntimeWarning: memory is short (4 ranks)")
    assert slow.endswith("UserWarning: one disk is slow")


@pytest.mark.mpi
@pytest.mark.long
@needs_mpirun
def test_ranks_that_all_fail_alike_do_not_all_say_so():
    result = start(16, "fail", program=PROGRAM).wait()
    assert result.returncode == 1
    said = [line for line in own_lines(result) if "ValueError: no such thing" in line]
    assert 1 <= len(said) <= 8
    assert said[0].startswith("hpcseg: rank 0 on ")
