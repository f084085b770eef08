"""The water teacher: open water is dark and smooth in radar scenes; Otsu's threshold is the scene's own.

Values become levels of 0 to 255 between two percentiles of the scene, in dB. A feature of them (the mean over 7x7 valid pixels; SFS
textures) is kept in a scratch plane and counted in fixed cells of 256 pixels; Otsu's method takes the counts of those cells alone
whose histogram has two modes, for water is scarce in most scenes (Chini et al., IEEE TGRS 55(12), 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from hpcseg.config import Class
from hpcseg.errors import SceneError
from hpcseg.kernels.levels import count_cells, cut_levels, mean_levels, to_levels
from hpcseg.labels.teacher import Fit, Scratch, Step, Teacher, View
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Comm, Pulse
from hpcseg.raster import Entry, Scene, Values
from hpcseg.statistics import statistics
from hpcseg.thresholds import bimodal, otsu

CLASSES = (Class(name="dry", color="#d9d2c3"), Class(name="water", color="#1f5fae"))
CELL = 256
PERCENTILES = (1.0, 99.0)
# A mean of levels is kept in sixteenths, u16; no data is above all of them.
PARTS = 16
NODATA_LEVEL = 65535
_BINS = 256 * PARTS


@dataclass(frozen=True)
class WaterOptions:
    """scale: of the values: amplitude, power, or dB. method: a key of FEATURES. fallback: threshold in the scene's own values where no
    cell has two modes. radius: of the square of the mean. cell_share: valid pixels that a cell needs to be judged."""

    scale: Literal["amplitude", "power", "db"]
    method: str = "amplitude"
    fallback: float | None = None
    radius: int = 3
    cell_share: float = 0.5


@dataclass
class Cells:
    """Counts of levels, int64 (bins,): of cells with two modes, and of all. cells: how many of the first there are."""

    two: np.ndarray
    every: np.ndarray
    cells: int = 0

    def merge(self, other: Cells) -> Cells:
        return Cells(self.two + other.two, self.every + other.every, self.cells + other.cells)


class FeatureStep:
    """Means of levels into the scratch plane, their counts by cell into the accumulator."""

    reads_scene = True
    scratch: Scratch = "uint16"
    reads_scratch = False

    def __init__(self, options: WaterOptions) -> None:
        self._options, self.halo = options, options.radius

    def start(self) -> Cells:
        return Cells(np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64))

    def run(self, view: View, fit: Fit, total: Cells) -> None:
        levels, known = np.empty(view.valid.shape, np.uint8), np.empty(view.valid.shape, np.uint8)
        to_levels(view.values, view.valid, np.array(fit["steps"], np.float32), self._options.scale != "db", levels, known)
        mean_levels(levels, known, view.core, self._options.radius, PARTS, view.planes[0])
        counts = np.zeros((-(-view.core.height // CELL), -(-view.core.width // CELL), _BINS), np.int64)
        count_cells(view.planes[0], CELL, counts)
        for each in counts.reshape(-1, _BINS):
            total.every += each
            # Coarse levels suffice to see two modes. One cell at a time: what it gives must not depend on its neighbours.
            coarse = each.reshape(256, PARTS).sum(1)
            if each.sum() >= self._options.cell_share * CELL**2 and bimodal(coarse[None])[0]:
                total.two += each
                total.cells += 1

    def fit(self, total: Cells, fit: Fit) -> Fit:
        if not total.every.any():
            return {**fit, "threshold": -1}
        level = otsu(total.two) if total.cells else None
        if level is not None:
            value = self._value(level, fit)
            return {**fit, "threshold": level, "note": f"water below {value:.4g}, from {total.cells} cells with two modes"}
        why = "it is constant" if np.count_nonzero(total.every) == 1 else "no cell has two modes"
        if self._options.fallback is None:
            return {**fit, "problem": f"no water threshold: {why}; --fallback gives one, in the scene's own values"}
        level = self._level(self._options.fallback, fit)
        return {**fit, "threshold": level, "note": f"no water threshold: {why}; fallback {self._options.fallback:g}"}

    def _value(self, level: int, fit: Fit) -> float:
        """The scene's value at a level."""
        return from_db(fit["low"] + (fit["high"] - fit["low"]) * level / (255 * PARTS), self._options.scale)

    def _level(self, value: float, fit: Fit) -> int:
        span = fit["high"] - fit["low"]
        share = (to_db(value, self._options.scale) - fit["low"]) / span if span > 0 else 0.0
        return max(-1, min(255 * PARTS, round(255 * PARTS * share)))


class CutStep:
    """Labels from the scratch plane."""

    halo = 0
    reads_scene = False
    scratch: Scratch = ""
    reads_scratch = True

    def start(self) -> None:
        return None

    def run(self, view: View, fit: Fit, total: Any) -> None:
        cut_levels(view.scratch, fit["threshold"], view.planes[0])

    def fit(self, total: Any, fit: Fit) -> Fit:
        return fit


FEATURES: dict[str, Callable[[WaterOptions], Step]] = {"amplitude": FeatureStep}


def to_db(value: float, scale: str) -> float:
    """A value in dB; that of no backscatter is very low, not infinite."""
    factor = {"amplitude": 20.0, "power": 10.0, "db": 0.0}[scale]
    return factor * math.log10(max(value, 1e-30)) if factor else value


def from_db(value: float, scale: str) -> float:
    """The inverse of `to_db`."""
    factor = {"amplitude": 20.0, "power": 10.0, "db": 0.0}[scale]
    return 10 ** (value / factor) if factor else value


def water_teacher(options: WaterOptions) -> Teacher:
    """Labels of open water from one band of radar backscatter."""

    def read(entry: Entry, scene: Scene) -> tuple[Scene, Values]:
        if len(scene.bands) != 1:
            raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, water takes one: choose it with --bands N")
        if options.scale != "db" and scene.nodata == (None,):
            # No backscatter at all is the border of a swath, not water.
            scene = msgspec.structs.replace(scene, nodata=(0.0,))
        return scene, Values((1.0,), (0.0,), "any")

    def begin(comm: Comm, pulse: Pulse, scenes: Sequence[Scene], reading: MapOptions) -> tuple[list[Fit], list[str]]:
        found, unread = statistics(comm, pulse, scenes, "any", PERCENTILES, reading.threads, reading.cache)
        return [_limits(bands[0].percentiles, options.scale) for bands in found], unread

    steps = (FEATURES[options.method](options), CutStep())
    return Teacher("water", asdict(options), CLASSES, 1, "float32", steps, read, stride=CELL, begin=begin)


def _limits(percentiles: Sequence[float], scale: str) -> Fit:
    """The percentiles in dB, and the 255 values of the scene at which its level rises by one."""
    low, high = (to_db(value, scale) for value in percentiles)
    steps = [from_db(low + (high - low) * (k + 0.5) / 255, scale) for k in range(255)]
    return {"low": low, "high": high, "steps": steps}
