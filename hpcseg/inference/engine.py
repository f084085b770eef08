"""Engines that label windows, or score objects in them: on a CPU, a thread a tile, or on a GPU, in batches beside whose work are copies."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hpcseg import device
from hpcseg.kernels.heat import FULL, heat
from hpcseg.kernels.labels import NODATA, confidence, label
from hpcseg.models import Model
from hpcseg.models.optimise import DTYPES, Precision, for_inference
from hpcseg.stream import Buffer, Item
from hpcseg.tiles import Grid, Window


@dataclass(frozen=True)
class Recipe:
    """How a model is run: what all engines need. planes: "labels", and "confidence" if asked for; of a detector those of
    heat. of_class: whose probability the confidence is, -1 = the label's own. batch: windows a forward pass on a GPU."""

    model: Model
    core: int
    precision: Precision
    planes: tuple[str, ...] = ("labels",)
    of_class: int = -1
    batch: int = 8
    compile: bool = False

    @property
    def edge(self) -> int:
        """Edge of a window: core and two halos."""
        return self.core + 2 * self.model.halo

    @property
    def cut(self) -> float:
        """The logit at which the probability of class 1 reaches the threshold."""
        t = self.model.spec.threshold
        return math.log(t / (1 - t))


def make_engine(recipe: Recipe, grids: list[Grid], where: torch.device, threads: int) -> CpuEngine | GpuEngine:
    """The engine for a device. grids: by scene number."""
    return CpuEngine(recipe, grids, threads) if where.type == "cpu" else GpuEngine(recipe, grids, where)


def window_tensor(edge: int, bands: int, precision: Precision, pinned: bool = False) -> tuple[Tensor, np.ndarray]:
    """A channels-last input (1, bands, edge, edge) and the array (edge, edge * bands) that shares its memory, uint16 for bfloat16."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    memory = torch.zeros((1, edge, edge, bands), dtype=dtype, pin_memory=pinned)
    array = memory.view(torch.int16).numpy().view(np.uint16) if precision == "bf16" else memory.numpy()
    return memory.permute(0, 3, 1, 2), array.reshape(edge, edge * bands)


def scores_of(logits: Tensor) -> np.ndarray:
    """Logits (c, H, W) as the kernels take them, (H, W, c): float32, or the bits of bfloat16 as uint16. Channels-last needs no copy."""
    pixels = logits.permute(1, 2, 0).contiguous()
    if pixels.dtype == torch.bfloat16:
        return pixels.view(torch.int16).numpy().view(np.uint16)
    return pixels.float().numpy()


def write_planes(recipe: Recipe, scores: np.ndarray, valid: np.ndarray, core: Window, planes: Sequence[np.ndarray]) -> None:
    """Labels, and confidences if asked for, or heat, of a core. scores: as `scores_of` gives them. valid: u8 (H, W). core: within both.
    planes: u8, of the core's size."""
    if recipe.model.spec.task == "points":
        for kind, plane in enumerate(planes):
            heat(scores[core.slices], valid[core.slices], kind, plane)
        return
    labels, *further = planes
    label(scores, valid, core, (0,) * scores.shape[2], recipe.cut, labels)
    for plane in further:
        confidence(scores[core.slices], labels, recipe.of_class, plane)


class CpuEngine:
    """T threads map T tiles at once, each with one thread of torch's: no bit depends on T."""

    def __init__(self, recipe: Recipe, grids: list[Grid], threads: int) -> None:
        self.threads, self.depth, self.recipe, self._grids = threads, 1, recipe, grids
        self.network = for_inference(recipe.model, torch.device("cpu"), recipe.precision, recipe.compile)

    def make_buffer(self) -> Buffer:
        recipe = self.recipe
        tensor, values = window_tensor(recipe.edge, recipe.model.spec.bands, recipe.precision)
        planes = [np.empty((recipe.core, recipe.core), np.uint8) for _ in recipe.planes]
        return Buffer(values, np.zeros((recipe.edge, recipe.edge), np.uint8), planes, tensor)

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        device.settle_threads()
        with torch.inference_mode():
            for item in items:
                self._label(item, self.logits(item.buffer.extra))
                done(item)

    def logits(self, window: Tensor) -> Tensor:
        """The forward pass of one window. A network fixed to a batch gets it filled up with the same window."""
        batch = self.recipe.model.batch
        return self.network(window.expand(batch, -1, -1, -1) if batch > 1 else window)[:1]

    def _label(self, item: Item, logits: Tensor) -> None:
        grid = self._grids[item.scene]
        core = grid.core_window(item.tile).relative_to(grid.window(item.tile))
        planes = [plane[: core.height, : core.width] for plane in item.buffer.planes]
        write_planes(self.recipe, scores_of(logits[0]), item.buffer.valid, core, planes)


