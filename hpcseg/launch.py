"""The entry of every command: signals, GPU, MPI and threads are settled here, before any heavy import.

Only the standard library until MPI has started: torch and Numba read their environment once, when they are imported. The import
of the command itself, at the end of `main`, is the one late import of the project.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

COMMANDS = {  # name: (starts MPI, what it does)
    "doctor": (True, "what is installed and how each rank is bound: MPI, HDF5, GDAL, Horovod, device, threads"),
    "models": (False, "networks and shipped models: parameters, halo, cost per pixel"),
    "synth": (False, "synthetic scenes with truth, any size, streamed"),
    "plan": (False, "the partition for any number of ranks, its imbalance, memory and output size"),
    "predict": (True, "map scenes: the main job"),
    "status": (False, "how far a run is, from a login node"),
    "verify": (True, "every tile present and its CRC right"),
    "export": (False, "compressed COG, GeoPackage polygons, PNG quicklook"),
    "stats": (True, "mean, deviation and percentiles of scenes"),
    "bench": (True, "each stage alone and together"),
}

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


def _first(names: tuple[str, ...]) -> int | None:
    return next((int(os.environ[n]) for n in names if os.environ.get(n, "").isdigit()), None)


def on_signal(number: int, frame: FrameType | None) -> None:
    """Ask the run to stop after the tile in hand; a second SIGINT ends at once."""
    if number == signal.SIGINT and stop_requested.is_set():
        os._exit(130)
    stop_requested.set()


def count_devices() -> list[str]:
    """The GPUs this process may see, by the names that CUDA_VISIBLE_DEVICES takes, without starting CUDA."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if name in os.environ:
            return [each.strip() for each in os.environ[name].split(",") if each.strip() not in ("", "-1")]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(found.iterdir())))] if found.is_dir() else []


def bind_device(local_rank: int) -> None:
    """Give this process one GPU: its only one, or number `local_rank` modulo their count of those it may see."""
    devices = count_devices()
    if len(devices) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[local_rank % len(devices)]


def set_environment(threads: int) -> None:
    """Thread counts and cache folders for all libraries, before their import. Torch maps one tile a thread: see `device`."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    os.environ["HPCSEG_THREADS"] = str(threads)
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"hpcseg-{os.getuid()}", "numba"))
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    # Activations are large and short-lived: huge pages make their first touch several times cheaper.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def wanted_threads(arguments: list[str]) -> int:
    """--threads as given on the command line, 0 if it is not: needed before the parser can be imported."""
    for each, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, given, value = each.partition("=")
        value = value if given else following
        if name == "--threads" and value.isdigit():
            return int(value)
    return 0


def usage() -> str:
    """The text of `hpcseg --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "hpcseg COMMAND ...      maps from archives of large satellite scenes",
            "",
            *lines,
            "",
            "hpcseg COMMAND --help says more.",
        ]
    )


def main() -> None:
    """Run `hpcseg COMMAND ARGUMENTS...` and exit with its code."""
    for each in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(each, on_signal)
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    first = (_first(RANK) or 0) == 0
    if name not in COMMANDS:
        asked = name in ("--help", "-h", "help")
        if first:
            print(
                usage() if asked else f"hpcseg: no command {name!r}; wanted one of {', '.join(COMMANDS)}",
                file=sys.stdout if asked else sys.stderr,
            )
        sys.exit(0 if asked else 2)
    local_rank = _first(LOCAL_RANK)
    bind_device(local_rank or 0)
    comm, threads = None, wanted_threads(arguments)
    if COMMANDS[name][0] and not {"--help", "-h"} & set(arguments):
        from hpcseg import mpi

        comm = mpi.start(local_rank)
        threads = threads or mpi.fair_threads(comm)
    set_environment(threads or len(os.sched_getaffinity(0)))
    command = importlib.import_module(f"hpcseg.cli.{name}")
    from hpcseg.cli import execute

    code = execute(command.command, arguments, comm, first)
    if comm is not None:
        mpi.finish(comm, code)
    sys.exit(code)
