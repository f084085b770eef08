"""The feed: threads read windows and labels, prepare them by a kernel, and hand over whole batches in the order asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hpcseg.config import Normalisation
from hpcseg.errors import ReadError
from hpcseg.kernels.augment import place
from hpcseg.raster import CellCache, Reader, Scene, Values, open_reader
from hpcseg.tiles import Window
from hpcseg.training.samples import Samples
from hpcseg.training.settings import Settings
from hpcseg.training.truth import PointTruth
from hpcseg.truth import Truth

_POLL_SECONDS = 0.2
_JOIN_SECONDS = 5.0
_AHEAD = 3


@dataclass(frozen=True)
class Shelf:
    """Where samples come from; lists by scene number. values: how pixels become input. norm: what model.toml says of that. refused:
    number of scenes that could not be opened. prefilter: what the scenes pass first, "" = nothing."""

    samples: Samples
    scenes: Sequence[Scene]
    values: Sequence[Values]
    truths: Sequence[Truth] | Sequence[PointTruth]
    cache: CellCache
    norm: Normalisation = field(default_factory=Normalisation)
    refused: int = 0
    prefilter: Literal["", "ice", "ice-published"] = ""
    _readers: dict[int, Reader] = field(default_factory=dict)

    def reader(self, scene: int) -> Reader:
        """The reader of a scene, for all threads."""
        found = self._readers.get(scene)
        if found is None:
            found = self._readers[scene] = open_reader(self.scenes[scene], self.values[scene], self.cache)
        return found


@dataclass
class Batch:
    """Samples of one step of this rank. x: float32 (n, bands, edge, edge), channels-last. y: u8 (n, edge, edge), 255 = not labelled;
    of points (n, classes, edge, edge), heat."""

    x: Tensor
    y: Tensor
    left: int
    labelled: int = 0


class Task(NamedTuple):
    """One sample to be read into a slot of a batch."""

    slot: int
    epoch: int
    sample: int
    batch: Batch


class Feed:
    """Batches of this rank, in order, prepared ahead by threads. seconds: that the network waited for data."""

    def __init__(self, shelf: Shelf, settings: Settings, steps: Iterator[tuple[int, np.ndarray]]) -> None:
        """steps: (epoch, sample numbers) of each batch; a batch may be empty. Asked for only a few steps ahead."""
        self.seconds = 0.0
        self._shelf, self._settings, self._steps = shelf, settings, steps
        self._tasks: deque[Task] = deque()
        self._batches: dict[int, Batch] = {}
        self._changed = threading.Condition()
        self._at, self._made, self._complete = 0, 0, False
        self._error: BaseException | None = None
        self._over = False
        self._threads = [threading.Thread(target=self._guard, name=f"feed {k}", daemon=True) for k in range(settings.readers)]

    def __iter__(self) -> Generator[Batch]:
        for thread in self._threads:
            thread.start()
        try:
            while (batch := self._take()) is not None:
                yield batch
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            for thread in self._threads:
                thread.join(timeout=_JOIN_SECONDS)

    def _take(self) -> Batch | None:
        """The next batch, once all its samples are there; None after the last."""
        begin = time.perf_counter()
        with self._changed:
            self._wait(lambda: self._batches[self._at].left == 0 if self._at in self._batches else self._complete)
            batch = self._batches.pop(self._at, None)
            self._at += batch is not None
            self._changed.notify_all()
        self.seconds += time.perf_counter() - begin
        return batch

    def _make_batch(self) -> None:
        """Ask for the next batch and line up its samples; run with the lock held."""
        epoch, numbers = next(self._steps, (0, None))
        self._changed.notify_all()
        if numbers is None:
            self._complete = True
            return
        edge, bands, n = self._settings.tile, len(self._shelf.scenes[0].bands), len(numbers)
        x = torch.empty((n, edge, edge, bands), dtype=torch.float32)
        y = torch.empty((n, *self._settings.label_shape), dtype=torch.uint8)
        batch = self._batches[self._made] = Batch(x.permute(0, 3, 1, 2), y, n)
        self._tasks.extend(Task(slot, epoch, int(sample), batch) for slot, sample in enumerate(numbers))
        self._made += 1

    def _wait(self, ready: Callable[[], bool]) -> None:
        while not ready():
            if self._error is not None:
                raise self._error
            self._changed.wait(timeout=_POLL_SECONDS)

    def _guard(self) -> None:
        """Prepare samples until there are no more; what is raised is raised again where batches are taken."""
        edge, bands = self._settings.tile, len(self._shelf.scenes[0].bands)
        room = np.empty((edge, edge * bands), np.float32), np.empty((edge, edge), np.uint8), np.empty(self._settings.label_shape, np.uint8)
        try:
            while (task := self._next()) is not None:
                labelled = read_sample(self._shelf, self._settings, task, room)
                with self._changed:
                    task.batch.left -= 1
                    task.batch.labelled += labelled
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _next(self) -> Task | None:
        """The next sample to be read, once its batch is due; None when there are no more."""
        with self._changed:
            while not self._over and not self._tasks and not self._complete:
                if self._made < self._at + _AHEAD:
                    self._make_batch()
                else:
                    self._changed.wait(timeout=_POLL_SECONDS)
            return None if self._over or not self._tasks else self._tasks.popleft()


def read_sample(shelf: Shelf, settings: Settings, task: Task, room: tuple[np.ndarray, np.ndarray, np.ndarray]) -> int:
    """Read a sample into its slot of a batch; returns its labelled pixels. How it is changed hangs on seed, epoch and sample alone.

    room: values, validity and labels of one window, to be used again. Raises ReadError.
    """
    values, valid, truth = room
    rng = np.random.default_rng([settings.seed, task.epoch, task.sample, 1])
    scene = int(shelf.samples.scene[task.sample])
    window = moved(shelf.samples, task.sample, settings, rng)
    try:
        shelf.reader(scene).read(window, window.height, values, valid)
        shelf.truths[scene].read(window, truth)
    except ReadError as error:
        raise ReadError(f"{error}; training stops: leave this scene out, or repair it") from error
    turn, flip, gain = changes(settings, len(shelf.scenes[scene].bands), rng)
    x = task.batch.x[task.slot].permute(1, 2, 0).numpy()
    planes = (-1, *valid.shape)
    y = task.batch.y[task.slot].numpy().reshape(planes)
    return int(place(values, valid, truth.reshape(planes), turn, flip, gain, x, y))


def moved(samples: Samples, sample: int, settings: Settings, rng: np.random.Generator) -> Window:
    """A sample's window, moved by up to half its edge if settings say so, but never out of its block."""
    window = samples.grids[samples.scene[sample]].full_core(int(samples.tile[sample]))
    if not settings.shift:
        return window
    limits, half = samples.limits(sample), window.height // 2
    row, col = (
        int(np.clip(at + rng.integers(-half, half + 1), first, max(first, stop - window.height)))
        for at, first, stop in zip(window[:2], limits[:2], limits.stop, strict=True)
    )
    return window._replace(row=row, col=col)


def changes(settings: Settings, bands: int, rng: np.random.Generator) -> tuple[int, bool, np.ndarray]:
    """Quarter turns, flip, and factor and offset of each band, float32 (2, bands), as drawn by `rng`."""
    turn = int(rng.integers(4)) if settings.rotations else 0
    flip = bool(rng.integers(2)) if settings.flips else False
    low = settings.brightness
    gain = np.stack([np.full(bands, rng.uniform(1 - low, 1 + low)), np.full(bands, rng.uniform(-low, low))])
    return turn, flip, gain.astype(np.float32)
