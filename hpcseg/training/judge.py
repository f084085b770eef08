"""Judging: a network's labels against the truth on samples, each with the context that it will have in a map; exact in integers."""

from __future__ import annotations

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
class JudgeEngine:
    """Labels windows in one thread and counts pairs of truth and label, int64 (classes, classes)."""

    forward: Callable[[torch.Tensor], torch.Tensor]
    shelf: Shelf
    grids: list[Grid]
    table: np.ndarray
    threads: int = 1
    depth: int = 1

    def make_buffer(self) -> Buffer:
        edge, bands = self.grids[0].core + 2 * self.grids[0].halo, len(self.shelf.scenes[0].bands)
        return Buffer(np.zeros((edge, edge * bands), np.float32), np.zeros((edge, edge), np.uint8), [])

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        classes = len(self.table)
        with torch.inference_mode():
            for item in items:
                grid = self.grids[item.scene]
                window, core = grid.window(item.tile), grid.core_window(item.tile)
                values = torch.from_numpy(item.buffer.values).view(1, window.height, window.width, -1).permute(0, 3, 1, 2)
                scores = scores_of(self.forward(values)[0].float().cpu())
                labels, truth = (np.empty((core.height, core.width), np.uint8) for _ in range(2))
                place = core.relative_to(window)
                label(scores, item.buffer.valid, place, (0,) * scores.shape[2], 0.0, labels)
                self.shelf.truths[item.scene].read(core, truth)
                count_pairs(truth, labels, _NONE, self.table, np.zeros(classes, np.int64))
                done(item)


def judge(
    comm: Comm, pulse: Pulse, network: SegmentationNetwork, forward: Callable, shelf: Shelf, settings: Settings, part: str
) -> np.ndarray:  # fmt: skip
    """The confusion matrix of a part's samples over all ranks, int64 (classes, classes), [truth, label]. Collective.

    forward: the network as training runs it, on the CPU's or the GPU's tensors. A stop ends it early: then the matrix is of a part. Raises
    ReadError for a window that cannot be read.
    """
    mine = share_of(shelf.samples.of(part), comm.rank, comm.size)
    grids = [Grid(grid.height, grid.width, grid.core, network.aligned_halo) for grid in shelf.samples.grids]
    tasks = [(int(shelf.samples.scene[k]), int(shelf.samples.tile[k])) for k in mine]
    table = np.zeros((len(settings.classes),) * 2, np.int64)
    engine = JudgeEngine(forward, shelf, grids, table)
    was = network.training
    network.eval()
    stream = Stream(Source(shelf.scenes, grids, shelf.values, shelf.cache), tasks, engine, settings.readers, pulse.stop)
    for item in stream:
        pulse.step()
        if item.state == "failed":
            raise ReadError(item.reason)
    network.train(was)
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
