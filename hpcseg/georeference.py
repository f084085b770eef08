"""Where a scene lies on the ground: a record that travels from the raster to every output unchanged."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np


class GroundPoint(msgspec.Struct, frozen=True):
    """A ground control point: pixel (row, col, as fractions) and its place (x, y, z) in the GCPs' reference system."""

    row: float
    col: float
    x: float
    y: float
    z: float = 0.0
    id: str = ""


class Georeference(msgspec.Struct, frozen=True):
    """wkt: reference system, "" if none. transform: GDAL's six numbers, None if none. gcps and their own reference system.

    axes: what x and y measure. unit: metres per unit of a projected system, else 1.
    """

    wkt: str = ""
    transform: tuple[float, float, float, float, float, float] | None = None
    gcps: list[GroundPoint] = []
    gcp_wkt: str = ""
    axes: Literal["projected", "geographic", "none"] = "none"
    unit: float = 1.0

    @property
    def separable(self) -> bool:
        """True if x depends on the column alone and y on the row alone: only then 1-D coordinates exist."""
        return self.transform is not None and self.transform[2] == 0 and self.transform[4] == 0

    def coordinates(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """y (height,) and x (width,) of pixel centres, float64, for a separable transform."""
        if self.transform is None or not self.separable:
            raise ValueError("a rotated or absent transform has no 1-D coordinates")
        x0, dx, _, y0, _, dy = self.transform
        return y0 + dy * (np.arange(height) + 0.5), x0 + dx * (np.arange(width) + 0.5)

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Georeference:
        """The inverse of `to_json`."""
        return msgspec.json.decode(text, type=cls)
