"""Where a study ran: the machine, the versions, and which cores a launcher gives to each rank."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hpcseg
from hpcseg.environment import count_devices, processor
from hpcseg.errors import UsageError

_PACKAGES = ("hpcseg", "torch", "numpy", "numba", "h5py", "mpi4py", "gdal", "horovod")
_PROBE = (
    "import os, socket, sys; sys.stdout.write('hpcseg-rank ' + socket.gethostname() + ' '"
    " + ','.join(map(str, sorted(os.sched_getaffinity(0)))) + chr(10))"
)
_PROBE_SECONDS = 120
_TOLD = 8


class Binding(NamedTuple):
    """Of ranks. nodes: different hosts. text: host and cores of the first eight ranks, for people. cores: of the rank with fewest."""

    nodes: int
    text: str
    cores: int


@cache
def describe_machine() -> dict[str, Any]:
    """The fields of a row that tell of this machine and this program."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "host": socket.gethostname(),
        "cpu": processor()[0],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "gpu": _gpus(),
        "versions": _versions(),
        "revision": _revision(),
    }


def _gpus() -> str:
    """Names of the GPUs, by the driver, without starting CUDA."""
    if not count_devices():
        return ""
    return ", ".join(sorted(set(_say(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()))) or "unknown"


def _versions() -> str:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return " ".join(f"{name}={version}" for name, version in found.items())


def _revision() -> str:
    """The commit of the source that runs, with + if tracked files differ from it; "" outside a repository of it."""
    folder = Path(hpcseg.__file__).parent
    if not (folder.parent / ".git").exists():
        return ""
    dirty = _say(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no", "."])
    return _say(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]) + ("+" if dirty else "")


def _say(words: Sequence[str]) -> str:
    """What a program prints, "" if it is not there or fails."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def probe_binding(launcher: Sequence[str], ranks: int) -> Binding:
    """Start `ranks` processes as a run will be started and ask each where it is. Raises UsageError if the launcher cannot."""
    words = [*launcher, sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{' '.join(launcher)}: {error}; --launch says how ranks are started") from error
    told = sorted(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("hpcseg-rank "))
    if len(told) != ranks:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        what = f"started {len(told)} of {ranks} ranks, and says: {last}"
        raise UsageError(f"{' '.join(launcher)}: {what}; --launch says how ranks are started")
    nodes = len({host for host, _ in told})
    text = "; ".join(f"{host} {cores}" for host, cores in told[:_TOLD]) + ("; ..." if ranks > _TOLD else "")
    return Binding(nodes, text, min(len(cores.split(",")) for _, cores in told))
