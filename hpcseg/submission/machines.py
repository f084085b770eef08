"""The batch script of a stage for a kind of machine: the shipped script of slurm/ by reference, with the resources filled in."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import hpcseg
from hpcseg.errors import HpcsegError, UsageError

REPEATS = 10
"""How often slurm/job.sh submits a job again unless it is told otherwise."""


class Machine(NamedTuple):
    """script: in slurm/. gpus, cpus: of a node and of a rank, unless the user says; `fixed`: the script knows no other. memory: GB of a
    node, 0 = not known."""

    script: str
    gpus: int = 0
    cpus: int = 1
    memory: int = 0
    fixed: bool = False


MACHINES = {
    "cluster": Machine("cluster.sbatch"),
    "dgx": Machine("dgx.sbatch", 8, 16),
    "frontier": Machine("frontier.sbatch", 8, 7, 512),
    "summit": Machine("summit.lsf", 6, 7, 512, fixed=True),
    "polaris": Machine("polaris.pbs", 4, 8, 512, fixed=True),
}


class Resources(NamedTuple):
    """What a job asks for. seconds: 0 = the queue's own limit. ranks, gpus, memory: of a node, memory in GB. cpus: of a rank."""

    nodes: int
    ranks: int
    gpus: int
    cpus: int
    seconds: int = 0
    memory: float = 0.0
    account: str = ""
    queue: str = ""
    repeats: int = 0


class Scheduler(NamedTuple):
    """mark: what its lines in a script begin with. ask: the lines for resources, without it. submit: words that submit a script."""

    mark: str
    ask: Callable[[Resources], list[str]]
    submit: Callable[[Path], list[str]]


def _slurm(r: Resources) -> list[str]:
    return _lines(
        ("--nodes=", r.nodes), ("--ntasks-per-node=", r.ranks), ("--gpus-per-node=", r.gpus), ("--cpus-per-task=", r.cpus),
        ("--time=", _clock(r.seconds)), ("--signal=USR1@", _warning(r)), ("--mem=", r.memory and f"{math.ceil(r.memory * 1000)}M"),
        ("--account=", r.account), ("--partition=", r.queue),
    )  # fmt: skip


def _lsf(r: Resources) -> list[str]:
    clock = _clock(r.seconds).removesuffix(":00")
    return _lines(("-nnodes ", r.nodes), ("-W ", clock), ("-wt ", _warning(r) // 60), ("-P ", r.account), ("-q ", r.queue))


def _pbs(r: Resources) -> list[str]:
    return _lines(("-l select=", r.nodes), ("-l walltime=", _clock(r.seconds)), ("-A ", r.account), ("-q ", r.queue))


def _lines(*pairs: tuple[str, object]) -> list[str]:
    """A line for each flag that has a value."""
    return [f"{flag}{value}" for flag, value in pairs if value]


SCHEDULERS = {
    ".sbatch": Scheduler("#SBATCH ", _slurm, lambda path: ["sbatch", "--parsable", str(path)]),
    ".lsf": Scheduler("#BSUB ", _lsf, lambda path: ["bsub"]),
    ".pbs": Scheduler("#PBS ", _pbs, lambda path: ["qsub", str(path)]),
}


def _warning(r: Resources) -> int:
    """Seconds before the end of a short job's time when it is warned; 0 for others: five minutes, as their scripts say."""
    return 60 * -(-r.seconds // 120) if r.seconds < 600 else 0


def _clock(seconds: int) -> str:
    minutes = -(-seconds // 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:00"


def scheduler_of(machine: Machine) -> Scheduler:
    """That of a machine, by its script."""
    return SCHEDULERS[Path(machine.script).suffix]


def find_home() -> Path:
    """The repository, where slurm/ and run/ are. Raises UsageError."""
    places = [Path(os.environ["HPCSEG_HOME"])] if os.environ.get("HPCSEG_HOME") else [Path(hpcseg.__file__).parents[1], Path.cwd()]
    for place in places:
        if (place / "slurm" / "job.sh").is_file():
            return place.resolve()
    raise UsageError(f"no slurm/ in {' or '.join(map(str, places))}: set HPCSEG_HOME to the repository of hpcseg")


def write_script(machine: Machine, resources: Resources, words: Sequence[str], told: Sequence[str]) -> str:
    """The script of a job: lines for the scheduler are the shipped script's own and those of `resources`, which win; all else the
    shipped script does. words: what it runs. told: comments."""
    home = find_home()
    mark, ask, _ = scheduler_of(machine)
    mine = ask(resources)
    shipped = [line.removeprefix(mark) for line in (home / "slurm" / machine.script).read_text().splitlines() if line.startswith(mark)]
    kept = [line for line in shipped if _key(line) not in map(_key, mine)]
    return "\n".join([
        "#!/usr/bin/env bash",
        *(f"# {' '.join(line.split())}" for line in told),
        *(mark + line for line in [*kept, *mine]),
        f"export HPCSEG_HOME={shlex.quote(str(home))}",
        # What goes wrong counts too: never fewer than job.sh itself allows.
        *[f"export HPCSEG_REPEATS={resources.repeats}"] * (resources.repeats > REPEATS),
        f'exec bash "$HPCSEG_HOME/slurm/{machine.script}" {shlex.join(words)}',
        "",
    ])  # fmt: skip


def _key(line: str) -> str:
    """What a scheduler's line sets: "--time", "-W", "-l walltime"."""
    return re.split("=| (?!walltime|select|filesystems)", line)[0]


def submit(machine: Machine, script: str, name: str) -> tuple[str, Path]:
    """Submit a script, which is kept in the current folder, where the job's output goes too. Returns the job's number and the file.

    Raises UsageError if there is no such scheduler here, HpcsegError with what it said if it refused.
    """
    path = Path(f"hpcseg-{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.sh")
    words = scheduler_of(machine).submit(path)
    try:
        path.write_text(script)
        with path.open() as file:
            done = subprocess.run(words, stdin=file, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"no {words[0]} here: leave --now away, save the script and submit it where there is one") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HpcsegError(f"{words[0]}: {error}") from error
    if done.returncode:
        raise HpcsegError(f"{words[0]} refused {path}: {(done.stderr or done.stdout).strip()}")
    number = re.search(r"\d+[\w.\[\]-]*", done.stdout)
    return (number[0] if number else done.stdout.strip()), path
