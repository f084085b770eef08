"""An encoder that learns without labels to tell cells apart: two altered views of one cell are to look alike, those of others not.

Contrastive learning of SimCLR (Chen, Kornblith, Norouzi, Hinton, ICML 2020). What views of one cell share, its texture and not its
colours or its place, is what the features then say. In bfloat16 where the device computes in it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hpcseg import device
from hpcseg.config import Record
from hpcseg.errors import UsageError
from hpcseg.gallery.embed import encode, pool_features
from hpcseg.models import build
from hpcseg.models.network import SegmentationNetwork, start_for_relu
from hpcseg.mpi import Comm
from hpcseg.training.averaging import Averaging
from hpcseg.training.checkpoint import running_statistics

# Share of the training over which the rate rises.
_WARM = 0.05


class EncoderSettings(Record, frozen=True):
    """How an encoder is trained.

    network: a registered one. epochs: passes over the sample. batch: cells of a step, over all ranks. crop: edge of a view, share of the
    cell's. colours: largest change of a band's gain and offset, and of those of all bands. temperature: of the loss. projection: width in
    which views are compared.
    """

    network: str = "unet-light"
    epochs: int = 60
    batch: int = 128
    rate: float = 2e-3
    crop: float = 0.5
    colours: float = 0.3
    temperature: float = 0.2
    projection: int = 64
    seed: int = 0


def train_encoder(
    comm: Comm, averaging: Averaging, cells: np.ndarray, settings: EncoderSettings, alive: Callable[[], object] = lambda: None
) -> tuple[SegmentationNetwork, list[float]]:
    """A network whose encoder was trained, and its loss by epoch: the same on all ranks, and in each run on as many of them. Collective.

    cells: float32 (n, bands, edge, edge), normalised, those that this rank holds. alive: called at each step, on all ranks
    alike: it may be collective. Raises UsageError where
    all ranks hold less than 2 cells.
    """
    every = sum(comm.allgather(len(cells)))
    if every < 2:
        raise UsageError(f"{every} cells: an encoder learns from 2 or more; wanted more scenes, or smaller cells (--cell)")
    torch.manual_seed(settings.seed)
    network = build(settings.network, cells.shape[1], 2)
    start_for_relu(network)
    learner = _Learner(averaging, network, settings, cells)
    steps, losses = max(1, every // settings.batch), []
    for epoch in range(settings.epochs):
        rng = np.random.default_rng([settings.seed, epoch, comm.rank])
        total = 0.0
        for k, part in enumerate(np.array_split(rng.permutation(len(cells)), steps)):
            total += learner.step(part, rng, (epoch * steps + k) / (settings.epochs * steps))
            alive()
        losses.append(total / steps)
    network.cpu().eval()
    _average_statistics(comm, network, len(cells))
    network.load_state_dict(comm.bcast(network.state_dict()))
    return network, losses


class _Learner:
    """A network, the layers that its features pass to be compared, their optimiser, and this rank's cells."""

    def __init__(self, averaging: Averaging, network: SegmentationNetwork, settings: EncoderSettings, cells: np.ndarray) -> None:
        self.averaging, self.settings, self._cells = averaging, settings, cells
        self.where, self._half = device.choose(), device.has_bfloat16()
        self.network = network.to(self.where)
        edge = cells.shape[2]
        self._crop = max(network.stride, int(settings.crop * edge) // network.stride * network.stride)
        with torch.no_grad():
            width = self._features(torch.zeros(1, cells.shape[1], edge, edge, device=self.where)).shape[1]
        self.head = nn.Sequential(nn.Linear(width, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, settings.projection))
        self.head.to(self.where)
        network.train()
        self.parameters = [*network.get_submodule("encoder").parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, settings.rate, weight_decay=1e-4)
        self._sizes = [each.numel() for each in self.parameters] + [2]

    def _features(self, x: Tensor) -> Tensor:
        with torch.autocast(self.where.type, torch.bfloat16, enabled=self._half):
            deep = encode(self.network, x.contiguous(memory_format=torch.channels_last))
        return pool_features(deep.float())

    def step(self, part: np.ndarray, rng: np.random.Generator, done: float) -> float:
        """One step on the cells `part` of this rank, with those of the others; returns the loss of all. Collective.

        done: share of the training that is over.
        """
        self.optimizer.zero_grad(set_to_none=True)
        # A view is told from those of other cells: one cell alone teaches nothing.
        weight, loss = (float(len(part)), self._loss(part, rng)) if len(part) > 1 else (0.0, torch.zeros(()))
        if weight:
            (weight * loss).backward()
        gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).contiguous().flatten() for p in self.parameters]
        sums = torch.tensor([weight, weight * float(loss.detach())], device=self.where)
        flat = self.averaging.add_up(torch.cat([*gradients, sums]), self._sizes)
        *gradients, sums = (flat / flat[-2].clamp(min=1)).split(self._sizes)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.view(parameter.shape)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * min(1.0, done / _WARM) * (1 + np.cos(np.pi * done)) / 2
        self.optimizer.step()
        return float(sums[1])

    def _loss(self, part: np.ndarray, rng: np.random.Generator) -> Tensor:
        cells = torch.from_numpy(self._cells[part])
        views = torch.cat([make_views(cells, self._crop, self.settings.colours, rng) for _ in range(2)])
        return contrast(self.head(self._features(views.to(self.where))), self.settings.temperature)


def make_views(cells: Tensor, crop: int, colours: float, rng: np.random.Generator) -> Tensor:
    """A view of each cell (n, bands, edge, edge): a square of `crop` pixels somewhere in it, turned or mirrored, its bands made brighter or
    darker, with more or less contrast, each and together."""
    views = []
    for cell in cells:
        row, col = rng.integers(0, cell.shape[1] - crop + 1, 2)
        view = torch.rot90(cell[:, row : row + crop, col : col + crop], int(rng.integers(4)), (1, 2))
        views.append(view.flip(2) if rng.integers(2) else view)
    shape = (2, len(cells), cells.shape[1], 1, 1)
    gain, offset = torch.from_numpy(rng.uniform(-colours, colours, shape).astype(np.float32))
    all_gain, all_offset = torch.from_numpy(rng.uniform(-colours, colours, (2, len(cells), 1, 1, 1)).astype(np.float32))
    return (torch.stack(views) * (1 + gain) + offset / 2) * (1 + all_gain) + all_offset


def contrast(outputs: Tensor, temperature: float) -> Tensor:
    """The loss of views (2 n, k), of which i and n + i are of one cell: cross-entropy of finding the other by cosine among all
    (NT-Xent: Chen et al., 2020, eq. 1)."""
    n = len(outputs) // 2
    unit = nn.functional.normalize(outputs, dim=1)
    likeness = (unit @ unit.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool, device=outputs.device), float("-inf"))
    return nn.functional.cross_entropy(likeness, torch.arange(2 * n, device=outputs.device).roll(n))


def _average_statistics(comm: Comm, network: nn.Module, count: int) -> None:
    """Give every rank the mean of batch-norm statistics, by cells: a rank without any has none. Collective."""
    total = sum(comm.allgather(count))
    for buffer in running_statistics(network):
        buffer.copy_(torch.stack(comm.allgather(buffer.double() * (count / total))).sum(0))
