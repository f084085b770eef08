"""What users see when things go wrong: one test or more for each row of the table of failures."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from mpi.launch import Job, needs_mpirun, own_lines, run, start, value

from faults.conftest import Work
from faults.left import check_files, done_tiles
from hpcseg import store

pytestmark = [pytest.mark.mpi, pytest.mark.alone, needs_mpirun]
END_SECONDS = 10.0
WINDOW = r"rows \d+:\d+, cols \d+:\d+"


def end_after_fault(job: Job, stamp: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """The job's end, and the seconds from the fault to it."""
    result = job.wait(60)
    assert stamp.exists(), f"the fault never came\n{result.stdout}\n{result.stderr}"
    return result, time.time() - float(stamp.read_text())


def assert_told_once_by_rank(result: subprocess.CompletedProcess[str], rank: int, cause: str) -> str:
    """One line of hpcseg's own, from that rank and host, with the cause; returns it."""
    (line,) = own_lines(result)
    assert line.startswith(f"hpcseg: rank {rank} on {socket.gethostname()}: ")
    assert cause in line
    return line


# A rank raises.


@pytest.mark.parametrize("place", ["reader", "kernel", "writer"])
def test_a_rank_that_raises_says_where_and_ends_the_whole_job(place, work, tmp_path):
    stamp = tmp_path / "stamp"
    job = work.start(3, tmp_path / "maps", HPCSEG_TEST_FAULT=f"{place}:1:3", HPCSEG_TEST_FAULT_FILE=str(stamp))
    result, seconds = end_after_fault(job, stamp)
    assert result.returncode == 1
    assert seconds < END_SECONDS
    line = assert_told_once_by_rank(result, 1, f"RuntimeError: fault put into {place}")
    assert re.search(r"large\.(tif|h5), " + WINDOW, line)
    assert check_files(tmp_path / "maps") < work.tiles


@pytest.mark.parametrize("place", ["opening", "creation"])
def test_a_rank_that_raises_before_the_first_tile_ends_the_whole_job(place, work, tmp_path):
    stamp = tmp_path / "stamp"
    job = work.start(3, tmp_path / "maps", HPCSEG_TEST_FAULT=f"{place}:0:1", HPCSEG_TEST_FAULT_FILE=str(stamp))
    result, seconds = end_after_fault(job, stamp)
    assert result.returncode == 1
    assert seconds < END_SECONDS
    assert_told_once_by_rank(result, 0, f"fault put into {place}")


@pytest.mark.parametrize("ranks", [1, 3])
def test_threads_and_ranks_that_raise_together_end_in_order(ranks, work, tmp_path):
    stamp = tmp_path / "stamp"
    faults = "reader:*:6,kernel:*:3,writer:*:2"
    job = work.start(ranks, tmp_path / "maps", HPCSEG_TEST_FAULT=faults, HPCSEG_TEST_FAULT_FILE=str(stamp))
    result, seconds = end_after_fault(job, stamp)
    assert result.returncode == 1
    assert seconds < END_SECONDS
    assert 1 <= len(own_lines(result)) <= ranks
    assert all(re.search(WINDOW, line) and "fault put into" in line for line in own_lines(result))
    assert "FINALIZE" not in result.stderr.upper()
    check_files(tmp_path / "maps")


def test_without_a_launcher_a_failure_is_one_line_and_exit_code_1(work, tmp_path):
    result = work.start(0, tmp_path / "maps", HPCSEG_TEST_FAULT="kernel:*:3").wait(60)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("hpcseg: ")
    assert re.search(WINDOW + ": RuntimeError: fault put into kernel", line)


# A rank is killed, or goes without a word.


