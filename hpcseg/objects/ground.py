"""Ground areas as whole numbers, so that sums over pixels are exact in any order."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hpcseg.area import BLOCK, pixel_area_m2
from hpcseg.georeference import Georeference
from hpcseg.tiles import Window

_BITS = 62


class Ground(NamedTuple):
    """Ground area of a pixel per block of 256x256 pixels, int64 (ny, nx), in units of `unit` m2; unit NaN: not known.

    off: bool (ny, nx), blocks that are not wholly on the ground.
    """

    areas: np.ndarray
    off: np.ndarray
    unit: float

    @classmethod
    def of(cls, place: Georeference, height: int, width: int) -> Ground:
        """The unit is the smallest power of 2 that lets the area of the whole scene fit into 62 bits."""
        shape = math.ceil(height / BLOCK), math.ceil(width / BLOCK)
        areas = pixel_area_m2(place, height, width)
        if areas is None or not np.isfinite(areas).any():
            return cls(np.zeros(shape, np.int64), np.ones(shape, bool), math.nan)
        unit = 2.0 ** (math.ceil(math.log2(height * width * np.nanmax(areas))) - _BITS)
        off = ~np.isfinite(areas)
        return cls(np.rint(np.where(off, 0, areas) / unit).astype(np.int64), off, unit)

    @property
    def known(self) -> bool:
        """Whether the scene says where on the Earth it lies."""
        return not math.isnan(self.unit)

    def running(self, window: Window) -> np.ndarray:
        """Running sums along a row of a window, int64 (blocks of rows, width + 1), as `label_window` wants them."""
        first, last = window.row // BLOCK, (window.stop[0] - 1) // BLOCK
        areas = self.areas[first : last + 1, np.arange(window.col, window.stop[1]) // BLOCK]
        return np.concatenate([np.zeros((len(areas), 1), np.int64), areas.cumsum(axis=1)], axis=1)

    def in_m2(self, components: np.ndarray) -> np.ndarray:
        """Ground areas of components in m2, f64 (n,); NaN where the bounding box is not wholly on the ground."""
        result = components["ground"] * self.unit
        if self.off.any():
            counts = np.pad(self.off.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            top, left = components["top"] // BLOCK, components["left"] // BLOCK
            bottom, right = (components["bottom"] - 1) // BLOCK + 1, (components["right"] - 1) // BLOCK + 1
            outside = counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
            result[outside > 0] = math.nan
        return result
