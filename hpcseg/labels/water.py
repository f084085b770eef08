"""The water teacher: open water is dark and smooth in radar scenes; Otsu's threshold is the scene's own.

Values become levels of 0 to 255 between two percentiles of the scene, in dB. A feature of them (the mean over 7x7 valid pixels; SFS
textures) is kept in a scratch plane and counted in fixed cells of 256 pixels; Otsu's method takes the counts of those cells alone
whose histogram has two modes, for water is scarce in most scenes (Chini et al., IEEE TGRS 55(12), 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from hpcseg.config import Class
from hpcseg.errors import SceneError, UsageError
from hpcseg.kernels.levels import count_cells, cut_levels, mean_levels, to_levels
from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.sfs import FEATURES, sfs
from hpcseg.kernels.smooth import valid_mean
from hpcseg.labels.teacher import Fit, Scratch, Teacher, View
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Comm, Pulse
from hpcseg.raster import Entry, Scene, Values
from hpcseg.statistics import statistics
from hpcseg.thresholds import bimodal, otsu

CLASSES = (Class(name="dry", color="#d9d2c3"), Class(name="water", color="#1f5fae"))
CELL = 256
PERCENTILES = (1.0, 99.0)
TEXTURE = Sfs(spectral=15, spatial=50)
# A mean of levels is kept in sixteenths, u16; no data is above all of them.
PARTS = 16
NODATA_LEVEL = 65535
_BINS = 256 * PARTS


@dataclass(frozen=True)
class WaterOptions:
    """scale: of the values: amplitude, power, or dB. method: amplitude = the mean level itself; sfs = the mean of a texture of the levels
    of linear power, of which water has much: it is even. feature, sfs: which texture, and its settings. polarity: the side of the threshold
    where water lies, auto = below for amplitude, above for sfs. db_per_unit: of values in dB, 0.1 where ten units are one.

    fallback: threshold where no cell has two modes, in the scene's own values, or of the texture. radius: of the square of the mean.
    cell_share: valid pixels that a cell needs to be judged.
    """

    scale: Literal["amplitude", "power", "db"]
    method: Literal["amplitude", "sfs"] = "amplitude"
    feature: str = "length"
    sfs: Sfs = TEXTURE
    polarity: Literal["auto", "below", "above"] = "auto"
    db_per_unit: float = 1.0
    fallback: float | None = None
    radius: int = 3
    cell_share: float = 0.5

    @property
    def above(self) -> bool:
        """Whether water lies above the threshold."""
        return self.polarity == "above" or (self.polarity == "auto" and self.method == "sfs")

    @property
    def limit(self) -> float:
        """The greatest value of a texture that is told apart: a line's length, or an angle."""
        return 1.6 if self.feature == "ratio" else 2.0 * self.sfs.spatial


@dataclass
class Cells:
    """Counts of levels, int64 (bins,): of cells with two modes, and of all. cells: how many of the first there are."""

    two: np.ndarray
    every: np.ndarray
    cells: int = 0

    def merge(self, other: Cells) -> Cells:
        return Cells(self.two + other.two, self.every + other.every, self.cells + other.cells)


