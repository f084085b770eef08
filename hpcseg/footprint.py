"""Areas on the ground as polygons in pixels: which tiles they touch, and which pixels they cover."""

from __future__ import annotations

import numpy as np
import shapely

from hpcseg.errors import UsageError
from hpcseg.georeference import Georeference
from hpcseg.tiles import Grid, Window


def read_wkt(text: str) -> shapely.Geometry:
    """A geometry from WKT. Raises UsageError."""
    try:
        return shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        raise UsageError(f"{text[:40]!r} is no WKT geometry: {error}") from error


def to_pixels(ground: shapely.Geometry, place: Georeference) -> shapely.Geometry:
    """A geometry in a scene's reference system, carried to pixels: x = column, y = row. Raises UsageError without a transform."""
    if place.transform is None:
        raise UsageError("has no geotransform to carry a polygon from the ground to pixels")
    x0, xc, xr, y0, yc, yr = place.transform
    determinant = xc * yr - xr * yc

    def inverse(points: np.ndarray) -> np.ndarray:
        x, y = points[:, 0] - x0, points[:, 1] - y0
        return np.stack([(yr * x - xr * y) / determinant, (xc * y - yc * x) / determinant], axis=1)

    return shapely.transform(ground, inverse)


def touched_tiles(polygon: shapely.Geometry, grid: Grid) -> np.ndarray:
    """Which tiles a polygon in pixels touches, bool (ny * nx,)."""
    shapely.prepare(polygon)
    rows, cols = np.divmod(np.arange(grid.size), grid.shape[1])
    top, left = rows * grid.core, cols * grid.core
    boxes = shapely.box(left, top, np.minimum(left + grid.core, grid.width), np.minimum(top + grid.core, grid.height))
    return shapely.intersects(polygon, boxes)


def covered_pixels(polygon: shapely.Geometry, window: Window) -> np.ndarray:
    """Which pixels have their centre in a polygon in pixels, u8 (height, width), 1 or 0."""
    box = shapely.box(window.col, window.row, window.col + window.width, window.row + window.height)
    if not shapely.intersects(polygon, box):
        return np.zeros((window.height, window.width), np.uint8)
    if shapely.contains_properly(polygon, box):
        return np.ones((window.height, window.width), np.uint8)
    cols, rows = np.meshgrid(window.col + np.arange(window.width) + 0.5, window.row + np.arange(window.height) + 0.5)
    return shapely.contains_xy(polygon, cols, rows).astype(np.uint8)
