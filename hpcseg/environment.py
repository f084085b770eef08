"""This process among others: what the launcher says of it, its GPU, its thread counts, and the wish to stop.

The standard library alone: all of it is settled before any heavy import.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

LOCAL_RANK = (
    "OMPI_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID", "MV2_COMM_WORLD_LOCAL_RANK", "JSM_NAMESPACE_LOCAL_RANK",
    "FLUX_TASK_LOCAL_ID", "MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID",
)  # fmt: skip
RANK = (
    "OMPI_COMM_WORLD_RANK",
    "PALS_RANKID",
    "MV2_COMM_WORLD_RANK",
    "JSM_NAMESPACE_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "SLURM_PROCID",
)

stop_requested = threading.Event()
startup: dict[str, float] = {}
"""Seconds of each phase of this process before its first tile."""


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Add what is done here, or in a function that this decorates, to a phase of the start."""
    begin = time.perf_counter()
    try:
        yield
    finally:
        startup[name] = startup.get(name, 0.0) + time.perf_counter() - begin


def process_age() -> float:
    """Seconds since this process was started, 0 where the system does not say."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return 0.0
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def first_number(names: tuple[str, ...]) -> int | None:
    """The first of these environment variables that holds a number."""
    return next((int(os.environ[n]) for n in names if os.environ.get(n, "").isdigit()), None)


def on_signal(number: int, frame: FrameType | None) -> None:
    """Ask the run to stop after the tile in hand; a second SIGINT ends at once."""
    if number == signal.SIGINT and stop_requested.is_set():
        os._exit(130)
    stop_requested.set()


def count_devices() -> list[str]:
    """The GPUs this process may see, by the names that CUDA_VISIBLE_DEVICES takes, without starting CUDA."""
    name = _device_variable()
    if name:
        return [each.strip() for each in os.environ[name].split(",") if each.strip() not in ("", "-1")]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(found.iterdir())))] if found.is_dir() else []


def _device_variable() -> str:
    """The variable by which the launcher shows this process its GPUs, "" if there is none."""
    return next((name for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES") if name in os.environ), "")


def bind_device(local_rank: int) -> None:
    """Give this process one GPU: its only one, or number `local_rank` modulo their count of those it may see."""
    devices = count_devices()
    if len(devices) > 1:
        # The launcher's own variable: ROCm counts what CUDA_VISIBLE_DEVICES names among those that ROCR_VISIBLE_DEVICES has left.
        os.environ[_device_variable() or "CUDA_VISIBLE_DEVICES"] = devices[local_rank % len(devices)]


def set_environment(threads: int) -> None:
    """Thread counts and cache folders for all libraries, before their import. Torch maps one tile a thread: see `device`."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    os.environ["HPCSEG_THREADS"] = str(threads)
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"hpcseg-{os.getuid()}", "numba"))
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    # Activations are large and short-lived: huge pages make their first touch several times cheaper.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed: each tile allocates the same activations again, and pages given back cost a fault each."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # Of glibc's malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD.
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):
            mallopt(option, value)


def mark_begun() -> None:
    """Tell the batch job, if this is one (slurm/job.sh), that what it was to overwrite is gone: from here on a repeat of it goes on."""
    if path := os.environ.get("HPCSEG_BEGUN"):
        with suppress(OSError):
            Path(path).touch()


def processor() -> tuple[str, set[str]]:
    """The processor's name for people, "cpu" where it is not said, and the names of what it can do."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")
    return name, set(next((line.split() for line in lines if line.startswith(("flags", "Features"))), []))


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    # What getrusage says would count the memory of the process that started this one.
    found = _kilobytes("/proc/self/status", "VmHWM")
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if found is None else found)


def proportional_memory() -> int:
    """Resident memory of this process in bytes, what it shares with n others counted as an nth; 0 where the system does not say."""
    return 1024 * (_kilobytes("/proc/self/smaps_rollup", "Pss") or 0)


def _kilobytes(file: str, key: str) -> int | None:
    """A line `key: n kB` of a file of /proc, None if it is not there."""
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)
