"""The launcher: which GPU a rank gets, how many threads, what a signal does, and what wrong words on the command line lead to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hpcseg import environment, launch

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
HPCSEG = Path(sys.executable).with_name("hpcseg")


@pytest.fixture
def no_launcher(monkeypatch):
    """An environment that no launcher has touched; changes made in a test are taken back."""
    for name in {*environment.LOCAL_RANK, *environment.RANK, *VISIBLE}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return monkeypatch


@pytest.mark.parametrize("local_rank", range(5))
def test_ranks_of_a_node_take_its_devices_in_turn(no_launcher, local_rank):
    os.environ["CUDA_VISIBLE_DEVICES"] = "4,5,6,7"
    environment.bind_device(local_rank)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4567"[local_rank % 4]


@pytest.mark.parametrize("given", ["0", "3", "GPU-8932f937", "MIG-1b2e7ea8"])
def test_the_one_device_a_launcher_shows_is_kept(no_launcher, given):
    os.environ["CUDA_VISIBLE_DEVICES"] = given
    environment.bind_device(3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given


def test_devices_named_by_uuid_are_taken_by_name(no_launcher):
    os.environ["CUDA_VISIBLE_DEVICES"] = "MIG-aaa, MIG-bbb"
    environment.bind_device(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-bbb"


@pytest.mark.parametrize("given", ["", "-1"])
def test_hidden_devices_stay_hidden(no_launcher, given):
    os.environ["CUDA_VISIBLE_DEVICES"] = given
    environment.bind_device(0)
    assert environment.count_devices() == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given


@pytest.mark.parametrize(("rank", "said"), [("1", "hpcseg: the launcher starts several processes and MPI sees one"), ("2", "")])
def test_a_process_that_takes_itself_for_the_whole_job_but_is_not_its_first_is_refused(tmp_path, rank, said):
    """As under the launcher of another MPI: each would map all scenes into one folder."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_COMM", "PMIX", "SLURM_"))}
    done = subprocess.run([HPCSEG, "verify", tmp_path], env=mine | {"SLURM_PROCID": rank}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(said) if said else not done.stderr


# What launchers tell rank 5, the second of its node.
LAUNCHERS = {
    "jsrun": {"JSM_NAMESPACE_RANK": "5", "JSM_NAMESPACE_LOCAL_RANK": "1", "OMPI_COMM_WORLD_RANK": "5"},
    "PALS": {"PALS_RANKID": "5", "PALS_LOCAL_RANKID": "1", "PMI_RANK": "5", "PMI_LOCAL_RANK": "1"},
    "Cray MPICH under srun": {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "PMI_RANK": "5"},
    "Hydra of MPICH": {"PMI_RANK": "5", "MPI_LOCALRANKID": "1"},
    "srun of a job that a batch script runs": {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "PMIX_RANK": "5"},
    "mpirun in a batch script": {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "OMPI_COMM_WORLD_RANK": "5",
                                  "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("variable", VISIBLE)
@pytest.mark.parametrize(("given", "wanted"), [("0", "0"), ("6", "6"), ("0,1,2,3", "1"), ("4,5", "5"), ("GPU-a,GPU-b", "GPU-b")])
def test_a_rank_of_each_launcher_sees_one_device_by_the_variable_it_was_given(no_launcher, launcher, variable, given, wanted):
    os.environ.update(LAUNCHERS[launcher] | {variable: given})
    assert environment.first_number(environment.RANK) == 5
    local_rank = environment.first_number(environment.LOCAL_RANK)
    assert local_rank == 1
    environment.bind_device(local_rank)
    assert {name: os.environ.get(name) for name in VISIBLE} == dict.fromkeys(VISIBLE) | {variable: wanted}


@pytest.mark.parametrize("name", environment.LOCAL_RANK)
def test_every_launcher_is_asked_for_the_local_rank(no_launcher, name):
    os.environ[name] = "3"
    assert environment.first_number(environment.LOCAL_RANK) == 3


def test_what_started_the_process_last_names_its_rank(no_launcher):
    os.environ.update(SLURM_LOCALID="0", OMPI_COMM_WORLD_LOCAL_RANK="2")
    assert environment.first_number(environment.LOCAL_RANK) == 2


def test_nothing_is_said_without_a_launcher(no_launcher):
    assert environment.first_number(environment.LOCAL_RANK) is None


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        (["--threads", "3"], 3),
        (["scene.tif", "--threads=12", "--out", "x"], 12),
        ([], 0),
        (["scene.tif"], 0),
        (["--threads"], 0),
        (["--threads", "many"], 0),
    ],
)
def test_threads_are_read_before_the_parser(words, threads):
    assert launch.wanted_threads(words) == threads


def test_libraries_get_one_thread_and_tiles_the_rest(no_launcher):
    environment.set_environment(6)
    assert os.environ["HPCSEG_THREADS"] == "6"
    assert {os.environ[n] for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")} == {"1"}


def test_a_user_decides_where_kernels_are_cached(no_launcher):
    os.environ["NUMBA_CACHE_DIR"] = "/local/scratch"
    environment.set_environment(1)
    assert os.environ["NUMBA_CACHE_DIR"] == "/local/scratch"


def test_phases_of_the_start_add_up(monkeypatch):
    monkeypatch.setattr(environment, "startup", {})

    @environment.phase("plan")
    def plan(seconds):
        time.sleep(seconds)

    plan(0.01)
    with pytest.raises(KeyError), environment.phase("plan"):
        raise KeyError
    plan(0.02)
    assert list(environment.startup) == ["plan"]
    assert environment.startup["plan"] >= 0.03


def test_a_process_knows_its_age_and_its_memory():
    begin, before = time.monotonic(), environment.process_age()
    time.sleep(0.05)
    older = environment.process_age() - before
    assert 0.04 <= older <= time.monotonic() - begin + 0.02
    block = np.ones(32 << 20, np.uint8)
    assert environment.peak_memory() >= environment.proportional_memory() >= block.nbytes


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_a_stop(number):
    environment.on_signal(number, None)
    assert environment.stop_requested.is_set()
    environment.stop_requested.clear()


def run(*words, **variables):
    env = {key: value for key, value in os.environ.items() if key not in (*environment.RANK, *environment.LOCAL_RANK)}
    return subprocess.run([HPCSEG, *words], env=env | variables, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(words):
    result = run(*words)
    assert result.returncode == 0
    assert all(name in result.stdout for name in launch.COMMANDS)


def test_an_unknown_command_is_one_line_with_the_choices():
    result = run("map")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "'map'" in result.stderr
    assert "predict" in result.stderr


@pytest.mark.parametrize("name", ["map", "models", "--help"])
def test_what_needs_no_mpi_is_left_to_the_first_rank(name):
    """Another's exit code would make the launcher end the first before it has spoken."""
    result = run(name, OMPI_COMM_WORLD_RANK="1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", launch.COMMANDS)
def test_every_command_that_is_listed_explains_itself(name, hpcseg):
    code, text, error = hpcseg(name, "--help")
    assert (code, error) == (0, "")
    assert text.startswith(f"Usage: hpcseg {name}")


def test_the_help_of_a_command_that_starts_mpi_starts_none():
    result = run("label", "--help", OMPI_MCA_pml="absent")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: hpcseg label")


@pytest.mark.parametrize("name", ["stats", "synth"])
def test_a_wrong_option_is_one_line_and_exit_code_2(name):
    result = run(name, "--colour", "blue")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "--colour" in result.stderr


def test_memory_that_is_freed_is_kept_for_the_next_tile():
    resident = "int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')"
    code = f"import os; from hpcseg.environment import keep_freed_memory as keep; keep(); b = b'1' * (200 << 20); del b; print({resident})"
    held = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert held > 200 << 20