def test_a_killed_rank_ends_the_job_and_the_next_run_resumes(work, tmp_path, assert_whole):
    job = work.start(3, tmp_path)
    assert job.wait_until(lambda: done_tiles(tmp_path) >= 30)
    job.send(2, signal.SIGKILL)
    begin = time.monotonic()
    assert job.wait(30).returncode != 0
    assert time.monotonic() - begin < END_SECONDS
    left = check_files(tmp_path)
    result = run(2, *work.command(tmp_path))
    assert value(result, "tiles") == f"{work.tiles - left} of {work.tiles - left}"
    assert_whole(tmp_path)


@pytest.mark.parametrize("tiles", [0, 30])
def test_a_silent_rank_that_no_launcher_notices_ends_the_job_after_stall(tiles, work, tmp_path, assert_whole):
    """Plain srun kills nobody: a stopped rank stands for a lost one, once while it imports its libraries, once in mid-run."""
    job = work.start(3, tmp_path, "--stall", "5")
    assert job.wait_until(lambda: has_loaded(job.rank_pid(1), "libtorch_cpu") and done_tiles(tmp_path) >= tiles)
    job.send(1, signal.SIGSTOP)
    begin = time.monotonic()
    result = job.wait(60)
    assert result.returncode == 1
    assert time.monotonic() - begin < 5 + END_SECONDS
    # mpirun wakes the stopped rank to end it: then it may say so too.
    said = [line for line in own_lines(result) if re.match(r"hpcseg: rank [02] on ", line)]
    assert said
    assert all(re.search("no rank made progress for 5 s.*run the same command again", line) for line in said)
    assert check_files(tmp_path) >= tiles
    run(2, *work.command(tmp_path))
    assert_whole(tmp_path)


def has_loaded(pid: int | None, library: str) -> bool:
    """Whether a process has mapped a library."""
    try:
        return pid is not None and library in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


def test_ranks_that_wait_for_a_slow_one_are_no_stall(work, tmp_path, assert_whole):
    """One rank's last tiles take longer than the limit together, but each of them is progress."""
    result = work.start(2, tmp_path, "--stall", "3", slow=0.15).wait(60)
    assert result.returncode == 0, result.stderr
    assert_whole(tmp_path)


# A block of a scene cannot be read.


@pytest.fixture(scope="module")
def corrupt(data):
    """A real scene that opens, and fails in two of its four blocks at most."""
    return data / "odd_inputs/corrupt.tif"


def corrupt_command(work: Work, corrupt: Path, out: Path, *options: str) -> tuple[object, ...]:
    scenes = (work.scenes[1], corrupt)
    return ("predict", *scenes, "--model", work.model, "--out", out, "--core", "256", "--precision", "fp32", *options)


@pytest.fixture(scope="module")
def partly_read(work, corrupt, tmp_path_factory):
    """The folder and the end of a job over a scene that cannot be read everywhere."""
    out = tmp_path_factory.mktemp("corrupt")
    return out, run(3, *corrupt_command(work, corrupt, out), code=3)


def test_a_block_that_cannot_be_read_costs_its_tiles_only(partly_read):
    out, result = partly_read
    bad = store.read(out / "corrupt.h5")
    failed = np.flatnonzero((bad.status == store.FAILED).ravel())
    assert 0 < len(failed) < bad.layout.grid.size
    assert value(result, "failed_tiles") == str(len(failed))
    assert (bad.status != store.MISSING).all()
    for tile in failed:
        assert (store.read_window(bad, bad.layout.grid.core_window(int(tile))) == 255).all()
    good = store.read(out / "small.h5")
    assert store.check(good, np.arange(good.layout.grid.size)).all()


def test_tiles_that_could_not_be_read_are_listed_at_the_end_with_their_reason(partly_read):
    out, result = partly_read
    bad = store.read(out / "corrupt.h5")
    wanted = {str(bad.layout.grid.core_window(int(t))) for t in np.flatnonzero((bad.status == store.FAILED).ravel())}
    lines = [line for line in result.stdout.splitlines() if line.startswith("failed corrupt ")]
    assert {re.search(WINDOW, line).group() for line in lines} == wanted
    assert all("IReadBlock failed" in line for line in lines)
    assert json.loads((out / "run.json").read_text())["exit_code"] == 3


