"""Starting one run under a launcher, with an end to its time and to its processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple

from hpcseg.errors import StoppedError, UsageError

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 15.0


class Ended(NamedTuple):
    """A run that came to its end. code: what its launcher returned, None if it took too long. wall: seconds. log: all that was printed."""

    code: int | None
    wall: float
    log: Path


def default_launch() -> str:
    """srun within a Slurm allocation, else mpirun; each rank on as many cores as it has threads."""
    if "SLURM_JOB_ID" in os.environ:
        return "srun --kill-on-bad-exit=1 -n {ranks} -c {threads} --cpu-bind=cores"
    return "mpirun --map-by slot:PE={threads} --bind-to core -n {ranks}"


def launcher_words(launch: str, ranks: int, threads: int) -> list[str]:
    """The words that start so many ranks; none for an empty launch. Raises UsageError."""
    try:
        words = shlex.split(launch.format(ranks=ranks, threads=threads))
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(f"--launch {launch!r}: {error}; wanted words with {{ranks}} and perhaps {{threads}} in them") from error
    if ranks > 1 and "{ranks}" not in launch:
        raise UsageError(f"--launch {launch!r} does not say how many ranks: wanted {{ranks}} in it for runs on {ranks}")
    return words


def run_to_end(words: Sequence[str], log: Path, limit: float, stop: Event) -> Ended:
    """Start a command and wait for its end, at most `limit` seconds. Raises StoppedError when `stop` is set, after ending it."""
    begin = time.perf_counter()
    with log.open("wb") as file:
        child = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL_SECONDS)
                if stop.is_set():
                    raise StoppedError("stopped: run the same command again to go on")
                if time.perf_counter() - begin > limit:
                    return Ended(None, time.perf_counter() - begin, log)
            return Ended(child.returncode, time.perf_counter() - begin, log)
        finally:
            _end(child)


def _end(child: subprocess.Popen) -> None:
    """End a launcher that still runs: it ends its ranks when asked, so it is asked first."""
    if child.poll() is not None:
        return
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, number)
            child.wait(seconds)
            return
