"""The truth of points: the objects of a scene as heat to learn from, window by window."""

from __future__ import annotations

import numpy as np

from hpcseg.annotations import Annotations, pixel_length
from hpcseg.kernels.classes import NOT_LABELLED
from hpcseg.kernels.heat import draw
from hpcseg.raster import Scene, SceneReader
from hpcseg.tiles import Window
from hpcseg.training.settings import Settings


class PointTruth:
    """The objects of one scene. rows, cols: int64 (n,), their pixels. kinds: int64 (n,), class numbers. length: of a pixel in the units
    of sigma. Safe for several threads."""

    def __init__(self, found: Annotations, scene: Scene, settings: Settings) -> None:
        self.path, self.kinds, self.classes = found.path, found.kinds, len(settings.classes)
        self.rows, self.cols = (np.floor(each).astype(np.int64) for each in (found.rows, found.cols))
        self.length = pixel_length(scene, settings.pixel_size)
        self._sigma = settings.sigma / self.length
        self._extent = Window(0, 0, scene.height, scene.width)

    def read(self, window: Window, out: np.ndarray) -> None:
        """Fill a window, out: u8 (classes, height, width), with round(254 heat); 255 beyond the scene's edge."""
        near = self.inside(window.grow(int(3 * self._sigma) + 1))
        draw(self.rows[near], self.cols[near], self.kinds[near], self._sigma, window.row, window.col, out)
        inside = window.intersect(self._extent)
        if inside != window:
            beyond = np.ones(out.shape[1:], bool)
            beyond[inside.relative_to(window).slices] = False
            out[:, beyond] = NOT_LABELLED

    def inside(self, window: Window) -> np.ndarray:
        """Numbers of the objects whose pixel lies in a window."""
        down, right = self.rows - window.row, self.cols - window.col
        return np.flatnonzero((down >= 0) & (down < window.height) & (right >= 0) & (right < window.width))

    def count(self, window: Window, reader: SceneReader) -> tuple[np.ndarray, bool]:
        """The objects of each class on pixels with data in a window, int64 (classes,), and whether it has such pixels."""
        valid = np.ones((window.height, window.width), np.uint8)
        if reader.scene.has_gaps:
            reader.read(window, 0, np.empty((window.height, window.width * len(reader.scene.bands)), np.float32), valid)
        here = self.inside(window)
        on_data = valid[self.rows[here] - window.row, self.cols[here] - window.col] != 0
        return np.bincount(self.kinds[here[on_data]], minlength=self.classes), bool(valid.any())
