"""hpcseg and the shipped batch scripts on a real Slurm of four nodes: the same bits, GPUs as bound, and every way a job can end."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults.conftest import INJECT, check_files, done_tiles
from mpi.launch import needs_mpirun, run
from training.field import write_config, write_field

from cluster import slurm
from cluster.slurm import Cluster, wait_until

pytestmark = [pytest.mark.mpi, pytest.mark.alone, needs_mpirun]
ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import subprocess, sys, time
keeper = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
SRUN = ("srun", "--kill-on-bad-exit=1", "--mpi=pmix")


def slow(seconds: float) -> dict[str, str]:
    """Variables of a job whose forward passes take that much longer."""
    return {"PYTHONPATH": str(INJECT), "HPCSEG_TEST_SLOW": str(seconds), "HPCSEG_HOME": str(ROOT)}


def submit(
    cluster: Cluster, folder: Path, options: tuple[str, ...], words: tuple[object, ...], script: str = "cluster.sbatch", **env: str
) -> int:
    """Submit a script as it is shipped; what it says goes to FOLDER/job.out. Returns the job's number."""
    return cluster.submit(f"--output={folder}/job.out", *options, ROOT / "slurm" / script, *words, env=slow(0.0) | env)


def wait_for_end(cluster: Cluster, job: int, folder: Path, state: str = "COMPLETED") -> dict[str, str]:
    """The job once it has ended, in that state."""
    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    found = wait_until(lambda: (now := cluster.job(job))["JobState"] in over and now, 240, f"the end of job {job}")
    assert found["JobState"] == state, f"{found}\n{(folder / 'job.out').read_text()}"
    return found


def wait_for_tiles(out: Path, count: int) -> None:
    wait_until(lambda: done_tiles(out) >= count, 120, f"tile {count} of {out}")


def planned(folder: Path) -> list[int]:
    """How many tiles each run of a job found missing, of the runs that came to their summary."""
    return [int(each) for each in re.findall(r"^tiles=\d+ of (\d+)", (folder / "job.out").read_text(), re.MULTILINE)]


def losses(out: Path) -> np.ndarray:
    with (out / "history.csv").open(newline="") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def test_four_nodes_map_the_bits_of_one_rank(cluster, work, assert_whole, tmp_path):
    cluster.call(*SRUN, "-N", 4, "-n", 4, "hpcseg", *work.command(tmp_path))
    assert_whole(tmp_path)


@pytest.mark.long
def test_four_nodes_map_the_bits_of_mpirun(cluster, work, assert_whole, tmp_path):
    run(4, *work.command(tmp_path / "mpirun"))
    assert_whole(tmp_path / "mpirun")
    cluster.call(*SRUN, "-N", 2, "-n", 4, "hpcseg", *work.command(tmp_path / "srun"))
    assert_whole(tmp_path / "srun")


@pytest.mark.long
def test_four_nodes_train_along_the_losses_of_one_rank(cluster, tmp_path):
    field = write_field(tmp_path / "field")
    configurations = {n: write_config(tmp_path / f"{n}.toml", field, tmp_path / n, epochs=3) for n in ("one", "mpirun", "srun")}
    run(1, "train", configurations["one"], "--threads", 1)
    run(4, "train", configurations["mpirun"], "--threads", 1)
    cluster.call(*SRUN, "-N", 4, "-n", 4, "hpcseg", "train", configurations["srun"], "--threads", 1, seconds=120)
    wanted = losses(tmp_path / "one")
    assert len(wanted) == 3
    for name in ("mpirun", "srun"):
        assert losses(tmp_path / name) == pytest.approx(wanted, rel=1e-4)


def visible(table: str) -> list[str]:
    """The column `visible` of what doctor prints, by rank."""
    head, *rows = table.splitlines()
    at = head.index("visible")
    return [row[at:].split()[0] for row in rows[: rows.index("")]]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("-N", "4", "-n", "4", "--gpus-per-task=1"), ["0", "0", "0", "0"]),
        (("-N", "2", "-n", "4", "--gpus-per-task=1"), ["0", "1", "0", "1"]),
        (("-N", "1", "-n", "2", "--gpus=2"), ["0", "1"]),
        (("-N", "1", "-n", "2", "--gpus=2", "--gpu-bind=single:1"), ["0", "1"]),
        (("-N", "1", "-n", "2"), ["-", "-"]),
    ],
    ids=["one-a-node", "two-a-node", "all-to-all", "bound-singly", "none"],
)
def test_each_rank_takes_the_one_gpu_that_slurm_bound_to_it(cluster, options, wanted):
    # Null devices are no GPUs to torch, which doctor says by exit code 3.
    table = cluster.call(*SRUN, *options, "hpcseg", "doctor", code=0 if wanted[0] == "-" else 3)
    assert visible(table) == wanted


