"""The owner of mpi4py: start and end, errors that end the whole job, work shared out, and the pulse that bounds every wait."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO, TypeVar

import mpi4py
import numpy as np

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
from mpi4py import MPI  # noqa: E402  (the two lines above must come first: importing starts nothing)

from hpcseg.environment import stop_requested  # noqa: E402  (after the import above, for the same reason)
from hpcseg.errors import HpcsegError, StoppedError, UsageError  # noqa: E402  (the same)

T = TypeVar("T")
U = TypeVar("U")
Comm = MPI.Intracomm

_TURN_SECONDS = 0.1
_LONGEST_TURN = 3.0

_failing = threading.Lock()
_kept: list[BaseException] = []
_warned: list[str] = []
_beating: list[Pulse] = []


def start(local_rank: int | None = None) -> Comm:
    """MPI_Init with MPI_THREAD_MULTIPLE; from here on an exception on any rank ends the job. Returns the world.

    local_rank: what the environment said, None = nothing; checked against a split by shared memory.
    """
    provided = MPI.Init_thread(MPI.THREAD_MULTIPLE)
    comm: Comm = MPI.COMM_WORLD
    if comm.size > 1:
        warnings.showwarning = keep_warning
    sys.excepthook = lambda kind, error, trace: fail(comm, error)
    threading.excepthook = lambda args: fail(comm, args.exc_value)
    if provided < MPI.THREAD_MULTIPLE:
        raise UsageError(
            "this MPI gives no MPI_THREAD_MULTIPLE; load or build one that does (ompi_info | grep THREAD_MULTIPLE)"
        )
    node = node_comm(comm)
    if local_rank is not None and node.size > 1 and local_rank != node.rank:
        raise UsageError(
            f"the launcher says local rank {local_rank}, shared memory says {node.rank}: start with one launcher only"
        )
    return comm


def version() -> str:
    """The MPI library, its standard, and the thread level it was started with."""
    levels = {MPI.THREAD_SINGLE: "single", MPI.THREAD_FUNNELED: "funneled", MPI.THREAD_SERIALIZED: "serialized"}
    library = MPI.Get_library_version().strip("\0\n ").splitlines()[0].split(", package")[0]
    standard = ".".join(map(str, MPI.Get_version()))
    return f"{library}, standard {standard}, thread level {levels.get(MPI.Query_thread(), 'multiple')}"


def node_comm(comm: Comm) -> Comm:
    """The ranks of this node."""
    return Comm(comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank))


def fair_threads(comm: Comm) -> int:
    """Cores of this rank's mask divided by the ranks of this node that share it, at least 1."""
    mask = tuple(sorted(os.sched_getaffinity(0)))
    return max(1, len(mask) // node_comm(comm).allgather(mask).count(mask))


def fail(comm: Comm, error: BaseException | None) -> None:
    """Print what happened, on which rank and host, and end the whole job at once: the first of several threads does it for all."""
    if not _failing.acquire(blocking=False):
        threading.Event().wait()
    code = error.exit_code if isinstance(error, HpcsegError) else 1
    alone = MPI.Is_finalized() or comm.size == 1
    where = "" if alone else f"rank {comm.rank} on {socket.gethostname()}: "
    if alone or not _is_ended(comm.rank):
        print("".join(f"hpcseg: warning: {text}\n" for text in dict.fromkeys(_warned)), end="", file=sys.stderr)
        if error is not None and not isinstance(error, (HpcsegError, KeyboardInterrupt)):
            traceback.print_exception(type(error), error, error.__traceback__)
        print(f"hpcseg: {where}{describe(error)}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if not alone:
        comm.Abort(code)
    os._exit(code)


def _is_ended(rank: int) -> bool:
    """Whether the launcher ended this rank before its turn to speak: what breaks a job breaks many ranks, and one line is enough."""
    return not stop_requested.is_set() and stop_requested.wait(min(_TURN_SECONDS * rank, _LONGEST_TURN))


def keep_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """Keep a warning of this rank for the end of the job, when each is shown once for all ranks."""
    _warned.append(f"{filename}:{lineno}: {category.__name__}: {' '.join(str(message).split())}")


def show_warnings(comm: Comm) -> None:
    """Print the warnings of all ranks on rank 0, each once. Collective."""
    told = comm.gather(set(_warned))
    if told is None:
        return
    for text, count in Counter(text for each in told for text in sorted(each)).items():
        print(f"hpcseg: warning: {text}{f' ({count} ranks)' if count > 1 else ''}", file=sys.stderr)


def describe(error: BaseException | None) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, HpcsegError) else f"{type(error).__name__}: {text}"


def finish(comm: Comm, code: int) -> None:
    """End the process with `code`, after all ranks have come here. Destructors of datasets and tensors are not waited for."""
    if comm.size > 1:
        show_warnings(comm)
    sys.stdout.flush()
    sys.stderr.flush()
    MPI.Finalize()
    os._exit(code)


def on_root(comm: Comm, work: Callable[[], T]) -> T:
    """Do something on rank 0; its result, or the HpcsegError it raised, comes out on every rank alike (`shared` is set).

    The others sleep meanwhile: an MPI that waits for a message takes a whole core.
    """
    outcome: tuple[bool, Any] = (True, None)
    if comm.rank == 0:
        try:
            outcome = (True, work())
        except HpcsegError as error:
            outcome = (False, error)
    patient_barrier(comm)
    good, value = comm.bcast(outcome)
    if good:
        return value
    value.shared = True
    raise value


def share_out(comm: Comm, items: Sequence[T], work: Callable[[T], U]) -> list[U]:
    """work(item) for all items, each on one rank (item k on rank k mod size); the results in the items' order, on every rank.

    Each item is a step of the pulses that the ranks are in.
    """
    mine = []
    for item in items[comm.rank :: comm.size]:
        mine.append(work(item))
        step()
    patient_barrier(comm)
    parts = comm.allgather(mine)
    return [parts[k % comm.size][k // comm.size] for k in range(len(items))]


def refuse_stop(comm: Comm, stop: threading.Event, what: str) -> None:
    """Once all ranks have come here, raise StoppedError on all of them if a signal came to any: what they found is of a part of the
    scenes. what: that was not done. Collective."""
    patient_barrier(comm)
    stopped = any(comm.allgather(stop.is_set()))

    def refuse() -> None:
        if stopped:
            raise StoppedError(f"stopped before {what}: run the same command again")

    on_root(comm, refuse)


def step() -> None:
    """Tell every pulse that this rank is in that it got on with its work."""
    for pulse in _beating:
        pulse.step()


def first_on_node(comm: Comm, work: Callable[[], object]) -> None:
    """Do something on one rank of each node, then on its others: for caches that a node shares. Collective."""
    node = node_comm(comm)
    if node.rank == 0:
        work()
    patient_barrier(node)
    if node.rank:
        work()
    node.Free()


def create_group(comm: Comm, ranks: Sequence[int], tag: int) -> Comm:
    """A communicator of some ranks; collective over those alone."""
    group = comm.group.Incl(list(ranks))
    return comm.Create_group(group, tag)


def patient_barrier(comm: Comm) -> None:
    """A barrier that sleeps between looks, so that ranks that wait leave their cores to those that work."""
    request, pause = comm.Ibarrier(), 0.0002
    while not request.Test():
        time.sleep(pause)
        pause = min(2 * pause, 0.005)


def self_comm() -> Comm:
    """A communicator of this rank alone."""
    return MPI.COMM_SELF


def file_hints(hints: Mapping[str, str]) -> Any:
    """Hints of MPI-IO as it takes them, None if there are none."""
    return MPI.Info.Create(dict(hints)) if hints else None


class Pulse:
    """A thread that keeps every wait of a job finite, and tells each rank how all are doing.

    All ranks add their counters in one small non-blocking Allreduce at a time, polled, never waited for. If the sum stands still
    for `stall` seconds (a rank is gone, a file system hangs) the job is ended by MPI_Abort, without flush or close. A stop request
    on one rank reaches all. Use as a context around the whole run.
    """

    def __init__(self, comm: Comm, stall: float, stop: threading.Event, interval: float = 0.1) -> None:
        self.comm, self.stall, self.interval = comm, stall, interval
        self.stop = stop
        self._total = np.zeros(4, np.int64)
        self._mine = np.zeros(4, np.int64)  # steps, finished, stop, tiles
        self._all_finished = threading.Event()
        # Not the blocking Dup: a rank that died while it imported its libraries must not hold the others for ever.
        self._private, self._made = comm.Idup()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self._complete(self._made, time.monotonic())
        self._thread.start()
        _beating.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or getattr(error, "shared", False) or self.comm.size == 1:
            self.wait_for_all()
        _beating.remove(self)
        if error is not None:
            # Its traceback holds files that must be neither flushed nor closed: they stay open until the process ends.
            _kept.append(error)

    def step(self, count: int = 1) -> None:
        """Tell that this rank got on with its work."""
        self._mine[0] += count

    def step_tile(self) -> None:
        """Tell that this rank finished a tile."""
        self._mine[3] += 1
        self._mine[0] += 1

    @property
    def total_tiles(self) -> int:
        """Tiles that all ranks have finished, as of the last beat."""
        return int(self._total[3])

    def wait_for_all(self) -> None:
        """Return once every rank has come here, within the stall limit: then collective calls are safe, but no longer bounded."""
        self._mine[1] = 1
        self._all_finished.wait()
        self._thread.join()

    def _beat(self) -> None:
        seen, moved = -1, time.monotonic()
        while not self._all_finished.is_set():
            self._mine[2] = self.stop.is_set()
            total = np.zeros_like(self._mine)
            # The request does not keep its buffers alive: both must stay named until it is complete.
            sent = self._mine.copy()
            self._complete(self._private.Iallreduce(sent, total), moved)
            self._total = total
            if total[0] + total[1] != seen:
                seen, moved = total[0] + total[1], time.monotonic()
            self._check(moved)
            if total[2]:
                self.stop.set()
            if total[1] == self.comm.size:
                self._all_finished.set()
            else:
                self._pace()

    def _complete(self, request: MPI.Request, moved: float) -> None:
        """Poll a request until it is complete, or until nothing has moved for too long."""
        pause = 0.0005
        while not request.Test():
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
            self._check(moved)

    def _pace(self) -> None:
        """Wait for the next beat; a rank that has just finished does not."""
        until, finished = time.monotonic() + self.interval, self._mine[1]
        while time.monotonic() < until and self._mine[1] == finished:
            time.sleep(0.01)

    def _check(self, moved: float) -> None:
        if time.monotonic() - moved > self.stall:
            text = f"no rank made progress for {self.stall:.0f} s: a rank or a file system is gone; run the same command again to resume"
            fail(self.comm, HpcsegError(text))
