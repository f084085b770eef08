"""Judging: a network's labels against the truth on samples, each with the context that it will have in a map; exact in integers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from hpcseg import metrics
from hpcseg.errors import ReadError
from hpcseg.inference.engine import scores_of
from hpcseg.kernels.confusion import count_pairs
from hpcseg.kernels.labels import label
from hpcseg.models.network import SegmentationNetwork
from hpcseg.mpi import Comm, Pulse
from hpcseg.stream import Buffer, Item, Source, Stream
from hpcseg.tiles import Grid
from hpcseg.training.feed import Shelf
from hpcseg.training.samples import share_of
from hpcseg.training.settings import Settings

_NONE = np.empty((0, 0), np.uint8)


@dataclass
class SampleEngine(ABC):
    """Scores windows in one thread; what becomes of the scores is up to `judge`."""

    forward: Callable[[torch.Tensor], torch.Tensor]
    shelf: Shelf
    grids: list[Grid]
    threads, depth = 1, 1

    @abstractmethod
    def judge(self, item: Item, scores: np.ndarray) -> None:
        """Take in the scores of a window, (height, width, classes)."""

    def make_buffer(self) -> Buffer:
        edge, bands = self.grids[0].core + 2 * self.grids[0].halo, len(self.shelf.scenes[0].bands)
        return Buffer(np.zeros((edge, edge * bands), np.float32), np.zeros((edge, edge), np.uint8), [])

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        with torch.inference_mode():
            for item in items:
                window = self.grids[item.scene].window(item.tile)
                values = torch.from_numpy(item.buffer.values).view(1, window.height, window.width, -1).permute(0, 3, 1, 2)
                self.judge(item, scores_of(self.forward(values)[0].float().cpu()))
                done(item)


def judge_samples(
    comm: Comm, pulse: Pulse, network: SegmentationNetwork, engine: SampleEngine, settings: Settings, part: str
) -> None:  # fmt: skip
    """Put this rank's share of a part's samples through an engine. A stop ends it early. Raises ReadError for a window that cannot be read.

    network: what the engine runs.
    """
    shelf = engine.shelf
    tasks = [(int(shelf.samples.scene[k]), int(shelf.samples.tile[k])) for k in share_of(shelf.samples.of(part), comm.rank, comm.size)]
    was = network.training
    network.eval()
    stream = Stream(Source(shelf.scenes, engine.grids, shelf.values, shelf.cache), tasks, engine, settings.readers, pulse.stop)
    for item in stream:
        pulse.step()
        if item.state == "failed":
            raise ReadError(item.reason)
    network.train(was)


@dataclass
class JudgeEngine(SampleEngine):
    """Counts pairs of truth and label, int64 (classes, classes)."""

    table: np.ndarray

    def judge(self, item: Item, scores: np.ndarray) -> None:
        grid = self.grids[item.scene]
        core = grid.core_window(item.tile)
        labels, truth = (np.empty((core.height, core.width), np.uint8) for _ in range(2))
        label(scores, item.buffer.valid, core.relative_to(grid.window(item.tile)), (0,) * scores.shape[2], 0.0, labels)
        self.shelf.truths[item.scene].read(core, truth)
        count_pairs(truth, labels, _NONE, self.table, np.zeros(len(self.table), np.int64))


def judge(
    comm: Comm, pulse: Pulse, network: SegmentationNetwork, forward: Callable, shelf: Shelf, settings: Settings, part: str
) -> np.ndarray:  # fmt: skip
    """The confusion matrix of a part's samples over all ranks, int64 (classes, classes), [truth, label]. Collective.

    forward: the network as training runs it, on the CPU's or the GPU's tensors. A stop ends it early: then the matrix is of a part. Raises
    ReadError for a window that cannot be read.
    """
    grids = [Grid(grid.height, grid.width, grid.core, network.aligned_halo) for grid in shelf.samples.grids]
    table = np.zeros((len(settings.classes),) * 2, np.int64)
    judge_samples(comm, pulse, network, JudgeEngine(forward, shelf, grids, table), settings, part)
    return np.sum(comm.allgather(table), axis=0)


@dataclass(frozen=True)
class ClassVerdict:
    """A confusion matrix, and the measure of it that chooses a checkpoint."""

    table: np.ndarray
    measure: str

    def __bool__(self) -> bool:
        return bool(self.table.any())

    @property
    def score(self) -> float:
        """The figure that chooses."""
        return score_of(self.table, self.measure)

    def record(self) -> dict[str, float]:
        """All figures by name."""
        return {measure: score_of(self.table, measure) for measure in metrics.MEASURES}


def score_of(table: np.ndarray, measure: str) -> float:
    """One figure of a confusion matrix: of class 1 where there are two classes, else the mean over the classes; 0 if it has none."""
    figures = metrics.figures(table)
    column = 1 if len(table) == 2 and measure != "accuracy" else -1
    value = float(figures[metrics.MEASURES.index(measure), column])
    return value if np.isfinite(value) else 0.0