@pytest.mark.long
def test_listed_failures_keep_their_exit_code_and_are_no_reason_to_repeat(cluster, work, tmp_path):
    (tmp_path / "broken.tif").write_text("no raster")
    words = work.command(tmp_path / "maps")
    job = submit(cluster, tmp_path, ("-N", "4"), (words[0], tmp_path / "broken.tif", *words[1:]))
    found = wait_for_end(cluster, job, tmp_path, "FAILED")
    assert (found["ExitCode"], found["Restarts"]) == ("3:0", "0")
    job = submit(cluster, tmp_path, ("-N", "4"), (*words, "--colour", "blue"))
    found = wait_for_end(cluster, job, tmp_path, "FAILED")
    assert (found["ExitCode"], found["Restarts"]) == ("2:0", "0")


@pytest.mark.long
def test_the_script_for_dgx_maps_the_same_bits_on_small_nodes(cluster, work, assert_whole, tmp_path):
    options = ("-N", "2", "--gpus-per-node=2", "--ntasks-per-node=2", "--cpus-per-task=2")
    job = submit(cluster, tmp_path, options, work.command(tmp_path / "maps"), "dgx.sbatch")
    wait_for_end(cluster, job, tmp_path)
    assert_whole(tmp_path / "maps")


@pytest.mark.long
def test_a_job_at_its_time_limit_stops_in_good_order_and_is_requeued_until_done(cluster, work, assert_whole, tmp_path):
    out = tmp_path / "maps"
    job = submit(cluster, tmp_path, ("-N", "4", "-t", "1", "--signal=USR1@20"), work.command(out), **slow(2.0))
    wait_until(lambda: int(cluster.job(job)["Restarts"]) == 1, 120, "the first restart")
    said = (tmp_path / "job.out").read_text()
    assert "exit code 75: submitted again" in said
    left = check_files(out)
    assert 0 < left < work.tiles
    wait_for_end(cluster, job, tmp_path)
    assert planned(tmp_path)[:2] == [work.tiles, work.tiles - left]
    assert_whole(out)


@pytest.mark.long
@pytest.mark.parametrize("which", ["first", "last"])
def test_a_job_whose_node_dies_is_requeued_and_completes_on_the_others(which, cluster, work, assert_whole, tmp_path):
    """first: the node of the batch script itself."""
    out = tmp_path / "maps"
    job = submit(cluster, tmp_path, ("-N", "3"), work.command(out), **slow(0.3))
    wait_for_tiles(out, 20)
    victim = {"first": "n1", "last": "n3"}[which]
    cluster.kill_node(victim)
    kept = check_files(out)
    found = wait_for_end(cluster, job, tmp_path)
    assert int(found["Restarts"]) >= 1
    nodes = cluster.call("scontrol", "show", "hostnames", found["NodeList"]).split()
    assert sorted([*nodes, victim]) == ["n1", "n2", "n3", "n4"]
    assert planned(tmp_path)[-1] <= work.tiles - kept
    assert_whole(out)


@pytest.mark.long
def test_a_cancelled_job_is_not_repeated_and_leaves_what_another_completes(cluster, work, assert_whole, tmp_path):
    out = tmp_path / "maps"
    job = submit(cluster, tmp_path, ("-N", "4"), work.command(out), **slow(0.3))
    wait_for_tiles(out, 20)
    cluster.call("scancel", job)
    found = wait_for_end(cluster, job, tmp_path, "CANCELLED")
    wait_until(cluster.idle, 60, "the end of all ranks")
    assert cluster.job(job)["JobState"] == "CANCELLED"
    assert found["Restarts"] == "0"
    left = check_files(out)
    assert 20 <= left < work.tiles
    submitted = submit(cluster, tmp_path, ("-N", "2"), work.command(out))
    wait_for_end(cluster, submitted, tmp_path)
    assert planned(tmp_path)[-1] == work.tiles - left
    assert_whole(out)


