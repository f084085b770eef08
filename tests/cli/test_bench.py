"""hpcseg bench: what it prints of textures and codes, which need no scene."""

from __future__ import annotations

import re

from hpcseg.cli import execute
from hpcseg.cli.bench import command
from hpcseg.mpi import self_comm


def test_textures_are_timed_in_both_modes_with_one_thread_and_several(alone, capsys):
    assert execute(command, ["sfs", "--size", "70", "--threads", "2", "--repeat", "1"], self_comm(), True) == 0
    figures = dict(re.findall(r"^(\w+)=([\d.]+)", capsys.readouterr().out, re.MULTILINE))
    assert (figures["image"], figures["threads"], figures["rounds"]) == ("70", "2", "1")
    assert {"otb", "otb_rate", "otb_speedup", "paper", "paper_rate", "paper_speedup"} <= set(figures)
    assert float(figures["otb_rate"]) > 0


def test_the_search_of_codes_is_timed_beside_memory_and_numpy(alone, capsys):
    assert execute(command, ["search", "--codes", "100000", "--repeat", "2"], self_comm(), True) == 0
    figures = dict(re.findall(r"^(\w+)=([\d.]+)", capsys.readouterr().out, re.MULTILINE))
    assert (figures["codes"], figures["rounds"]) == ("100000", "2")
    assert all(float(figures[name]) > 0 for name in ("search", "cpu", "floor", "numpy", "over_numpy", "over_floor"))