def test_scenes_that_failed_are_written_as_a_manifest_for_the_next_try(partly_read, work, corrupt):
    out, _ = partly_read
    with (out / "failed.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["id"] == "corrupt"
    assert "IReadBlock failed" in row["reason"]
    again = run(1, "predict", out / "failed.csv", *corrupt_command(work, corrupt, out)[3:], code=3)
    assert "failed corrupt " in again.stdout
    assert value(again, "scenes") == "1"


def test_the_next_run_tries_failed_tiles_again_and_only_those(partly_read, work, corrupt):
    out, first = partly_read
    result = run(2, *corrupt_command(work, corrupt, out), code=3)
    failed = value(first, "failed_tiles")
    assert value(result, "tiles") == f"{failed} of {failed}"


def test_verify_finds_the_tiles_that_failed(partly_read):
    out, first = partly_read
    result = run(2, "verify", out, code=3)
    assert value(result, "wrong_tiles") == value(first, "failed_tiles")
    assert result.stdout.count(": failed") == int(value(first, "failed_tiles"))


@pytest.mark.parametrize("ranks", [0, 1, 3])
def test_strict_stops_at_the_first_tile_that_cannot_be_read(ranks, work, corrupt, tmp_path):
    result = run(ranks, *corrupt_command(work, corrupt, tmp_path, "--strict"), code=3)
    lines = own_lines(result)
    assert 1 <= len(lines) <= max(1, ranks)
    assert all(re.search(r"corrupt\.tif, " + WINDOW + ".*IReadBlock failed.*--strict", line) for line in lines)
    assert "Traceback" not in result.stderr
    assert "throughput=" not in result.stdout


# A scene cannot be opened, or its bands do not fit.


def test_scenes_that_do_not_fit_are_named_before_any_work_and_the_others_run(work, make_scene, tmp_path):
    (tmp_path / "broken.tif").write_text("no raster")
    gray = make_scene(tmp_path / "gray.tif", 100, 100, bands=1)
    scenes = (tmp_path / "broken.tif", work.scenes[1], gray, tmp_path / "absent.tif")
    job = run(3, "predict", *scenes, "--model", work.model, "--out", tmp_path / "maps", "--core", "64", code=3)
    skipped = [line for line in job.stdout.splitlines() if line.startswith("skipped ")]
    assert [line.split(":")[0] for line in skipped] == ["skipped broken", "skipped gray", "skipped absent"]
    assert "bands" in skipped[1]
    assert "network takes 3" in skipped[1]
    assert job.stdout.index("skipped absent") < job.stdout.index("where the time went")
    assert value(job, "refused_scenes") == "3"
    assert [p.name for p in (tmp_path / "maps").glob("*.h5")] == ["small.h5"]
    with (tmp_path / "maps/failed.csv").open(newline="") as file:
        assert {row["id"] for row in csv.DictReader(file)} == {"broken", "gray", "absent"}


def test_scenes_that_do_not_fit_are_named_while_the_others_still_wait(work, tmp_path):
    """Said before the first tile, not with the summary: the job is stopped in the middle and has said it already."""
    (tmp_path / "broken.tif").write_text("no raster")
    env = {"PYTHONPATH": str(Path(__file__).with_name("inject")), "HPCSEG_TEST_FAULT": "kernel:0:2"}
    command = work.command(tmp_path / "maps")
    result = start(2, command[0], tmp_path / "broken.tif", *command[1:], env=env).wait(60)
    assert result.returncode == 1
    assert "skipped broken: cannot be opened" in result.stdout


def test_a_job_none_of_whose_scenes_can_be_opened_ends_with_3(work, tmp_path):
    (tmp_path / "broken.tif").write_text("no raster")
    run(2, "predict", tmp_path / "broken.tif", "--model", work.model, "--out", tmp_path / "maps", code=3)


# Signals.


def resume_after_75(job: Job, work: Work, out: Path, assert_whole) -> None:
    """The job stops in good order with exit code 75; what it did is right, and the same command completes it."""
    begin = time.monotonic()
    result = job.wait(30)
    assert time.monotonic() - begin < END_SECONDS
    assert result.returncode == 75, result.stderr
    assert "run the same command again" in result.stdout
    assert not own_lines(result)
    left = check_files(out)
    assert 0 < left < work.tiles
    assert f"tiles={left} of {work.tiles}" in result.stdout
    assert value(run(2, *work.command(out)), "tiles") == f"{work.tiles - left} of {work.tiles - left}"
    assert_whole(out)


def test_sigusr1_to_mpirun_stops_all_ranks_after_the_tile_in_hand(work, tmp_path, assert_whole):
    job = work.start(3, tmp_path)
    assert job.wait_until(lambda: done_tiles(tmp_path) >= 30)
    job.process.send_signal(signal.SIGUSR1)
    resume_after_75(job, work, tmp_path, assert_whole)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long), pytest.param(signal.SIGUSR1, marks=pytest.mark.long)]
)
def test_a_signal_to_one_rank_stops_all(number, work, tmp_path, assert_whole):
    job = work.start(3, tmp_path)
    assert job.wait_until(lambda: done_tiles(tmp_path) >= 30)
    job.send(1, number)
    resume_after_75(job, work, tmp_path, assert_whole)


