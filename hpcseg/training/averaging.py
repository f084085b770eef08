"""Sums of gradients over ranks: Horovod, torch.distributed, or nothing to do on one rank. All give the same in a fixed order.

Gradients go as one flat contiguous tensor: one reduction a step, whose order of additions cannot hang on timing, as that of
tensors fused while they arrive does.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import socket
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor

from hpcseg import device
from hpcseg.errors import HpcsegError, UsageError
from hpcseg.mpi import Comm
from hpcseg.training.settings import Settings
from hpcseg.training.together import together

if importlib.util.find_spec("horovod"):
    import horovod.torch as horovod
else:
    horovod = None


class Averaging(Protocol):
    """What training needs of a library that adds up tensors over ranks."""

    name: str

    def add_up(self, flat: Tensor, sizes: list[int]) -> Tensor:
        """The sum of a flat tensor over all ranks; may work in place. sizes: of the parameters that lie in it, in order."""

    def divide(self, groups: Sequence[Sequence[int]]) -> Averaging:
        """Sums over this rank's group alone; they end when the whole is closed. groups: every rank in one. Collective over all ranks."""

    def close(self) -> None:
        """Leave the group of ranks. Collective."""


class Alone:
    """One rank."""

    name = "none"

    def add_up(self, flat: Tensor, sizes: list[int]) -> Tensor:
        return flat

    def divide(self, groups: Sequence[Sequence[int]]) -> Averaging:
        return self

    def close(self) -> None:
        pass


class Library(Averaging):
    """A library that all ranks start together, once, and whose sums may then be of some of them. group: its own name for those."""

    def __init__(self, comm: Comm, group: Any) -> None:
        self._comm, self._group = comm, group

    @abstractmethod
    def _make_group(self, ranks: list[int]) -> Any:
        """The library's own name for some ranks. Collective over all."""

    def divide(self, groups: Sequence[Sequence[int]]) -> Averaging:
        if len(groups) == 1:
            return self
        # All ranks make all groups, in the same order.
        made = {tuple(ranks): self._make_group(list(ranks)) for ranks in groups if len(ranks) > 1}
        found = next((group for ranks, group in made.items() if self._comm.rank in ranks), None)
        part = copy.copy(self)
        part._group = found
        return Alone() if found is None else part


class Horovod(Library):
    """Horovod over MPI or NCCL. compression: gradients cross the network as fp16. adasum: sums that do not double common directions
    (Maleki et al., MLSys 2021), a parameter at a time. A process starts it once: a second start ends in a segmentation fault where its
    fusion threshold is fixed. So groups of ranks are process sets of the one start."""

    name = "horovod"

    def __init__(self, comm: Comm, settings: Settings) -> None:
        # Our tensor is whole already; and ranks that compute must not be woken every millisecond where cores are few.
        os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
        os.environ.setdefault("HOROVOD_CYCLE_TIME", "1" if torch.cuda.is_available() else "5")
        os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(int(settings.stall)))
        os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(int(settings.stall / 2)))
        os.environ["HOROVOD_DYNAMIC_PROCESS_SETS"] = "1"
        horovod.init(comm)
        super().__init__(comm, horovod.global_process_set)
        self._adasum = settings.adasum
        self._compression = horovod.Compression.fp16 if settings.compression == "fp16" else horovod.Compression.none

    def add_up(self, flat: Tensor, sizes: list[int]) -> Tensor:
        if not self._adasum:
            return horovod.allreduce(flat, op=horovod.Sum, name="gradients", compression=self._compression, process_set=self._group)
        # A rank holds its share of the mean over all samples; Adasum is of each rank's own mean, and gives one of them where all agree.
        parts = (flat * self._comm.size).split(sizes)
        handles = [horovod.allreduce_async_(part, op=horovod.Adasum, name=f"gradient {k}") for k, part in enumerate(parts)]
        return torch.cat([horovod.synchronize(handle) for handle in handles])

    def _make_group(self, ranks: list[int]) -> Any:
        return horovod.add_process_set(ranks)

    def close(self) -> None:
        horovod.shutdown()


class Torch(Library):
    """torch.distributed: NCCL for tensors on GPUs, else Gloo; its ranks find each other by a port that rank 0 names through MPI."""

    name = "torch"

    def __init__(self, comm: Comm, settings: Settings) -> None:
        super().__init__(comm, None)
        self._half = settings.compression == "fp16"
        wait = timedelta(seconds=settings.stall)
        # Rank 0 opens its store on any free port before the others are told of it.
        store = torch.distributed.TCPStore("0.0.0.0", 0, comm.size, True, wait, False) if comm.rank == 0 else None
        host, port = comm.bcast((_address(), store.port) if store else None)
        if store is None:
            store = torch.distributed.TCPStore(host, port, comm.size, False, wait)
        backend = "cpu:gloo,cuda:nccl" if on_gpus(comm) else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=comm.rank, world_size=comm.size, timeout=wait)

    def add_up(self, flat: Tensor, sizes: list[int]) -> Tensor:
        sent = flat.half() if self._half else flat
        torch.distributed.all_reduce(sent, group=self._group)
        return sent.float()

    def _make_group(self, ranks: list[int]) -> Any:
        return torch.distributed.new_group(ranks)

    def close(self) -> None:
        torch.distributed.destroy_process_group()


def _address() -> str:
    """This host as others reach it: its name, unless that leads to the loopback, as on Debian; then where its packets come from."""
    try:
        found = socket.gethostbyname(socket.gethostname())
        if not found.startswith("127."):
            return found
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: connecting a datagram socket only chooses the route.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def on_gpus(comm: Comm) -> bool:
    """Whether all ranks have a GPU of their own. Collective. Raises UsageError where only some have, or several share one."""
    found = comm.allgather(device.identity())
    together(comm, lambda: _check_gpus(found))
    return bool(found[0])


def _check_gpus(found: list[str]) -> None:
    seen = {each for each in found if each}
    if seen and len(seen) < len(found):
        raise UsageError(
            f"{len(found)} ranks see {len(seen)} GPUs: training wants one for each, or none for any (CUDA_VISIBLE_DEVICES= for the CPU)"
        )


def choose(comm: Comm, settings: Settings) -> Averaging:
    """The averaging that settings name; "auto" takes Horovod where it is installed. Collective. Raises UsageError."""
    together(comm, lambda: _check(settings, comm.size))
    if comm.size == 1:
        return Alone()
    on_gpus(comm)
    return Horovod(comm, settings) if settings.averaging != "torch" and horovod is not None else Torch(comm, settings)


@contextmanager
def leaving(averaging: Averaging) -> Iterator[None]:
    """Leave the group of ranks at the end, also after an error that all ranks share; after one of this rank alone the job ends at once."""
    try:
        yield
    except HpcsegError as error:
        if getattr(error, "shared", False):
            averaging.close()
        raise
    averaging.close()


def _check(settings: Settings, size: int) -> None:
    if settings.averaging == "horovod" and horovod is None:
        raise UsageError("averaging is horovod, which is not installed: bash run/setup.sh builds it, or say --averaging torch")
    if settings.adasum and (settings.averaging == "torch" or horovod is None):
        raise UsageError("adasum is offered by Horovod alone: say --averaging horovod")
    if settings.adasum and size & (size - 1):
        raise UsageError(f"adasum works on 2, 4, 8, ... ranks, not on {size}")
