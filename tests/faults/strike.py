"""Faults that come to a running job, and the end of what caused them: signals, a disk without room, a scene that is taken away."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi.launch import Job

from faults.draw import Fault

_ROOM = 150_000
_AFTER_STALL = 4.0


@dataclass(frozen=True)
class Place:
    """Where a trial works. scenes: its own; originals: as they should be. disk: the small file system on which it writes, None: a
    limit to the size of files stands for one. stall: seconds, as its jobs are told."""

    scenes: Sequence[Path]
    originals: Sequence[Path]
    disk: Path | None
    stall: float

    @property
    def ballast(self) -> Path | None:
        return self.disk and self.disk / "ballast"

    def changed(self) -> list[tuple[Path, Path]]:
        """The scenes that are not as they should be, each with its original."""
        pairs = zip(self.scenes, self.originals, strict=True)
        return [(a, b) for a, b in pairs if not a.exists() or a.stat().st_size != b.stat().st_size]


@dataclass
class Stopped:
    """A process that is to be continued `until` seconds after its job's start."""

    pid: int
    until: float


def strike(place: Place, fault: Fault, job: Job, ranks: int) -> Stopped | bool:
    """Let a fault come; False if its rank does not run yet. What is stopped is to be continued."""
    what, _, whom = fault.kind.partition(" ")
    if what == "disk":
        fill_disk(place, fault, job)
    elif what == "scene":
        take_scene(place, fault)
    elif whom == "mpirun":
        job.process.send_signal(signal.Signals[what])
    else:
        pid = job.rank_pid(int(fault.victim * ranks))
        if pid is None:
            return False
        send(pid, signal.Signals[what])
        if what == "SIGSTOP":
            length = place.stall + _AFTER_STALL if whom == "long" else 0.2 + 2 * fault.amount
            return Stopped(pid, time.monotonic() - job.begin + length)
    return True


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def continue_due(stopped: list[Stopped], now: float) -> None:
    """Continue, and forget, the processes that were stopped for long enough."""
    for each in [each for each in stopped if now > each.until]:
        send(each.pid, signal.SIGCONT)
        stopped.remove(each)


def fill_disk(place: Place, fault: Fault, job: Job) -> None:
    """Leave next to no room for what the job writes from now on."""
    room = int(_ROOM * fault.amount)
    if place.ballast is None:
        for pid in job.members():
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))
        return
    # What else is written meanwhile may take the last bytes first.
    with contextlib.suppress(OSError), place.ballast.open("wb", buffering=0) as file:
        file.write(bytes(max(0, shutil.disk_usage(place.ballast.parent).free - room)))


def take_scene(place: Place, fault: Fault) -> None:
    """Move a scene away, or cut its file short."""
    scene = place.scenes[int(fault.victim * len(place.scenes))]
    with contextlib.suppress(FileNotFoundError):
        if fault.kind == "scene vanishes":
            scene.rename(scene.with_suffix(".away"))
        else:
            os.truncate(scene, int(fault.amount * scene.stat().st_size))


def make_room(place: Place) -> None:
    """The disk has room again."""
    if place.ballast is not None:
        place.ballast.unlink(missing_ok=True)


def bring_scenes_back(place: Place) -> None:
    """All scenes are what they were."""
    for scene, original in place.changed():
        shutil.copyfile(original, scene)