def planes_on_device(recipe: Recipe, logits: Tensor) -> list[Tensor]:
    """Labels, and confidences if asked for, or heat, u8 (n, h, w) each, of logits (n, c, h, w), by the same rules as the CPU's kernels
    but for pixels without data, which have a class or heat too."""
    scores = logits.float()
    if recipe.model.spec.task == "points":
        return list((FULL * torch.sigmoid(scores) + 0.5).to(torch.uint8).unbind(1))
    if scores.shape[1] == 1:
        labels = (scores[:, 0] >= recipe.cut).long()
        chances = torch.cat([torch.sigmoid(-scores), torch.sigmoid(scores)], 1)
    else:
        labels, chances = scores.argmax(1), scores
    planes = [labels.to(torch.uint8)]
    if len(recipe.planes) > 1:
        chances = chances if scores.shape[1] == 1 else torch.softmax(chances, 1)
        own = labels if recipe.of_class < 0 else torch.full_like(labels, recipe.of_class)
        planes.append((254 * chances.gather(1, own[:, None])[:, 0] + 0.5).to(torch.uint8))
    return planes


class GpuEngine:
    """One thread keeps a GPU busy: while a batch is computed, the next is copied in and the last copied out."""

    threads = 1

    def __init__(self, recipe: Recipe, grids: list[Grid], where: torch.device) -> None:
        self.recipe, self._grids, self._device = recipe, grids, where
        self.batch = recipe.model.batch or recipe.batch
        self.depth = 3 * self.batch
        self.network = for_inference(recipe.model, where, recipe.precision, recipe.compile)
        shape = (self.batch, recipe.model.spec.bands, recipe.edge, recipe.edge)
        self._inputs = [
            torch.empty(shape, dtype=DTYPES[recipe.precision], device=where, memory_format=torch.channels_last).zero_()
            for _ in range(2)
        ]
        self._used = [torch.cuda.Event() for _ in self._inputs]
        self._copy = torch.cuda.Stream(where)
        self._round = 0

    def make_buffer(self) -> Buffer:
        recipe = self.recipe
        tensor, values = window_tensor(recipe.edge, recipe.model.spec.bands, recipe.precision, pinned=True)
        planes = [torch.empty((recipe.core, recipe.core), dtype=torch.uint8, pin_memory=True) for _ in recipe.planes]
        arrays = [plane.numpy() for plane in planes]
        return Buffer(values, np.zeros((recipe.edge, recipe.edge), np.uint8), arrays, (tensor, planes))

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        device.settle_threads()
        flying: deque[tuple[list[Item], torch.cuda.Event]] = deque()
        with torch.inference_mode(), torch.cuda.device(self._device):
            while group := list(islice(items, self.batch)):
                flying.append((group, self._launch(group)))
                if len(flying) > 1:
                    self._land(*flying.popleft(), done)
            while flying:
                self._land(*flying.popleft(), done)

    def _launch(self, group: list[Item]) -> torch.cuda.Event:
        """Queue copy in, forward, argmax and copy out of a batch. A short group leaves the rest of the batch as it was."""
        inputs, used = self._inputs[self._round % 2], self._used[self._round % 2]
        self._round += 1
        compute = torch.cuda.current_stream()
        with torch.cuda.stream(self._copy):
            self._copy.wait_event(used)
            for k, item in enumerate(group):
                inputs[k].copy_(item.buffer.extra[0][0], non_blocking=True)
        compute.wait_stream(self._copy)
        logits = self.network(inputs)
        used.record(compute)
        h, core = self.recipe.model.halo, self.recipe.core
        planes = planes_on_device(self.recipe, logits[:, :, h : h + core, h : h + core])
        for k, item in enumerate(group):
            for plane, host in zip(planes, item.buffer.extra[1], strict=True):
                host.copy_(plane[k], non_blocking=True)
        landed = torch.cuda.Event()
        landed.record(compute)
        return landed

    def _land(self, group: list[Item], landed: torch.cuda.Event, done: Callable[[Item], None]) -> None:
        landed.synchronize()
        for item in group:
            core, h = self._grids[item.scene].core_window(item.tile), self.recipe.model.halo
            invalid = item.buffer.valid[h : h + core.height, h : h + core.width] == 0
            for plane in item.buffer.planes:
                plane[: core.height, : core.width][invalid] = NODATA
            done(item)
