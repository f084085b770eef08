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
from hpcseg.models.pretrained import set_training
from hpcseg.mpi import Comm
from hpcseg.training.averaging import Averaging
from hpcseg.training.feed import Batch
from hpcseg.training.losses import Loss, labelled_weight
from hpcseg.training.settings import Settings

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class DivergedError(HpcsegError):
    """The loss or a gradient is not finite."""


@dataclass
class Seconds:
    """Of the steps so far: computing, adding up over ranks, waiting for data."""

    compute: float = 0.0
    averaging: float = 0.0
    data: float = 0.0


@dataclass
class Trainer:
    """All that a step needs. parameters: trainable ones. rounds: steps so far."""

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
        self._loss = Loss(self.settings, self.weights.to(self.device), self._add_up, self.comm.size)

    def _add_up(self, values: Tensor) -> Tensor:
        """A small float64 tensor, summed over ranks in the order of ranks."""
        if self.comm.size == 1:
            return values
        return torch.stack(self.comm.allgather(values.cpu())).sum(0).to(values.device)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch in the settings' precision."""
        x = x.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, _DTYPES[self.settings.precision], enabled=self.settings.precision != "fp32"):
            return self.network(x)

    def step(self, batch: Batch, number: int, rate: float) -> float:
        """One step of the optimiser on all ranks' batches; returns the global loss. Collective.

        Raises DivergedError on all ranks alike where loss or gradient is not finite and settings say stop.
        """
        begin = time.perf_counter()
        set_training(self.network)
        # What is random in the network hangs on the step and the rank alone: a resumed run draws the same.
        torch.manual_seed(hash((self.settings.seed, number, self.comm.rank)) % 2**63)
        self.optimizer.zero_grad(set_to_none=True)
        y = batch.y.to(self.device)
        own = torch.tensor([labelled_weight(y, self.weights)], dtype=torch.float64)
        total = float(self._add_up(own)[0])
        value = torch.zeros(1, dtype=torch.float64)
        for part in self._parts(len(y)):
            if part.start == part.stop:
                value += self._loss.idle().cpu()
                continue
            loss = self._loss(self.forward(batch.x[part]), y[part], total)
            loss.backward()
            value += loss.detach().double().cpu()
        self.seconds.compute += time.perf_counter() - begin
        loss_value, flat = self._reduce(value)
        begin = time.perf_counter()
        self._descend(flat, loss_value, number, rate)
        self.seconds.compute += time.perf_counter() - begin
        return loss_value

    def _parts(self, n: int) -> list[slice]:
        """The parts of this rank's share that pass one after the other; all ranks have as many, some perhaps empty."""
        edges = np.linspace(0, n, self.settings.accumulate + 1).astype(int)
        return [slice(a, b) for a, b in pairwise(edges.tolist())]

    def _reduce(self, value: Tensor) -> tuple[float, Tensor]:
        """Loss and gradients, summed over all ranks."""
        begin = time.perf_counter()
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).contiguous().flatten() for p in self.parameters])
        flat = self.averaging.add_up(flat, self._sizes)
        loss = float(self._add_up(value)[0])
        self.seconds.averaging += time.perf_counter() - begin
        return loss, flat

    def _descend(self, flat: Tensor, loss: float, number: int, rate: float) -> None:
        norm = float(flat.norm())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            if self.settings.on_nan == "skip":
                return
            raise DivergedError(
                f"step {number}: loss {loss}, gradient norm {norm}: lower --rate, add clip = 1.0, or say on_nan = \"skip\""
            )
        if self.settings.clip and norm > self.settings.clip:
            flat = flat * (self.settings.clip / norm)
        for parameter, gradient in zip(self.parameters, flat.split(self._sizes), strict=True):
            parameter.grad = gradient.view(parameter.shape)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()


def make_optimizer(settings: Settings, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that settings name, over the trainable parameters."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, settings.rate, settings.momentum, weight_decay=settings.decay)
    make: Callable = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return make(parameters, settings.rate, weight_decay=settings.decay)


def rate_at(settings: Settings, step: int, steps_per_epoch: int, size: int) -> float:
    """Learning rate of a step: a linear rise over the warm-up (Goyal et al., 2017), then constant or half a cosine down to 0."""
    peak = settings.rate * (size if settings.scale_rate else 1)
    rise, total = settings.warmup * steps_per_epoch, settings.epochs * steps_per_epoch
    if step < rise:
        start = settings.rate if settings.scale_rate else 0.0
        return start + (peak - start) * (step + 1) / max(rise, 1.0)
    if settings.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(total - rise, 1.0))))
