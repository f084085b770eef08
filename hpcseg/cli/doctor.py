"""hpcseg doctor: how each rank is bound, what is installed, and what to do about what is wrong.

Start it as the job will be started: `mpirun -n 4 hpcseg doctor`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import click

import hpcseg
from hpcseg import mpi
from hpcseg.environment import LOCAL_RANK, count_devices

_HOROVOD = "import horovod.torch as h; print(h.mpi_built(), h.nccl_built() > 0)"
_SETUP = "run: bash run/setup.sh"


@dataclass(frozen=True)
class Rank:
    """How one rank is bound. node_cores: those that its launcher may use. gpu: what tells its GPU from others of its host, "" = CPU."""

    rank: int
    host: str
    local_rank: str
    cores: tuple[int, ...]
    threads: int
    visible: str
    device: str
    gpu: str = ""
    node_cores: int = 0
    installed: tuple[tuple[str, str], ...] = ()


class Advice(NamedTuple):
    """What is wrong and what to do. essential: hpcseg cannot do its work so."""

    text: str
    essential: bool = False


def _owner(module: str) -> Any:
    """A module of hpcseg that owns a heavy dependency, or why it cannot be imported: a broken installation is what we are here for."""
    try:
        return importlib.import_module(f"hpcseg.{module}")
    except (ImportError, OSError) as error:
        return " ".join(str(error).split())


def _distribution(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def find_installed() -> tuple[dict[str, str], list[Advice]]:
    """Versions and builds by name, and what is wrong with them, of this rank."""
    raster, store, device = map(_owner, ("raster", "store", "device"))
    found = {"hpcseg": hpcseg.__version__, "Python": platform.python_version(), "MPI": mpi.version()}
    advice = []
    if isinstance(store, str):
        found["HDF5"] = "absent"
        advice.append(Advice(f"h5py cannot be used ({store}): {_SETUP}", True))
    else:
        version, parallel = store.version()
        found["HDF5"] = f"{'parallel' if parallel else 'SERIAL'} {version}"
        if not parallel:
            advice.append(Advice(f"h5py is built on a serial HDF5, ranks cannot write one file: {_SETUP}", True))
    found["GDAL"] = "absent" if isinstance(raster, str) else raster.version()
    if isinstance(raster, str):
        advice.append(Advice(f"no GDAL, no scene can be read ({raster}): {_SETUP}", True))
    found |= {"NumPy": _distribution("numpy"), "Numba": _distribution("numba")}
    if isinstance(device, str):
        found["torch"] = "absent"
        advice.append(Advice(f"torch cannot be used ({device}): {_SETUP}", True))
    else:
        found["torch"] = f"{device.version()}, bfloat16 in hardware: {'yes' if device.has_bfloat16() else 'no'}"
        if count_devices() and device.choose().type == "cpu":
            advice.append(Advice(
                "this node has GPUs that torch cannot use, networks run on the CPU: load CUDA, remove .venv and " + _SETUP, True
            ))  # fmt: skip
    return found, advice


def find_horovod() -> tuple[str, list[Advice]]:
    """Horovod and how it is built, asked in a process of its own: a broken one can take its process with it."""
    version = _distribution("horovod")
    if version == "absent":
        return version, [Advice(f"no Horovod: predict does not need it, training on several ranks does; {_SETUP}")]
    ask = subprocess.run([sys.executable, "-c", _HOROVOD], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    if ask.returncode:
        reason = (ask.stderr.strip().splitlines() or [f"exit code {ask.returncode}"])[-1]
        return f"{version}, broken", [Advice(f"Horovod cannot be imported ({reason}): remove .venv and {_SETUP}")]
    built, nccl = (word == "True" for word in ask.stdout.split()[-2:])
    text = f"{version}, with MPI: {'yes' if built else 'no'}, with NCCL: {'yes' if nccl else 'no'}"
    return text, [] if built else [Advice(f"Horovod is built without MPI, training cannot use it: remove .venv and {_SETUP}")]


def find_rank(rank: int, installed: dict[str, str]) -> Rank:
    """How this process is bound."""
    device = _owner("device")
    source = next((name for name in LOCAL_RANK if os.environ.get(name, "").isdigit()), "")
    return Rank(
        rank=rank,
        host=socket.gethostname(),
        local_rank=f"{os.environ[source]} {source}" if source else "0 (no launcher)",
        cores=tuple(sorted(os.sched_getaffinity(0))),
        threads=int(os.environ.get("HPCSEG_THREADS", "1")),
        visible=",".join(count_devices()) or "-",
        device="?" if isinstance(device, str) else device.name(),
        gpu="" if isinstance(device, str) else device.identity(),
        node_cores=_launcher_cores(),
        installed=tuple(installed.items()),
    )


def _launcher_cores() -> int:
    """Cores of the process that started this one: Open MPI's has all of the node's that the job may use."""
    try:
        return len(os.sched_getaffinity(os.getppid()))
    except OSError:
        return 0


def launched_ranks() -> int:
    """How many ranks the launcher says it started, 0 if it says nothing. A batch script's own task count is not it."""
    names = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "PALS_SIZE", "JSM_NAMESPACE_SIZE", "SLURM_STEP_NUM_TASKS")
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), 0)


