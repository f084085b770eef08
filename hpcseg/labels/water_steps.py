"""The water teacher's two steps: means of a feature and the threshold that their counts give, then the cut.

Both take one date or two, each a band of its own. Two dates share one table of levels, so that a threshold means the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcseg.kernels.levels import NODATA, count_cells, cut_levels, mean_levels, to_levels, to_power
from hpcseg.kernels.sfs import sfs
from hpcseg.kernels.smooth import lee, valid_mean
from hpcseg.labels.backscatter import WaterOptions, from_db, to_db
from hpcseg.labels.teacher import Fit, Scratch, Step, View
from hpcseg.thresholds import bimodal, fit_modes, otsu
from hpcseg.tiles import Window

CELL = 256
# A mean of levels is kept in sixteenths, u16; no data is above all of them.
PARTS = 16
_BINS = 256 * PARTS
# Levels: the middle of them, and how far water's mode is from land's at least.
MIDDLE, APART = 127.5, 64
DRY, PERMANENT, FLOOD = 0, 1, 2
_SCRATCH: dict[int, Scratch] = {1: "uint16", 2: "uint32"}


@dataclass
class Cells:
    """Counts of levels by date, int64 (dates, bins): of cells with two modes, and of all. cells: int64 (dates,), how many have two."""

    two: np.ndarray
    every: np.ndarray
    cells: np.ndarray

    @classmethod
    def of(cls, dates: int) -> Cells:
        return cls(np.zeros((dates, _BINS), np.int64), np.zeros((dates, _BINS), np.int64), np.zeros(dates, np.int64))

    def merge(self, other: Cells) -> Cells:
        return Cells(self.two + other.two, self.every + other.every, self.cells + other.cells)


class Levels:
    """The levels of a part of a scene at one date: values, known, u8 (H, W), 1 where there is data; core and inside as in View."""

    def __init__(self, values: np.ndarray, view: View, steps: np.ndarray, options: WaterOptions, reach: int) -> None:
        self.core, self.inside, known = view.core, view.inside, view.valid
        positive = options.scale != "db"
        if options.speckle == "lee":
            values, known = _smooth(values, view, options, part := view.core.grow(reach))
            self.core, self.inside = view.core.relative_to(part), view.inside.intersect(part).relative_to(part)
        self.values, self.known = np.empty(known.shape, np.uint8), np.empty(known.shape, np.uint8)
        to_levels(values, known, steps, positive, self.values, self.known)


def _smooth(values: np.ndarray, view: View, options: WaterOptions, part: Window) -> tuple[np.ndarray, np.ndarray]:
    """The power of a part of a window without its speckle, float32, and where it is known, u8."""
    power, known = np.empty(values.shape, np.float32), np.empty(values.shape, np.uint8)
    to_power(values, view.valid, {"db": 0, "power": 1, "amplitude": 2}[options.scale], options.db_per_unit, power, known)
    out = np.empty((part.height, part.width), np.float32)
    lee(power, known, options.speckle_radius, options.looks, part, out)
    return out, np.ascontiguousarray(known[part.slices])


class MeanStep(Step):
    """Means of a feature into the scratch plane, side by side where there are two dates, their counts by cell into the accumulator."""

    def __init__(self, options: WaterOptions, dates: int) -> None:
        self._options, self._dates = options, dates
        self._reach = options.radius + (options.sfs.spatial if options.method == "sfs" else 0)
        self.halo = self._reach + (options.speckle_radius if options.speckle == "lee" else 0)
        self.scratch = _SCRATCH[dates]

    def start(self) -> Cells:
        return Cells.of(self._dates)

    def run(self, view: View, fit: Fit, total: Cells) -> None:
        steps = np.array(fit["steps"], np.float32)
        values = view.values.reshape(*view.valid.shape, self._dates)
        for date, out in enumerate(_by_date(view.planes[0], self._dates)):
            levels = Levels(np.ascontiguousarray(values[..., date]), view, steps, self._options, self._reach)
            if self._options.method == "sfs":
                self._take_texture(levels, out)
            else:
                mean_levels(levels.values, levels.known, levels.core, self._options.radius, PARTS, out)
            self._count(out, date, total)

    def _count(self, means: np.ndarray, date: int, total: Cells) -> None:
        counts = np.zeros((-(-means.shape[0] // CELL), -(-means.shape[1] // CELL), _BINS), np.int64)
        count_cells(means, CELL, counts)
        for each in counts.reshape(-1, _BINS):
            total.every[date] += each
            # One cell at a time: what it gives must not depend on its neighbours.
            if each.sum() >= self._options.cell_share * CELL**2 and holds_water_and_land(each, self._options):
                total.two[date] += each
                total.cells[date] += 1

    def _take_texture(self, levels: Levels, out: np.ndarray) -> None:
        """The mean texture of a core in steps of its limit / 4080."""
        options, core, known = self._options, levels.core, levels.known
        part = core.grow(options.radius).intersect(levels.inside)
        texture, mean = np.empty((1, part.height, part.width), np.float32), np.empty(out.shape, np.float32)
        sfs(levels.values, known, part, levels.inside, options.sfs, (options.feature,), texture)
        valid_mean(texture[0], known[part.slices], options.radius, core.relative_to(part), mean)
        steps = np.floor(np.minimum(mean / np.float32(options.limit), 1) * np.float32(255 * PARTS) + np.float32(0.5))
        out[...] = np.where(known[core.slices] != 0, np.nan_to_num(steps), NODATA)

    def fit(self, total: Cells, fit: Fit) -> Fit:
        if not total.every[0].any():
            return {**fit, "thresholds": [-1] * self._dates}
        level = self._own(total, 0)
        if level is None:
            why = "it is constant" if np.count_nonzero(total.every[0]) == 1 else "no cell has modes of water and land"
            if self._options.fallback is None:
                return {**fit, "thresholds": [-1] * self._dates, "problem": f"no water threshold: {why}; --fallback gives one"}
            level = self._level(self._options.fallback, fit)
            note = f"no water threshold: {why}; fallback {self._side} {self._options.fallback:g}"
        else:
            note = f"water {self._phrase(level, total, 0, fit)}"
        levels = [level]
        for date in range(1, self._dates):
            # Cells whose modes are none of water do not agree: together they have not two.
            agree = holds_water_and_land(total.two[date], self._options)
            own = self._own(total, date) if agree else None
            levels.append(level if own is None else own)
            note += "; before: the same" if own is None else f"; before: {self._phrase(own, total, date, fit)} of its own"
        return {**fit, "thresholds": levels, "note": note}

    @property
    def _side(self) -> str:
        return "above" if self._options.above else "below"

    def _phrase(self, level: int, total: Cells, date: int, fit: Fit) -> str:
        return f"{self._side} {self._value(level, fit):.4g} by {total.cells[date]} cells with two modes"

    def _own(self, total: Cells, date: int) -> int | None:
        """The threshold that a date's own cells give, None if none of them has two modes."""
        return otsu(total.two[date]) if total.cells[date] else None

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


