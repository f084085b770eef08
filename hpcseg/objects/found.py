"""The objects of one scene, told alike whatever found them: peaks of a detector's heat, or patches of a map of classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hpcseg import store
from hpcseg.kernels.heat import FULL
from hpcseg.objects.ground import Ground
from hpcseg.objects.peaks import HeatMap, Peaks
from hpcseg.objects.reduce import Case, Part
from hpcseg.objects.spool import in_raster_order
from hpcseg.products.points import Batch

MILLION = 1_000_000
BATCH = 1 << 16
MEASURES = {"area_px": "Integer64", "area_m2": "Real", "size": "Real"}


class Found(Protocol):
    """The objects of one scene. cell: edge in pixels of the squares of its density, 0 = none; seen: bool, those that have data."""

    @property
    def stored(self) -> store.Stored: ...

    @property
    def cell(self) -> float: ...

    @property
    def seen(self) -> np.ndarray: ...

    def batches(self) -> Iterator[Batch]:
        """Objects in an order that no tile shows in: kind, int64; score, 0 to 1; row and col, in pixels from the scene's corner; extent,
        about how many pixels across they are with what is around them; and what else is known, such as MEASURES."""
        ...

    def sums(self) -> np.ndarray:
        """Once the batches are through: what the scores of each kind add up to, int64 (kinds,), in the survey's unit."""
        ...

    def highest(self) -> float:
        """Once the batches are through: the highest score, of objects that do not count too; 0 = there is none."""
        ...


@dataclass(frozen=True)
class FoundPeaks:
    """Peaks of heat. worth: int64 (255,), what a score adds to the sums. extent: pixels to be shown of each."""

    case: HeatMap
    peaks: Peaks
    worth: np.ndarray
    extent: float

    @property
    def stored(self) -> store.Stored:
        return self.case.stored

    @property
    def cell(self) -> float:
        return self.case.cell

    @property
    def seen(self) -> np.ndarray:
        return self.peaks.seen

    def batches(self) -> Iterator[Batch]:
        for start in range(0, len(self.peaks.points), BATCH):
            rows, cols, kinds, scores = self.peaks.points[start : start + BATCH].T
            yield {
                "kind": kinds, "score": scores / FULL, "row": rows + 0.5, "col": cols + 0.5, "extent": np.full(len(rows), self.extent),
            }  # fmt: skip

    def sums(self) -> np.ndarray:
        return self.peaks.scores @ self.worth

    def highest(self) -> float:
        return np.nonzero(self.peaks.scores.any(0))[0].max(initial=0) / FULL


@dataclass
class FoundPatches:
    """Connected components of a map with confidence. classes: numbers of those that count. metres: of a pixel, for scenes that do not say
    where they lie, NaN = not known. level: least mean confidence, in 254ths. min_area: m2."""

    case: Case
    part: Part
    classes: Sequence[int]
    metres: float
    level: int
    min_area: float
    _sums: np.ndarray = field(init=False)
    _highest: float = 0.0

    @property
    def stored(self) -> store.Stored:
        return self.case.stored

    @property
    def cell(self) -> float:
        return self.case.cell

    @property
    def seen(self) -> np.ndarray:
        return self.part.seen

    def batches(self) -> Iterator[Batch]:
        grid, kinds = self.stored.layout.grid, np.zeros(256, np.int64)
        kinds[list(self.classes)] = np.arange(len(self.classes))
        ground = Ground.of(self.stored.place, grid.height, grid.width)
        self._sums, self._highest = np.zeros(len(self.classes), np.int64), 0.0
        for every in in_raster_order(self.part.spool.blocks, grid.width):
            areas = ground.in_m2(every) if ground.known else every["area"] * self.metres**2
            self._highest = max(self._highest, float((every["score"] / (FULL * every["area"])).max()))
            keep = (every["score"] >= self.level * every["area"]) & ~(areas < self.min_area)
            found, areas = every[keep], areas[keep]
            scores = found["score"] / (FULL * found["area"])
            # In whole numbers, so that no batch shows in the sums.
            np.add.at(self._sums, kinds[found["label"]], np.rint(scores * MILLION).astype(np.int64))
            yield {
                "kind": kinds[found["label"]], "score": scores,
                "row": found["rows"] / found["area"] + 0.5, "col": found["cols"] / found["area"] + 0.5,
                "extent": 2.0 * np.maximum(found["bottom"] - found["top"], found["right"] - found["left"]),
                "area_px": found["area"], "area_m2": areas, "size": np.sqrt(areas * 4 / math.pi),
            }  # fmt: skip

    def sums(self) -> np.ndarray:
        return self._sums

    def highest(self) -> float:
        return self._highest
