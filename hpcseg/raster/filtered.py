"""Windows of a scene as a filter shows them: read as u8 with the filter's halo, filtered, then made input as any pixels are."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hpcseg.kernels.filters import BANDS, FILTERS, Prefilter
from hpcseg.kernels.prepare import normalise, reflect
from hpcseg.raster.cells import CellCache, SceneReader, Values
from hpcseg.raster.scene import NodataRule, Scene
from hpcseg.tiles import Window


class Reader(Protocol):
    """Windows of one scene as input; safe for several threads."""

    def read(self, window: Window, reach: int, out: np.ndarray, valid: np.ndarray) -> int:
        """As SceneReader.read."""


def open_reader(scene: Scene, values: Values, cache: CellCache) -> Reader:
    """The reader of a scene, through a filter if its values say so."""
    return SceneReader(scene, values, cache) if values.prefilter is None else FilteredReader(scene, values, values.prefilter, cache)


def plain_values(rule: NodataRule) -> Values:
    """How a filter reads a scene: its levels as they are."""
    return Values((1.0,) * BANDS, (0.0,) * BANDS, rule)


class FilteredReader:
    """What SceneReader would give of the filtered picture, were it a file: the same bits wherever windows lie."""

    def __init__(self, scene: Scene, values: Values, prefilter: Prefilter, cache: CellCache) -> None:
        self._plain = SceneReader(scene, plain_values(values.rule), cache)
        self._filter, self._fit = FILTERS[prefilter.name], prefilter.fit
        self._scale, self._offset = (np.array(each, np.float32) for each in (values.scale, values.offset))
        self._missing = np.float32(values.missing)
        self._extent = Window(0, 0, scene.height, scene.width)

    def read(self, window: Window, reach: int, out: np.ndarray, valid: np.ndarray) -> int:
        """As SceneReader.read."""
        inside = window.intersect(self._extent)
        picture, marks = self._clear(inside)
        if inside != window:
            valid[...] = 0
        frame = inside.relative_to(window)
        total = normalise(
            picture, marks, Window(0, 0, inside.height, inside.width), frame, np.zeros(BANDS, np.uint8), np.zeros(BANDS, bool), False,
            np.tile(self._scale, inside.width), np.tile(self._offset, inside.width), self._missing, out, valid,
        )  # fmt: skip
        if inside != window:
            reflect(out, BANDS, frame.row, frame.stop[0], frame.col, frame.stop[1], reach)
        return total

    def _clear(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The filtered picture of a window within the scene, u8 (h, w * 3), and its validity, u8 (h, w), (0, 0) if all of it is valid."""
        around = window.grow(self._filter.halo).intersect(self._extent)
        core, inside = window.relative_to(around), Window(0, 0, around.height, around.width)
        pixels = np.empty((around.height, around.width * BANDS), np.uint8)
        marks = np.empty((around.height, around.width), np.uint8)
        self._plain.read(around, 0, pixels, marks)
        picture, known = np.zeros((window.height, window.width * BANDS), np.uint8), np.ascontiguousarray(marks[core.slices])
        if known.any():
            self._filter.clear(pixels, marks, core, inside, self._fit, picture)
        # Without gaps the kernel need not look at pixels one by one.
        return picture, np.empty((0, 0), np.uint8) if known.all() else known