class CutStep(Step):
    """Labels from the scratch plane: of one date, or what became of the land between two."""

    reads_scene = False
    reads_scratch = True

    def __init__(self, options: WaterOptions, dates: int) -> None:
        self._above, self._dates = options.above, dates
        self._doubt = round(255 * PARTS * options.doubt)

    def run(self, view: View, fit: Fit, total: Any) -> None:
        means, out = _by_date(view.scratch, self._dates), view.planes[0]
        self._cut(means[0], fit["thresholds"][0], out)
        if self._dates == 2:
            before = np.empty(out.shape, np.uint8)
            self._cut(means[1], fit["thresholds"][1], before)
            out[(out == PERMANENT) & (before == DRY)] = FLOOD
            np.maximum(out, 255 * (before == 255).astype(np.uint8), out=out)

    def _cut(self, means: np.ndarray, threshold: int, out: np.ndarray) -> None:
        cut_levels(means, threshold, self._above, out)
        if self._doubt:
            out[np.abs(means.astype(np.int32) - threshold) < self._doubt] = 255


def holds_water_and_land(counts: np.ndarray, options: WaterOptions) -> bool:
    """Whether a histogram of mean levels, int64 (bins,), has two modes that may be water and land.

    Two fields, or a town and its fields, make two modes as well (Chini's test passes them), but water is the darkest of what covers a
    scene, and far from land. So of levels in dB, which run from the scene's 1st percentile to its 99th, water's mode lies in water's
    half, and the other at least a quarter of all levels away: about 5 dB in a scene of the usual 20 dB; crops, woods and towns
    differ by less. Shares of the scene's own range, for values may be relative: where nothing is dark, a town may still pass for land and
    its fields for water. Textures have no such range.
    """
    # Coarse levels suffice to see modes.
    coarse = counts.reshape(1, 256, PARTS).sum(-1)
    if options.method == "sfs" or not bimodal(coarse)[0]:
        return bool(bimodal(coarse)[0])
    low, high = fit_modes(coarse).mean[0]
    return bool(high - low >= APART and (high > MIDDLE if options.above else low < MIDDLE))


def _by_date(plane: np.ndarray, dates: int) -> list[np.ndarray]:
    """Views, u16 (h, w), of the means of each date in a scratch plane."""
    return [plane.view(np.uint16)[:, date::dates] for date in range(dates)]
