"""The loop: steps over batches whose loss and gradient are sums over all ranks, learning rate, epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from hpcseg.errors import HpcsegError
from hpcseg.mpi import Comm
from hpcseg.training.averaging import Averaging
from hpcseg.training.checkpoint import running_statistics
from hpcseg.training.feed import Batch
from hpcseg.training.losses import make_loss
from hpcseg.training.settings import Settings


class DivergedError(HpcsegError):
    """The loss or a gradient is not finite, on all ranks alike."""

    shared = True


@dataclass
class Seconds:
    """Of the steps so far: computing, adding up over ranks, waiting for data."""

    compute: float = 0.0
    averaging: float = 0.0
    data: float = 0.0


@dataclass
class Trainer:
    """All that a step needs. weights: of the classes, on the CPU. parameters: the trainable ones."""

    comm: Comm
    settings: Settings
    network: nn.Module
    optimizer: torch.optim.Optimizer
    averaging: Averaging
    weights: Tensor
    device: torch.device
    seconds: Seconds = field(default_factory=Seconds)

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self._sizes = [p.numel() for p in self.parameters]
        self._loss = make_loss(self.settings, self.weights.to(self.device))

    def _add_up(self, values: Tensor) -> Tensor:
        """A small float64 tensor, summed over ranks in the order of ranks."""
        if self.comm.size == 1:
            return values
        begin = time.perf_counter()
        total = torch.stack(self.comm.allgather(values.cpu())).sum(0).to(values.device)
        self.seconds.averaging += time.perf_counter() - begin
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch in the settings' precision."""
        return forward(self.network, self.settings, self.device, x)

    def step(self, batch: Batch, number: int, rate: float) -> float:
        """One step of the optimiser on all ranks' batches; returns the global loss, NaN where the step was skipped. Collective.

        Raises DivergedError on all ranks alike where loss or gradient is not finite and settings say stop; else such a step is
        skipped: it leaves no trace in the network or the optimiser.
        """
        begin, averaged = time.perf_counter(), self.seconds.averaging
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        kept = [buffer.clone() for buffer in running_statistics(self.network)]
        total = float(self._add_up(torch.tensor([self._loss.total(batch.y)], dtype=torch.float64))[0])
        value = self._add_gradients(batch.x, batch.y.to(self.device), number, total)
        loss, flat = self._reduce(value)
        norm = float(flat.norm())
        if math.isfinite(loss) and math.isfinite(norm):
            self._descend(flat, norm, rate)
        else:
            self._refuse(number, loss, norm, kept)
            loss = math.nan
        self.seconds.compute += time.perf_counter() - begin - (self.seconds.averaging - averaged)
        return loss

    def _add_gradients(self, x: Tensor, y: Tensor, number: int, total_weight: float) -> Tensor:
        """Gradients of this rank's share of a batch; returns its share of the loss, float64 (1,)."""
        parts = self._parts(len(y))
        # Dice hangs on sums over the whole batch: parts that do not fit into memory together pass once more, ahead.
        ahead = self._loss.has_dice and len(parts) > 1
        overlaps = self._overlaps_ahead(x, y, number) if ahead else self._loss.no_overlaps()
        value = torch.zeros(1, dtype=torch.float64)
        for k, part in enumerate(parts):
            logits = self._logits(x[part], number, k) if part.start < part.stop else None
            if self._loss.has_dice and not ahead:
                overlaps = self._add_up(self._loss.no_overlaps() if logits is None else self._loss.overlaps(logits.detach(), y[part]))
            if logits is not None:
                loss = self._loss(logits, y[part], total_weight, overlaps)
                loss.backward()
                value += loss.detach().double().cpu()
        if self._loss.has_dice and self.comm.rank == 0:
            value += self._loss.dice(overlaps).cpu()
        return value

    def _logits(self, x: Tensor, number: int, part: int) -> Tensor:
        # What is random in the network hangs on step, rank and part alone: a resumed run draws the same.
        torch.manual_seed(hash((self.settings.seed, number, self.comm.rank, part)) % 2**63)
        return self.forward(x)

    @torch.no_grad()
    def _overlaps_ahead(self, x: Tensor, y: Tensor, number: int) -> Tensor:
        """What Dice needs of the whole batch, over all ranks; batch norm is left as it was."""
        kept = [buffer.clone() for buffer in running_statistics(self.network)]
        sums = self._loss.no_overlaps()
        for k, part in enumerate(self._parts(len(y))):
            if part.start < part.stop:
                sums += self._loss.overlaps(self._logits(x[part], number, k), y[part])
        self._restore(kept)
        return self._add_up(sums)

    def _restore(self, kept: list[Tensor]) -> None:
        for buffer, value in zip(running_statistics(self.network), kept, strict=True):
            buffer.copy_(value)

    def _parts(self, n: int) -> list[slice]:
        """The parts of this rank's share that pass one after the other; all ranks have as many, some perhaps empty."""
        edges = np.linspace(0, n, self.settings.accumulate + 1).astype(int)
        return [slice(a, b) for a, b in pairwise(edges.tolist())]

    def _reduce(self, value: Tensor) -> tuple[float, Tensor]:
        """Loss and gradients, summed over all ranks."""
        begin = time.perf_counter()
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).contiguous().flatten() for p in self.parameters])
        flat = self.averaging.add_up(flat, self._sizes)
        self.seconds.averaging += time.perf_counter() - begin
        return float(self._add_up(value)[0]), flat

    def _refuse(self, number: int, loss: float, norm: float, kept: list[Tensor]) -> None:
        """Answer to a step that is not finite, the same on all ranks: all of them have the same sums."""
        if self.settings.on_nan == "stop":
            raise DivergedError(
                f"step {number}: loss {loss}, gradient norm {norm}: lower --rate, add clip = 1.0, or say on_nan = \"skip\""
            )
        self._restore(kept)

    def _descend(self, flat: Tensor, norm: float, rate: float) -> None:
        if self.settings.clip and norm > self.settings.clip:
            flat = flat * (self.settings.clip / norm)
        for parameter, gradient in zip(self.parameters, flat.split(self._sizes), strict=True):
            parameter.grad = gradient.view(parameter.shape)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()


def forward(network: nn.Module, settings: Settings, where: torch.device, x: Tensor) -> Tensor:
    """Logits of a batch in the settings' precision, on the device that the network is on."""
    x = x.to(where, non_blocking=True)
    with torch.autocast(where.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        return network(x)


def make_optimizer(settings: Settings, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that settings name, over the trainable parameters."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, settings.rate, settings.momentum, weight_decay=settings.decay)
    make: Callable = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return make(parameters, settings.rate, weight_decay=settings.decay)


def rate_at(settings: Settings, done: float, share: float, size: int) -> float:
    """Learning rate of a step: a linear rise over the warm-up (Goyal et al., 2017), then constant or half a cosine down to 0.

    done: epochs before the step, with their fraction. share: of an epoch, in the step. size: number of ranks. By samples, not steps: a
    run goes on where it was on any number of ranks.
    """
    peak = settings.rate * (size if settings.scale_rate else 1)
    if done < settings.warmup - 1e-9:
        start = settings.rate if settings.scale_rate else 0.0
        return start + (peak - start) * min(1.0, (done + share) / settings.warmup)
    if settings.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - settings.warmup) / max(settings.epochs - settings.warmup, 1e-9))))