class MeanStep:
    """Means of a feature into the scratch plane, their counts by cell into the accumulator."""

    reads_scene = True
    scratch: Scratch = "uint16"
    reads_scratch = False

    def __init__(self, options: WaterOptions) -> None:
        self._options = options
        self.halo = options.radius + (options.sfs.spatial if options.method == "sfs" else 0)

    def start(self) -> Cells:
        return Cells(np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64))

    def run(self, view: View, fit: Fit, total: Cells) -> None:
        levels, known = np.empty(view.valid.shape, np.uint8), np.empty(view.valid.shape, np.uint8)
        to_levels(view.values, view.valid, np.array(fit["steps"], np.float32), self._options.scale != "db", levels, known)
        if self._options.method == "sfs":
            self._take_texture(view, levels, known)
        else:
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

    def _take_texture(self, view: View, levels: np.ndarray, known: np.ndarray) -> None:
        """The mean texture of a core in steps of its limit / 4080."""
        options = self._options
        part = view.core.grow(options.radius).intersect(view.inside)
        texture, mean = np.empty((1, part.height, part.width), np.float32), np.empty(view.planes[0].shape, np.float32)
        sfs(levels, known, part, view.inside, options.sfs, (options.feature,), texture)
        valid_mean(texture[0], known[part.slices], options.radius, view.core.relative_to(part), mean)
        steps = np.floor(np.minimum(mean / np.float32(options.limit), 1) * np.float32(255 * PARTS) + np.float32(0.5))
        view.planes[0][...] = np.where(known[view.core.slices] != 0, np.nan_to_num(steps), NODATA_LEVEL)

    def fit(self, total: Cells, fit: Fit) -> Fit:
        if not total.every.any():
            return {**fit, "threshold": -1}
        side = "above" if self._options.above else "below"
        level = otsu(total.two) if total.cells else None
        if level is not None:
            return {**fit, "threshold": level, "note": f"water {side} {self._value(level, fit):.4g} by {total.cells} cells with two modes"}
        why = "it is constant" if np.count_nonzero(total.every) == 1 else "no cell has two modes"
        if self._options.fallback is None:
            return {**fit, "problem": f"no water threshold: {why}; --fallback gives one"}
        level = self._level(self._options.fallback, fit)
        return {**fit, "threshold": level, "note": f"no water threshold: {why}; fallback {side} {self._options.fallback:g}"}

    def _value(self, level: int, fit: Fit) -> float:
        """The threshold at a level: of the texture, or in the scene's own values."""
        share = level / (255 * PARTS)
        if self._options.method == "sfs":
            return self._options.limit * share
        return from_db(fit["low"] + (fit["high"] - fit["low"]) * share, self._options)

    def _level(self, value: float, fit: Fit) -> int:
        if self._options.method == "sfs":
            share = value / self._options.limit
        else:
            span = fit["high"] - fit["low"]
            share = (to_db(value, self._options) - fit["low"]) / span if span > 0 else 0.0
        return max(-1, min(255 * PARTS, round(255 * PARTS * share)))


class CutStep:
    """Labels from the scratch plane."""

    halo = 0
    reads_scene = False
    scratch: Scratch = ""
    reads_scratch = True

    def __init__(self, above: bool) -> None:
        self._above = above

    def start(self) -> None:
        return None

    def run(self, view: View, fit: Fit, total: Any) -> None:
        cut_levels(view.scratch, fit["threshold"], self._above, view.planes[0])

    def fit(self, total: Any, fit: Fit) -> Fit:
        return fit


_FACTOR = {"amplitude": 20.0, "power": 10.0}


def to_db(value: float, options: WaterOptions) -> float:
    """A value in dB; that of no backscatter is very low, not infinite."""
    return value * options.db_per_unit if options.scale == "db" else _FACTOR[options.scale] * math.log10(max(value, 1e-30))


def from_db(value: float, options: WaterOptions) -> float:
    """The inverse of `to_db`."""
    return value / options.db_per_unit if options.scale == "db" else 10 ** (value / _FACTOR[options.scale])


def water_teacher(options: WaterOptions) -> Teacher:
    """Labels of open water from one band of radar backscatter. Raises UsageError."""
    options.sfs.check()
    if options.feature not in FEATURES:
        raise UsageError(f"--feature {options.feature}: wanted one of {', '.join(FEATURES)}")
    if not options.db_per_unit > 0:
        raise UsageError(f"--db-per-unit {options.db_per_unit:g}: wanted more than 0")

    def read(entry: Entry, scene: Scene) -> tuple[Scene, Values]:
        if len(scene.bands) != 1:
            raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, water takes one: choose it with --bands N")
        if options.scale != "db" and scene.nodata == (None,):
            # No backscatter at all is the border of a swath, not water.
            scene = msgspec.structs.replace(scene, nodata=(0.0,))
        return scene, Values((1.0,), (0.0,), "any")

    def begin(comm: Comm, pulse: Pulse, scenes: Sequence[Scene], reading: MapOptions) -> tuple[list[Fit], list[str]]:
        found, unread = statistics(comm, pulse, scenes, "any", PERCENTILES, reading.threads, reading.cache)
        return [_limits(bands[0].percentiles, options) for bands in found], unread

    steps = (MeanStep(options), CutStep(options.above))
    parameters = asdict(options) | {"sfs": options.sfs._asdict()}
    return Teacher("water", parameters, CLASSES, 1, "float32", steps, read, stride=CELL, begin=begin)


def _limits(percentiles: Sequence[float], options: WaterOptions) -> Fit:
    """The percentiles in dB, and the 255 values of the scene at which its level rises by one: evenly in dB, or in power for textures."""
    low, high = (to_db(value, options) for value in percentiles)
    shares = [(k + 0.5) / 255 for k in range(255)]
    if options.method == "sfs":
        least, most = 10 ** (low / 10), 10 ** (high / 10)
        steps = [10 * math.log10(least + (most - least) * share) for share in shares]
    else:
        steps = [low + (high - low) * share for share in shares]
    return {"low": low, "high": high, "steps": [from_db(step, options) for step in steps]}
