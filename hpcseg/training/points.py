"""Judging detectors: peaks of their heat against marked objects, the threshold and the calibration that follow from validation samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcseg.config import ModelSpec
from hpcseg.kernels.heat import FLOOR, FULL, heat
from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.matching import Figures, Objects, best_level, calibrate, curve, figures, levels_of
from hpcseg.models.network import SegmentationNetwork
from hpcseg.mpi import Comm, Pulse
from hpcseg.products.recall import draw_recall
from hpcseg.stream import Item
from hpcseg.tiles import Grid
from hpcseg.training.feed import Shelf
from hpcseg.training.judge import SampleEngine, judge_samples
from hpcseg.training.settings import Settings
from hpcseg.training.truth import PointTruth


@dataclass
class PointEngine(SampleEngine):
    """Keeps the objects in the windows and the peaks found in their cores, both as int64 (n, 5): scene, class, row, col, score.

    radius: pixels around a core whose heat decides what is a peak in it. steps: of kernels.peaks, by scene.
    """

    steps: list[np.ndarray]
    radius: int
    there: list[np.ndarray] = field(default_factory=list)
    found: list[np.ndarray] = field(default_factory=list)

    def judge(self, item: Item, scores: np.ndarray) -> None:
        grid = self.grids[item.scene]
        window, core = grid.window(item.tile), grid.core_window(item.tile)
        around = core.grow(self.radius).intersect(grid.extent)
        place = around.relative_to(window).slices
        valid, plane = item.buffer.valid[place], np.empty((around.height, around.width), np.uint8)
        for kind in range(scores.shape[2]):
            heat(scores[place], valid, kind, plane)
            row, col, score = find_peaks(plane, core.relative_to(around), self.steps[item.scene], FLOOR).T
            self.found.append(_columns(item.scene, kind, row + around.row, col + around.col, score))
        truth = self.shelf.truths[item.scene]
        assert isinstance(truth, PointTruth)
        here = truth.inside(core)
        here = here[item.buffer.valid[truth.rows[here] - window.row, truth.cols[here] - window.col] != 0]
        self.there.append(_columns(item.scene, truth.kinds[here], truth.rows[here], truth.cols[here], 0))


def _columns(*values: Any) -> np.ndarray:
    """Values side by side, int64 (n, values)."""
    return np.stack(np.broadcast_arrays(*values), -1).astype(np.int64).reshape(-1, len(values))


@dataclass(frozen=True)
class PointVerdict:
    """What was there and what was found, of any number of classes; false where nothing was there. distances: at which they match."""

    there: Objects
    found: Objects
    distances: tuple[float, ...]

    def __bool__(self) -> bool:
        return len(self.there) > 0

    @cached_property
    def level(self) -> int:
        """The score of the highest F1 at the first distance."""
        levels = levels_of(self.found)
        return best_level(levels, curve(self.there, self.found, self.distances[0], levels))

    @property
    def score(self) -> float:
        """That F1."""
        return self.at(self.level)[0].f1

    def at(self, level: int) -> list[Figures]:
        """Figures of what scores at least a level, for each distance."""
        kept = self.found.pick(self.found.score >= level)
        return [figures(self.there, kept, distance) for distance in self.distances]

    def table(self, level: int) -> np.ndarray:
        """What scores at least a level, at the first distance, as a confusion matrix [truth, label] of objects, int64 (2, 2): what is
        neither there nor found is not counted."""
        first = self.at(level)[0]
        return np.array([[0, first.found - first.matched], [first.there - first.matched, first.matched]])

    def record(self) -> dict[str, Any]:
        """Figures at the best level and the first distance, by name."""
        first = self.at(self.level)[0]
        return {"f1": first.f1, "precision": first.precision, "recall": first.recall, "level": self.level}


def pool(verdicts: Sequence[PointVerdict]) -> PointVerdict:
    """Several verdicts on different samples, at least one, as one; they share their distances."""
    there, found = (
        Objects(*(np.concatenate(columns) for columns in zip(*each, strict=True)))
        for each in ([verdict.there for verdict in verdicts], [verdict.found for verdict in verdicts])
    )
    return PointVerdict(there, found, verdicts[0].distances)


def judge_points(
    comm: Comm, pulse: Pulse, network: SegmentationNetwork, forward: Callable, shelf: Shelf, settings: Settings, part: str
) -> PointVerdict:  # fmt: skip
    """The objects of a part's samples, there and found, of all ranks. Collective.

    forward: the network as training runs it. A stop ends it early: then the verdict is of a part. Raises ReadError for a window that
    cannot be read.
    """
    lengths = [_length(truth) for truth in shelf.truths]
    steps = [neighbours(settings.distance or 2 * settings.sigma, (length, length)) for length in lengths]
    radius = max(int(np.abs(each).max(initial=0)) for each in steps)
    halo = -(-(network.halo + radius) // network.stride) * network.stride
    grids = [Grid(grid.height, grid.width, grid.core, halo) for grid in shelf.samples.grids]
    engine = PointEngine(forward, shelf, grids, steps, radius)
    judge_samples(comm, pulse, network, engine, settings, part)
    there, found = (_objects(comm, rows, np.array(lengths), len(settings.classes)) for rows in (engine.there, engine.found))
    return PointVerdict(there, found, settings.distances)


def _length(truth: Any) -> float:
    assert isinstance(truth, PointTruth)
    return truth.length


def _objects(comm: Comm, rows: list[np.ndarray], lengths: np.ndarray, classes: int) -> Objects:
    """The objects of all ranks, in the order of scenes, classes and pixels, in ground units."""
    every = np.concatenate([np.empty((0, 5), np.int64), *(each for part in comm.allgather(rows) for each in part)])
    scene, kind, row, col, score = every[np.lexsort(every.T[::-1])].T
    return Objects(scene * classes + kind, row * lengths[scene], col * lengths[scene], score.astype(np.uint8))


def settle_points(spec: ModelSpec, verdicts: Mapping[str, PointVerdict]) -> ModelSpec:
    """The model.toml of a detector, its threshold and calibration from the validation samples, if there are any."""
    verdict = verdicts["validation"]
    if not verdict:
        return spec
    table = calibrate(verdict.there, verdict.found, verdict.distances[0])
    return msgspec.structs.replace(spec, threshold=round(verdict.level / FULL, 6), calibration=table)


def point_figures(spec: ModelSpec, verdicts: Mapping[str, PointVerdict]) -> dict[str, list[dict[str, Any]]]:
    """By part, the figures at a model's threshold, a record for each distance; parts without objects left out."""
    level = round(spec.threshold * FULL)
    return {
        part: [{"within": distance} | each.record() for distance, each in zip(verdict.distances, verdict.at(level), strict=True)]
        for part, verdict in verdicts.items()
        if verdict
    }


def write_recall(folder: Path, spec: ModelSpec, verdicts: Mapping[str, PointVerdict], publish: Callable) -> None:
    """precision_recall.csv and .png: figures over thresholds, of each part and distance. publish: makes a file by a function."""
    lines = ["part,within,threshold,there,found,matched,precision,recall,f1"]
    curves = {}
    for part, verdict in verdicts.items():
        levels = levels_of(verdict.found) if verdict else []
        for distance in verdict.distances if verdict else ():
            along = curve(verdict.there, verdict.found, distance, levels)
            curves[f"{part}, within {distance:g}"] = [(level / FULL, each) for level, each in zip(levels, along, strict=True)]
            lines += [
                f"{part},{distance:g},{level / FULL:.4f},{each.there},{each.found},{each.matched},"
                f"{each.precision:.4f},{each.recall:.4f},{each.f1:.4f}"
                for level, each in zip(levels, along, strict=True)
            ]
    publish(folder / "precision_recall.csv", lambda path: path.write_text("\n".join(lines) + "\n"))
    if curves:
        publish(folder / "precision_recall.png", lambda path: draw_recall(path, curves, spec.threshold))