def test_sigterm_without_a_launcher_stops_in_good_order(work, tmp_path, assert_whole):
    job = work.start(0, tmp_path)
    assert job.wait_until(lambda: done_tiles(tmp_path) >= 10)
    job.process.send_signal(signal.SIGTERM)
    resume_after_75(job, work, tmp_path, assert_whole)


def test_a_signal_before_any_heavy_import_is_not_lost(work, tmp_path, assert_whole):
    job = work.start(2, tmp_path)
    assert job.wait_until(lambda: all(job.rank_pid(rank) for rank in (0, 1)))
    assert job.wait_until(lambda: all(handles_usr1(job.rank_pid(rank)) for rank in (0, 1)))
    job.process.send_signal(signal.SIGUSR1)
    result = job.wait(30)
    assert result.returncode == 75, result.stderr
    assert value(result, "tiles").startswith("0 of") or done_tiles(tmp_path) < work.tiles
    run(2, *work.command(tmp_path))
    assert_whole(tmp_path)


def handles_usr1(pid: int) -> bool:
    """Whether a process has its handler for SIGUSR1 in place."""
    text = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", text).group(1), 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def test_sigterm_to_mpirun_loses_nothing_that_was_done(work, tmp_path, assert_whole):
    """mpirun turns it into exit code 1 and kills after a second: at most the tiles in hand are lost."""
    job = work.start(3, tmp_path)
    assert job.wait_until(lambda: done_tiles(tmp_path) >= 30)
    job.process.send_signal(signal.SIGTERM)
    assert job.wait(30).returncode != 0
    assert 30 <= check_files(tmp_path) <= work.tiles
    run(2, *work.command(tmp_path))
    assert_whole(tmp_path)


# Disk full, output not writable.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB; only root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here: that takes root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_maps_that_do_not_fit_the_disk_are_refused_before_any_work(work, make_scene, small_disk, tmp_path):
    scene = make_scene(tmp_path / "scene.tif", 2100, 2100)
    result = run(3, "predict", scene, "--model", work.model, "--out", small_disk, "--core", "64", code=None)
    assert result.returncode not in (0, 75)
    (line,) = own_lines(result)
    assert re.search(r"the maps need .* are free", line)
    assert not list(small_disk.iterdir())


