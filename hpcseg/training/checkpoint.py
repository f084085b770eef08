"""Checkpoints: all that a training run needs to go on as if it had never stopped, written atomically by rank 0."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hpcseg.errors import StoreError, UsageError
from hpcseg.mpi import Comm, on_root

NAME = "checkpoint.pt"


class Position(msgspec.Struct):
    """Where a run stands. epoch: the one it is in. at: samples of it that are done. skipped: those of them in steps that were left out.
    loss: summed over the others. step: number of the next one. best: highest validation score so far. history: a record per finished
    epoch."""

    epoch: int = 0
    at: int = 0
    skipped: int = 0
    loss: float = 0.0
    step: int = 0
    best: float = -1.0
    history: list[dict[str, Any]] = []


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The floating-point buffers of batch norms, which ranks hold apart between two averagings."""
    norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]


def average_statistics(comm: Comm, network: nn.Module) -> None:
    """Give every rank the mean of all ranks' batch-norm statistics. Collective."""
    if comm.size == 1:
        return
    for buffer in running_statistics(network):
        every = comm.allgather(buffer.cpu().double())
        buffer.copy_(torch.stack(every).mean(0))


def save(
    comm: Comm, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, position: Position, identity: dict[str, Any]
) -> None:
    """Write a checkpoint; the old one stands until the new one is whole. Collective. Raises StoreError."""
    statistics = comm.gather([buffer.cpu().clone() for buffer in running_statistics(network)])

    def write() -> None:
        state = {
            "identity": msgspec.json.encode(identity).decode(), "position": msgspec.to_builtins(position),
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "statistics": statistics,
        }  # fmt: skip
        publish(folder / NAME, lambda path: torch.save(state, path))

    on_root(comm, write)


def publish(path: Path, write: Any) -> None:
    """Make a file by `write(part)` under another name, bring it to the disk, and rename it. Raises StoreError."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written: {error}") from error


def resume(
    comm: Comm, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> Position | None:
    """Load the checkpoint of a folder into network and optimiser; None if there is none. Collective.

    On as many ranks as wrote it every rank gets its own batch-norm statistics back, else all get their mean.
    Raises UsageError for a checkpoint of another run, naming what differs.
    """
    path = folder / NAME
    state = on_root(comm, lambda: _read(path, identity) if path.exists() else None)
    if state is None:
        return None
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    every = state["statistics"]
    for k, buffer in enumerate(running_statistics(network)):
        same = len(every) == comm.size
        buffer.copy_(every[comm.rank][k] if same else torch.stack([each[k].double() for each in every]).mean(0))
    return msgspec.convert(state["position"], Position)


def _read(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found, wanted = msgspec.json.decode(state["identity"]), msgspec.json.decode(msgspec.json.encode(identity))
    except (OSError, RuntimeError, KeyError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UsageError(f"{path}: no checkpoint of hpcseg: {' '.join(str(error).split())[:200]}; remove it to start anew") from error
    refuse_other(path, found, wanted)
    return state


def refuse_other(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises UsageError, naming what differs, if a file that says `found` is of another run than `wanted`."""
    keys = dict.fromkeys([*wanted, *found])
    other = [f"{key} is {found.get(key)}, wanted {wanted.get(key)}" for key in keys if found.get(key) != wanted.get(key)]
    if other:
        raise UsageError(f"{path} is of another run: {'; '.join(other)[:600]}; choose another --out, or --overwrite starts anew")