@pytest.mark.long
def test_a_job_that_dies_every_time_is_given_up_after_as_many_repeats_as_allowed(cluster, work, tmp_path):
    job = submit(cluster, tmp_path, ("-N", "2"), work.command(tmp_path / "maps"),
                 HPCSEG_TEST_FAULT="kernel:*:1", HPCSEG_REPEATS="1")  # fmt: skip
    found = wait_for_end(cluster, job, tmp_path, "FAILED")
    assert (found["Restarts"], found["ExitCode"]) == ("1", "1:0")
    assert "submitted again 1 times already (HPCSEG_REPEATS=1): given up" in (tmp_path / "job.out").read_text()


@pytest.mark.long
def test_a_cluster_ends_with_all_its_jobs_when_who_started_it_is_killed(cluster, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, slurm.__file__], text=True, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    other = Cluster(Path(parent.stdout.readline().strip()))
    other.submit("-N", 2, f"--output={tmp_path}/out", "--wrap", "srun sleep 300")
    wait_until(lambda: list(other.nodes().values()).count("allocated") == 2 or "mixed" in other.nodes().values(), 30, "a running job")
    parent.kill()
    parent.wait()
    wait_until(lambda: not slurm.members(other.folder) and not other.folder.exists(), 30, "the end of the other cluster")
    assert cluster.idle()


@pytest.mark.long
def test_an_array_shares_the_scenes_out_and_a_chain_goes_on_when_all_of_it_is_done(cluster, work, assert_whole, tmp_path):
    manifest = tmp_path / "archive.csv"
    manifest.write_text("\n".join(["scene", *map(str, work.scenes)]) + "\n")
    words = [str(manifest) if word == work.scenes[0] else str(word) for word in work.command(tmp_path / "maps") if word != work.scenes[1]]
    output = f"--output={tmp_path}/%x-%j.out"
    script = ROOT / "slurm/cluster.sbatch"
    lines = [f"{output} --array=1-2 -N 1 {script} {' '.join(words)}", "# the maps' own test", "",
             f"{output} -N 1 {script} verify {tmp_path}/maps"]  # fmt: skip
    (tmp_path / "chain").write_text("\n".join(lines))
    said = cluster.call("bash", ROOT / "slurm/chain.sh", tmp_path / "chain", env=slow(0.0))
    last = int(said.splitlines()[-1].split()[0])
    wait_for_end(cluster, last, tmp_path)
    assert sorted(path.name for path in (tmp_path / "maps").glob("run*.json")) == ["run.1of2.json", "run.2of2.json"]
    assert_whole(tmp_path / "maps")


@pytest.mark.long
def test_a_task_of_an_array_that_is_requeued_leaves_the_others_alone(cluster, tmp_path):
    """The last task has the number of the whole array."""
    launch = tmp_path / "launch"
    launch.write_text("#!/bin/sh\n[ $HPCSEG_PART = 1/2 ] && exec sleep 15\nexit $((SLURM_RESTART_COUNT ? 0 : 75))\n")
    launch.chmod(0o755)
    job = submit(cluster, tmp_path, ("-N", "1", "--array=1-2"), ("predict", "a.csv"), HPCSEG_LAUNCH=str(launch))
    over = "COMPLETED"
    ended = [wait_until(lambda k=k: (now := cluster.job(f"{job}_{k}"))["JobState"] == over and now, 240, f"task {k}") for k in (1, 2)]
    assert [each["Restarts"] for each in ended] == ["0", "1"]
    assert ended[1]["JobId"] == str(job)


@pytest.mark.long
def test_submit_asks_for_what_a_job_needs_and_it_completes(cluster, work, assert_whole, tmp_path):
    words = ("submit", "--now", "--rate", "0.1", "--time-limit", "0:09", "--repeats", "1", "--ranks-per-node", "2")
    process = cluster.start(
        "hpcseg", *words, *work.command(tmp_path / "maps"), cwd=tmp_path, env=slow(0.0), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    found = dict(line.split("=", 1) for line in said.splitlines())
    (tmp_path / "job.out").symlink_to(f"hpcseg-{found['job']}.out")
    ended = wait_for_end(cluster, int(found["job"]), tmp_path)
    assert (ended["NumNodes"], ended["NumTasks"], ended["TimeLimit"]) == ("1", "2", "00:08:00")
    assert (tmp_path / found["script"]).is_file()
    assert_whole(tmp_path / "maps")
