"""What ranks settle together before they go on: an error of one is an error of all, told once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hpcseg.errors import HpcsegError
from hpcseg.mpi import Comm, share_out

T = TypeVar("T")
U = TypeVar("U")


def together(comm: Comm, work: Callable[[], T]) -> T:
    """Do work on every rank and return its own result; if any rank raised an HpcsegError, the first such rank's is raised on all alike
    (`shared` is set). Collective; `work` itself must not be."""
    result, error = None, None
    try:
        result = work()
    except HpcsegError as raised:
        error = raised
    first = next((each for each in comm.allgather(error) if each is not None), None)
    if first is not None:
        first.shared = True
        raise first
    return result  # type: ignore[return-value]  # None only if work gave None


def share_out_together(comm: Comm, items: Sequence[T], work: Callable[[T], U]) -> list[U]:
    """As `share_out`, and an error of one rank is raised on all. Collective."""
    mine = together(comm, lambda: [work(item) for item in items[comm.rank :: comm.size]])
    return share_out(comm, range(len(items)), lambda k: mine[k // comm.size])
