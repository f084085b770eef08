"""Scenes as pictures: the colours that people see, stretched, of a whole scene or of windows of it."""

from __future__ import annotations

import numpy as np
from osgeo import gdal

from hpcseg.errors import SceneError
from hpcseg.products.cog import raising_gdal
from hpcseg.tiles import Window

_SAMPLES, _SAMPLE = 8, 64
_BEHIND = 236


def read_picture(
    path: str, shape: tuple[int, int], window: Window | None = None, limits: np.ndarray | None = None
) -> np.ndarray:
    """A window of a scene, None = all of it, averaged to `shape`: RGBA, u8 (height, width, 4), alpha 0 where there is no data.

    Red, green and blue are those that the file names, else its first three bands, else its first as grey. They are stretched between
    the limits of each band, (2, bands) or (2, 1), None = the picture's own 2nd and 98th percentiles, of bytes those of all bands
    together, which keeps their hues. path: what GDAL opens. Raises SceneError.
    """
    try:
        with raising_gdal():
            dataset = gdal.Open(path)
            # Bands die with their dataset, which has a name for that.
            bands = _visible_bands(dataset)
            values, valid = _read_bands(bands, shape, window)
    except RuntimeError as error:
        raise SceneError(f"{path} cannot be read: {error}") from error
    found = _limits(values[:, valid], bands) if limits is None else limits
    shade = _stretch(values, found)
    colours = np.broadcast_to(np.moveaxis(shade, 0, -1), (*shape, 3))
    return np.concatenate([colours, 255 * valid[..., None]], -1).astype(np.uint8)


def sample_limits(path: str) -> np.ndarray:
    """Limits for `read_picture` that are the same for all windows of a scene: its percentiles over 8x8 squares of 64 pixels, evenly
    spread, or over all of a small scene. Raises SceneError."""
    try:
        with raising_gdal():
            dataset = gdal.Open(path)
            bands = _visible_bands(dataset)
            windows = _lattice(dataset.RasterYSize, dataset.RasterXSize)
            parts = [_read_bands(bands, (each.height, each.width), each) for each in windows]
    except RuntimeError as error:
        raise SceneError(f"{path} cannot be read: {error}") from error
    return _limits(np.concatenate([values[:, valid] for values, valid in parts], axis=1), bands)


class Thumbnails:
    """Small pictures of windows of many scenes, in each of which all windows are stretched alike; all have one scale, at which `edge`
    pixels of a scene become at most `longest`."""

    def __init__(self, edge: int, longest: int = 224) -> None:
        self._scale = min(1.0, longest / edge)
        self._limits: dict[str, np.ndarray] = {}

    def read_path(self, path: str, window: Window) -> np.ndarray:
        """RGB, u8 (h, w, 3), grey where there is no data. path: what GDAL opens. Raises SceneError."""
        if path not in self._limits:
            self._limits[path] = sample_limits(path)
        picture = read_picture(path, scale_shape(window.height, window.width, self._scale), window, self._limits[path])
        return np.where(picture[..., 3:] > 0, picture[..., :3], np.uint8(_BEHIND))

    def read_around(self, path: str, window: Window, extent: Window) -> np.ndarray:
        """The same of a window that may reach beyond `extent`, that of the scene: there it is grey."""
        inner = window.intersect(extent)
        picture, part = np.full((*scale_shape(*window[2:], self._scale), 3), _BEHIND, np.uint8), self.read_path(path, inner)
        row, col = (min(round(k * self._scale), whole - size) for k, whole, size in zip(
            (inner.row - window.row, inner.col - window.col), picture.shape[:2], part.shape[:2], strict=True
        ))  # fmt: skip
        picture[row : row + part.shape[0], col : col + part.shape[1]] = part
        return picture


def scale_shape(height: int, width: int, scale: float) -> tuple[int, int]:
    """A size in other pixels, at least 1 each."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def _lattice(height: int, width: int) -> list[Window]:
    if max(height, width) <= _SAMPLES * _SAMPLE:
        return [Window(0, 0, height, width)]
    size = min(height, _SAMPLE), min(width, _SAMPLE)
    rows, cols = (np.unique(np.linspace(0, whole - part, _SAMPLES, dtype=int)) for whole, part in zip((height, width), size, strict=True))
    return [Window(int(row), int(col), *size) for row in rows for col in cols]


def _visible_bands(dataset: gdal.Dataset) -> list[gdal.Band]:
    named = {dataset.GetRasterBand(k).GetColorInterpretation(): k for k in range(dataset.RasterCount, 0, -1)}
    wanted = (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand)
    if all(color in named for color in wanted):
        numbers = [named[color] for color in wanted]
    else:
        numbers = [1, 2, 3] if dataset.RasterCount >= 3 else [1]
    return [dataset.GetRasterBand(k) for k in numbers]


def _read_bands(bands: list[gdal.Band], shape: tuple[int, int], window: Window | None) -> tuple[np.ndarray, np.ndarray]:
    """Bands averaged down to `shape`, f32 (bands, height, width), and where all of them are valid."""
    place = (0, 0) if window is None else (window.col, window.row, window.width, window.height)
    size = {"buf_xsize": shape[1], "buf_ysize": shape[0]}
    values = [band.ReadAsArray(*place, **size, buf_type=gdal.GDT_Float32, resample_alg=gdal.GRIORA_Average) for band in bands]
    masks = [band.GetMaskBand().ReadAsArray(*place, **size) for band in bands]
    return np.stack(values), np.isfinite(values).all(0) & np.all(masks, 0)


def _limits(values: np.ndarray, bands: list[gdal.Band]) -> np.ndarray:
    """The 2nd and 98th percentiles of valid values (bands, n): (2, bands), of bytes (2, 1)."""
    together = bands[0].DataType == gdal.GDT_Byte
    if not values.size:
        return np.array([[0.0], [1.0]])
    return np.percentile(values, (2, 98), axis=None if together else 1).reshape(2, -1)


def _stretch(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Values (bands, height, width) to 0..255, f32."""
    low, high = (each.reshape(-1, 1, 1) for each in limits)
    return np.clip(np.nan_to_num(values - low) / np.maximum(high - low, 1e-12), 0, 1) * 255
