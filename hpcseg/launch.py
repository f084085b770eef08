"""The entry of every command: signals, GPU, MPI and threads are settled here, before any heavy import.

Only the standard library until MPI has started: torch and Numba read their environment once, when they are imported. The import
of the command itself, at the end of `main`, is the one late import of the project.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

from hpcseg.environment import LOCAL_RANK, RANK, bind_device, first_number, on_signal, phase, process_age, set_environment, startup

COMMANDS = {  # name: (starts MPI, what it does)
    "doctor": (True, "what is installed and how each rank is bound: MPI, HDF5, GDAL, Horovod, device, threads"),
    "models": (False, "networks and shipped models: parameters, halo, cost per pixel"),
    "synth": (False, "synthetic scenes with truth, any size, streamed"),
    "plan": (False, "the partition for any number of ranks, its imbalance, memory and output size"),
    "predict": (True, "map scenes: the main job"),
    "label": (True, "label scenes by a rule, without people: ice, water, an index of two bands"),
    "train": (True, "a model from scenes and labels, gradients averaged over ranks"),
    "gallery": (True, "an archive's cells in buckets by a code, a network for each: build, assign, search, show, train, evaluate"),
    "count": (True, "objects in scenes, by a detector: points, counts, density"),
    "submit": (False, "the batch script of a stage, with time and nodes that fit it"),
    "status": (False, "how far a run is, from a login node"),
    "verify": (True, "every tile present and its CRC right"),
    "evaluate": (True, "maps against truth: confusion matrix, IoU, F1, accuracy, per class and scene"),
    "report": (True, "a run as one page: pictures, areas, times, failures, provenance, methods with citations"),
    "export": (True, "compressed COG, GeoPackage polygons, PNG quicklook; objects with their sizes"),
    "stats": (True, "mean, deviation and percentiles of scenes"),
    "bench": (True, "each stage alone and together"),
    "scaling": (False, "how a stage scales: studies over ranks and tile sizes, their page, simulation past the machine"),
}

def wanted_threads(arguments: list[str]) -> int:
    """--threads as given on the command line, 0 if it is not: needed before the parser can be imported."""
    for each, following in zip(arguments, [*arguments[1:], ""], strict=False):
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


def _refuse_strangers() -> None:
    """End one of several processes of which each takes itself for all of the job; the first of them says why."""
    if first_number(RANK) == 1:
        print("hpcseg: the launcher starts several processes and MPI sees one: it belongs to another MPI (hpcseg doctor tells of both)",
              file=sys.stderr)  # fmt: skip
    sys.exit(2)


def main() -> None:
    """Run `hpcseg COMMAND ARGUMENTS...` and exit with its code."""
    startup["interpreter"] = process_age()
    for each in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(each, on_signal)
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    first = (first_number(RANK) or 0) == 0
    with_mpi = name in COMMANDS and COMMANDS[name][0] and not {"--help", "-h"} & set(arguments)
    if not with_mpi and not first:
        # The first rank does alone what needs no MPI. Another's error would make the launcher end the first before it spoke.
        sys.exit(0)
    if name not in COMMANDS:
        asked = name in ("--help", "-h", "help")
        print(
            usage() if asked else f"hpcseg: no command {name!r}; wanted one of {', '.join(COMMANDS)}",
            file=sys.stdout if asked else sys.stderr,
        )
        sys.exit(0 if asked else 2)
    if not first:
        # What torch's C++ warns of it tells on the first rank.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    local_rank = first_number(LOCAL_RANK)
    if name != "scaling":
        # That one starts jobs, which are to see all devices.
        bind_device(local_rank or 0)
    comm, threads = None, wanted_threads(arguments)
    if with_mpi:
        with phase("mpi"):
            from hpcseg import mpi

            comm = mpi.start(local_rank)
            threads = threads or mpi.fair_threads(comm)
        if comm.size == 1 and not first and name != "doctor":
            _refuse_strangers()
    set_environment(threads or len(os.sched_getaffinity(0)))
    with phase("imports"):
        command = importlib.import_module(f"hpcseg.cli.{name}")
        from hpcseg.cli import execute

    code = execute(command.command, arguments, comm, first)
    if comm is not None:
        mpi.finish(comm, code)
    sys.exit(code)