def judge(ranks: Sequence[Rank], launched: int = 0) -> list[Advice]:
    """What is wrong with how ranks are bound. launched: how many the launcher says it started."""
    advice = []
    if launched > len(ranks):
        advice.append(Advice(
            f"the launcher started {launched} ranks, but MPI sees {len(ranks)}: the launcher is of another MPI than the library above; "
            "use its own mpirun, or srun --mpi=pmix", True
        ))  # fmt: skip
    if len({rank.installed for rank in ranks}) > 1:
        advice.append(Advice("ranks differ in what is installed: " + _differing(ranks) + "; use one environment on all nodes"))
    hosts = defaultdict(list)
    for rank in ranks:
        hosts[rank.host].append(rank)
    for host, here in hosts.items():
        advice += _judge_cores(host, here) + _judge_gpus(host, here)
    return advice


def _judge_cores(host: str, here: Sequence[Rank]) -> list[Advice]:
    """What is wrong with the cores of one host."""
    sharing = defaultdict(list)
    for rank in here:
        sharing[rank.cores].append(rank.rank)
    advice = [
        Advice(
            f"{host}: ranks {spell(ranks)} share {count(len(cores), 'core')} ({spell(cores)}): start fewer ranks on it, "
            "or give each its own cores (mpirun --map-by slot:PE=n, srun --cpus-per-task=n)"
        )
        for cores, ranks in sharing.items()
        if len(ranks) > len(cores)
    ]
    used, free = len(set().union(*(rank.cores for rank in here))), max(rank.node_cores for rank in here)
    if len(here) == 1 and len(here[0].cores) == 1 < free:
        advice.append(Advice(f"{host}: one rank is bound to one of {free} cores: Open MPI gives -n 1 one core: add --bind-to none"))
    elif used < free:
        remedy = "add --bind-to none" if len(here) == 1 else "add --bind-to none, or --map-by slot:PE=n for n cores each"
        advice.append(Advice(f"{host}: {count(len(here), 'rank')} may use {used} of {free} cores: {remedy}"))
    return advice


def _judge_gpus(host: str, here: Sequence[Rank]) -> list[Advice]:
    """Ranks of one host that share a GPU."""
    sharing = defaultdict(list)
    for rank in here:
        if rank.gpu:
            sharing[rank.gpu].append(rank.rank)
    return [
        Advice(f"{host}: ranks {spell(ranks)} share one GPU: predict works so, training with NCCL does not; start one rank a GPU")
        for ranks in sharing.values()
        if len(ranks) > 1
    ]


def _differing(ranks: Sequence[Rank]) -> str:
    first = dict(ranks[0].installed)
    other = next(rank for rank in ranks if rank.installed != ranks[0].installed)
    names = [name for name, value in other.installed if first.get(name) != value]
    return ", ".join(f"{name} is {first.get(name)} on {ranks[0].host}, {dict(other.installed)[name]} on {other.host}" for name in names)


def count(number: int, thing: str) -> str:
    """A number of things in words."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def spell(numbers: Iterable[int]) -> str:
    """Sorted numbers as ranges: 0-3,8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def table(ranks: Sequence[Rank]) -> list[str]:
    """The ranks as lines of aligned columns."""
    names = [each.name for each in fields(Rank)[:7]]
    rows = [[name.replace("_", " ") for name in names]]
    rows += [[spell(v) if isinstance(v, tuple) else str(v) for v in (getattr(r, name) for name in names)] for r in ranks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@click.command("doctor")
@click.pass_obj
def command(comm: mpi.Comm) -> int:
    """Show how each rank is bound and what is installed. Exit code 3 if something essential is missing."""
    installed, advice = find_installed()
    ranks = comm.allgather(find_rank(comm.rank, installed))
    advice = [each for part in comm.allgather(advice) for each in part]
    code = 0
    if comm.rank == 0:
        installed["Horovod"], of_horovod = find_horovod()
        advice = list(dict.fromkeys([*advice, *of_horovod, *judge(ranks, launched_ranks())]))
        print("\n".join([*table(ranks), "", *(f"{name:<8}  {what}" for name, what in installed.items()), ""]))
        print("\n".join(f"{'missing' if each.essential else 'warning'}: {each.text}" for each in advice) or "all is well")
        code = 3 if any(each.essential for each in advice) else 0
    return comm.bcast(code)