def test_a_disk_that_fills_up_in_mid_run_ends_the_job_and_keeps_what_is_done(work, make_scene, small_disk, tmp_path):
    scenes = [make_scene(tmp_path / f"s{k}.tif", 512, 512, block=256, seed=k) for k in range(8)]
    command = ("predict", *scenes, "--model", work.model, "--out", small_disk, "--core", "64", "--precision", "fp32")
    env = {"PYTHONPATH": str(Path(__file__).with_name("inject")), "HPCSEG_TEST_SLOW": "0.02"}
    job = start(2, *command, env=env)
    assert job.wait_until(lambda: done_tiles(small_disk) >= 20)
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - 120_000)))
    result = job.wait(60)
    assert result.returncode == 1
    lines = own_lines(result)
    assert lines
    assert all(re.search(rf"rank \d on \S+: {small_disk}/s\d\.h5, {WINDOW}: cannot be written: ", line) for line in lines)
    assert check_files(small_disk) >= 20
    (small_disk / "ballast").unlink()
    run(2, *command)
    assert value(run(1, "verify", small_disk), "wrong_tiles") == "0"


def test_an_output_that_is_a_file_is_refused_in_one_line(work, tmp_path):
    (tmp_path / "maps").write_text("in its place")
    result = run(3, *work.command(tmp_path / "maps"), code=None)
    assert result.returncode not in (0, 3, 75)
    (line,) = own_lines(result)
    assert f"{tmp_path}/maps" in line
    assert (tmp_path / "maps").read_text() == "in its place"


def test_an_output_that_cannot_be_made_is_refused_in_one_line(work):
    result = run(3, *work.command(Path("/proc/maps")), code=None)
    assert result.returncode not in (0, 3, 75)
    (line,) = own_lines(result)
    assert "/proc/maps" in line


# Wrong use.


def wrong_configurations(folder: Path) -> dict[str, Path]:
    texts = {"key": "cores = 64\n", "type": 'core = "wide"\n', "toml": "core = = 1\n"}
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return {name: folder / f"{name}.toml" for name in texts}


@pytest.mark.parametrize(
    ("ranks", "wrong", "wanted"),
    [
        (3, ("--cores", "64"), ["--cores", "--core"]),
        (3, ("--config", "key"), ["key.toml", "cores", "core"]),
        (3, ("--config", "type"), ["core", "wide", "integer"]),
        (3, ("--core", "63"), ["--core 63", "stride"]),
        (0, ("--config", "toml"), ["toml.toml"]),
        (0, ("--core", "wide"), ["--core", "wide", "integer"]),
        (0, ("--precision", "fp8"), ["--precision", "fp8", "fp32", "bf16"]),
        (0, ("--bands", "red"), ["red", "3,2,1"]),
        (0, ("--stall", "0"), ["--stall"]),
        (0, ("--probability", "tree"), ["--probability tree", "class 1"]),
        (0, ("--model", "no-such-model"), ["no-such-model", "sea-ice"]),
    ],
    ids=lambda each: "-".join(each).strip("-") if isinstance(each, tuple) else "",
)
def test_wrong_use_is_one_line_that_names_it_from_one_rank(ranks, wrong, wanted, work, tmp_path):
    name, text = wrong
    if name == "--config":
        text = wrong_configurations(tmp_path)[text]
    options = [] if name == "--model" else ["--model", work.model]
    base = ("predict", work.scenes[1], "--out", tmp_path / "maps")
    result = run(ranks, *base, *options, name, text, code=2, timeout=60)
    (line,) = own_lines(result)
    assert all(each in line for each in wanted), line
    assert "Traceback" not in result.stderr
    assert ranks or result.stderr == line + "\n"
    assert not result.stdout
    assert not list((tmp_path / "maps").glob("*.h5"))


def test_an_unknown_command_names_the_known_ones_from_one_rank(tmp_path):
    (line,) = own_lines(run(3, "predikt", code=2))
    assert "predikt" in line
    assert "predict" in line


def test_missing_arguments_are_wrong_use(work):
    (line,) = own_lines(run(3, "predict", "--model", work.model, code=2))
    assert "SCENES" in line or "--out" in line
