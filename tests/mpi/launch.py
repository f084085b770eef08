"""Starting jobs for tests: mpirun in a session of its own, a deadline that ends all of it, and what it said."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

DEADLINE = 120.0
_BIN = Path(sys.executable).parent
_LAUNCHER = ("OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_ARGV", "OMPI_APP", "PMIX_", "ORTE_", "HPCSEG_")
needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun on PATH")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a fresh shell that sourced run/env.sh would have, and `extra`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER)}
    env |= {
        "PATH": f"{_BIN}{os.pathsep}{env['PATH']}",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        # More ranks than cores is the rule here: one core each is not to be had.
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "HDF5_USE_FILE_LOCKING": "FALSE",
    }
    return env | dict(extra or {})


@dataclass(frozen=True)
class Job:
    """A running mpirun and all that it started. begin: monotonic seconds at its start."""

    process: subprocess.Popen[str]
    begin: float

    def members(self) -> list[int]:
        """Processes of the job, wherever they moved: all of its session."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == self.process.pid]

    def rank_pid(self, rank: int) -> int | None:
        """Process number of a rank, None before it runs."""
        wanted = f"OMPI_COMM_WORLD_RANK={rank}".encode()
        return next((pid for pid in self.members() if wanted in _environ(pid)), None)

    def send(self, rank: int, number: signal.Signals) -> None:
        """Send a signal to a rank that runs."""
        pid = self.rank_pid(rank)
        assert pid is not None, f"rank {rank} does not run"
        os.kill(pid, number)

    def wait(self, timeout: float = DEADLINE) -> CompletedProcess[str]:
        """The finished job. A job that goes on after `timeout` seconds is ended whole, and the test fails."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate()
            pytest.fail(f"still running after {timeout:.0f} s: {self.process.args}\n{out[-2000:]}\n{err[-2000:]}")
        return CompletedProcess(self.process.args, self.process.returncode, out, err)

    def kill(self) -> None:
        """End every process of the job at once."""
        while members := self.members():
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if self.process.poll() is not None and members == [self.process.pid]:
                break
            time.sleep(0.05)

    def wait_until(self, condition: Callable[[], bool], timeout: float = DEADLINE) -> bool:
        """Whether `condition` came true while the job ran."""
        while self.process.poll() is None:
            if condition():
                return True
            if time.monotonic() - self.begin > timeout:
                self.kill()
                pytest.fail(f"what was waited for did not come in {timeout:.0f} s: {self.process.args}")
            time.sleep(0.01)
        return False


def _session(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[3])


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def start(n: int, *args: object, env: Mapping[str, str] | None = None, program: tuple[str, ...] = ("hpcseg",)) -> Job:
    """Start `mpirun -n N hpcseg ARGS`, or another program; n = 0 starts it without a launcher."""
    launcher = ["mpirun", "--oversubscribe", "-n", str(n)] if n else []
    process = subprocess.Popen(
        [*launcher, *program, *map(str, args)], env=environment(env), text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return Job(process, time.monotonic())


def run(
    n: int, *args: object, timeout: float = DEADLINE, env: Mapping[str, str] | None = None, code: int | None = 0
) -> CompletedProcess[str]:
    """Run `mpirun -n N hpcseg ARGS` to its end, which must come within `timeout` seconds with exit code `code` (None: any)."""
    result = start(n, *args, env=env).wait(timeout)
    assert code is None or result.returncode == code, f"exit {result.returncode}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result


def value(result: CompletedProcess[str], key: str) -> str:
    """The value of a `key=value unit` line of a job's output."""
    return next(line.partition("=")[2] for line in result.stdout.splitlines() if line.startswith(f"{key}="))


def own_lines(result: CompletedProcess[str]) -> list[str]:
    """What hpcseg itself said on stderr: the launcher's own paragraphs left out."""
    return [line for line in result.stderr.splitlines() if line.startswith("hpcseg:")]
