"""A study: which runs it makes, in which order, what it writes of them, and how it goes on after a failure or a stop."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from threading import Event, Timer

import pytest
from scaling.programs import write_programs
from scaling.rows import make_row

from hpcseg.errors import StoppedError, UsageError
from hpcseg.scaling import study as study_module
from hpcseg.scaling.machine import probe_binding
from hpcseg.scaling.records import RUNS, read_rows
from hpcseg.scaling.stages import Data
from hpcseg.scaling.study import Study, cases_of, run_study, runs_of


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    """Training on one and two ranks, twice each, by programs that do nothing."""
    launch, program = write_programs(tmp_path)
    monkeypatch.setattr(study_module, "PROGRAM", program)
    found = Study("strong", ("train",), tmp_path / "out", precisions=("fp32",), repeat=2, launch=launch, data=Data(("a.tif",), ("b.tif",)))
    found.work.mkdir(parents=True)
    return found


def calls_of(study: Study) -> list[str]:
    """The commands that were started."""
    return (study.out / "calls").read_text().splitlines()


def test_a_strong_study_is_all_combinations_over_the_same_scenes(tmp_path):
    many = {"ranks": (1, 2), "tiles": (256, 512), "precisions": ("bf16", "fp32")}
    found = cases_of(Study("strong", ("predict",), tmp_path, partitions=("rows",), **many))
    assert len(found) == 8
    assert {(each.scenes, each.partition, each.model, each.size) for each in found} == {(1, "rows", "sea-ice", 4096)}


def test_a_weak_study_has_as_many_scenes_as_ranks(tmp_path):
    found = cases_of(Study("weak", ("predict", "train"), tmp_path, ranks=(1, 4), count=2))
    assert [each.scenes for each in found] == [2, 8, 2, 8]


def test_what_a_stage_does_not_know_is_not_varied(tmp_path):
    found = cases_of(Study("strong", ("label", "train"), tmp_path, ranks=(1,), tiles=(256, 512), precisions=("bf16", "fp32"), sample=128))
    assert [(each.stage, each.tile, each.precision) for each in found] == [
        ("label", 256, "-"), ("label", 512, "-"), ("train", 128, "bf16"), ("train", 128, "fp32"),
    ]  # fmt: skip


def test_given_scenes_are_taken_as_many_as_there_are_ranks(tmp_path):
    given = Study("weak", ("predict",), tmp_path, ranks=(1, 2), data=Data(("a.tif", "b.tif")))
    assert [each.scenes for each in cases_of(given)] == [1, 2]
    with pytest.raises(UsageError, match="wants 3"):
        Data(("a.tif", "b.tif")).first(3)


def test_a_stage_without_a_model_of_its_own_wants_one(tmp_path):
    with pytest.raises(UsageError, match="--model"):
        cases_of(Study("strong", ("count",), tmp_path))


def test_kernels_are_warmed_once_then_all_cases_take_turns(tmp_path):
    found = list(runs_of(Study("strong", ("predict",), tmp_path, tiles=(256, 512), precisions=("bf16", "fp32"), repeat=2)))
    warm = [case.precision for case, repeat in found if repeat == 0]
    assert warm == ["bf16", "fp32"]
    assert [repeat for _, repeat in found[2:]] == [1] * 8 + [2] * 8


def test_each_run_is_a_row_with_its_machine_and_its_command(study):
    assert run_study(study, Event()) == []
    rows = read_rows(study.out)
    assert [(row.ranks, row.repeat) for row in rows] == [(1, 0), (1, 1), (2, 1), (1, 2), (2, 2)]
    row = rows[-1]
    assert (row.work, row.seconds, row.forward, row.averaging, row.useful) == (4.0, 0.5, 3.5, 0.25, [3.0, 3.5])
    assert row.mpx == pytest.approx(2 * 3 * 4 * 256**2 / 1e6)
    assert row.startup == pytest.approx(row.wall - 0.5)
    assert row.wall > 0
    assert all((row.cpu, row.host, row.cores, row.memory_gb, row.versions, row.at, row.binding))
    assert "launcher.py 2 " in row.launcher
    assert "--batch 8" in row.launcher


def test_one_map_for_each_number_of_ranks_leaves_what_they_tell(study, tmp_path, monkeypatch):
    found = {name: getattr(make_row(), name) for name in ("halo", "tiles", "seconds", "work")}
    monkeypatch.setattr(study_module, "read_run", lambda case, out: found if (out / "run.json").write_text(str(case.ranks)) else {})
    run_study(replace(study, stages=("predict",)), Event())
    kept = {path.name: path.read_text() for path in (study.out / RUNS).iterdir()}
    assert kept == {"strong-predict-1.json": "1", "strong-predict-2.json": "2"}


def test_a_study_that_is_complete_runs_nothing_again(study):
    study = replace(study, ranks=(1,))
    run_study(study, Event())
    before = calls_of(study)
    assert run_study(study, Event()) == []
    assert calls_of(study) == before


def test_more_repeats_add_to_what_is_there(study):
    study = replace(study, ranks=(1,))
    run_study(replace(study, repeat=1), Event())
    run_study(study, Event())
    assert [row.repeat for row in read_rows(study.out)] == [0, 1, 2]


def test_a_failed_run_is_named_with_what_it_said_and_the_study_goes_on(study, capsys):
    failed = run_study(replace(study, repeat=1, extra="--fail"), Event())
    assert len(failed) == 3
    assert "strong-train-2x1-256-fp32-samples-1 ended with code 1: hpcseg: no room on the disk" in failed[-1]
    assert len(list((study.out / "failed").glob("*.log"))) == 3
    assert not (study.work / "run").exists()


def test_a_run_that_takes_too_long_is_ended(study):
    failed = run_study(replace(study, ranks=(1,), repeat=1, extra="--sleep", limit=0.5), Event())
    assert all("took more than 0.5 s (--limit)" in line for line in failed)
    assert not sleepers(study)


def test_a_run_that_leaves_no_record_has_failed(study):
    assert "left no record" in run_study(replace(study, ranks=(1,), extra="--silent"), Event())[0]


def test_a_stop_ends_the_run_in_hand(study):
    stop = Event()
    Timer(0.5, stop.set).start()
    with pytest.raises(StoppedError, match="same command again"):
        run_study(replace(study, extra="--sleep"), stop)
    assert not sleepers(study)


def test_a_launcher_that_starts_too_few_ranks_is_refused(study):
    with pytest.raises(UsageError, match="started 1 of 2 ranks"):
        probe_binding(study.launcher(1), 2)


def test_a_launcher_that_is_not_there_is_refused(study):
    with pytest.raises(UsageError, match="--launch says how ranks are started"):
        probe_binding(["no-such-launcher"], 1)


def test_a_launch_without_ranks_is_refused(study):
    with pytest.raises(UsageError, match=r"wanted \{ranks\}"):
        replace(study, launch="mpirun").launcher(2)


def test_a_rank_tells_its_host_and_cores(study):
    found = probe_binding(study.launcher(2), 2)
    assert (found.nodes, found.text.count(";")) == (1, 1)


def sleepers(study: Study) -> list[str]:
    """Command lines of runs of a study that still sleep."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(study.work) in line and "--sleep" in line]
