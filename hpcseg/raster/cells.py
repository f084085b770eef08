"""Windows of a scene as network input, from a bounded cache of decoded cells shared by all reader threads of a rank.

A cell is a block of the file, or a 512x512 square where the file's blocks are very small or very long. Each is decoded once
while it stays in the cache, whichever thread asks first; the kernels normalise straight from the cells into the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from osgeo import gdal

from hpcseg.errors import ReadError
from hpcseg.footprint import covered_pixels, read_wkt
from hpcseg.kernels.filters import Prefilter
from hpcseg.kernels.prepare import normalise, reflect
from hpcseg.raster.recent import Datasets, Recent
from hpcseg.raster.scene import NodataRule, Scene
from hpcseg.tiles import Window

_CELL = 512
_NO_MASK = np.empty((0, 0), np.uint8)
_DATASETS, _FILES = 32, 64


class Cell(NamedTuple):
    """Decoded pixels (h, w * b), interleaved by pixel, and their mask u8 (h, w), (0, 0) if there is none."""

    pixels: np.ndarray
    mask: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes + self.mask.nbytes


class CellCache(Recent[Cell]):
    """Cells up to `capacity` bytes, and what the readers that share them keep open: each thread its last 32 datasets.

    opened: the last 64 files of other kinds, shared by all threads.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.datasets = Datasets(_DATASETS)
        self.opened: Recent[Any] = Recent(_FILES)

    def weigh(self, thing: Cell) -> int:
        """Its bytes."""
        return thing.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of all cells that it holds."""
        return self.weight


class Values(NamedTuple):
    """How a scene's values become input: value * scale + offset per band, and the rule for pixels with some bands missing.

    missing: what bands without data become: 0 for a network, NaN for statistics. prefilter: what pixels pass before all this, see
    `open_reader`.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    rule: NodataRule = "all"
    missing: float = 0.0
    prefilter: Prefilter | None = None


class SceneReader:
    """Windows of one scene as the file has them. Safe for several threads: each has a GDAL dataset of its own."""

    def __init__(self, scene: Scene, values: Values, cache: CellCache) -> None:
        self.scene, self._cache = scene, cache
        self._strict, self._missing = values.rule == "any", np.float32(values.missing)
        block_height, block_width = scene.block
        self._cell_height = block_height if 128 <= block_height <= 1024 else _CELL
        self._cell_width = block_width if 128 <= block_width <= 1024 else _CELL
        self._aoi = read_wkt(scene.aoi) if scene.aoi else None
        self._dtype = np.dtype(scene.dtype)
        self._nodata, self._has_nodata = _typed_nodata(scene.nodata, self._dtype)
        # The file's own scale and offset come first: stored value -> measurement -> input.
        scale = np.multiply(scene.scale, values.scale)
        offset = np.multiply(scene.offset, values.scale) + values.offset
        self._scale = np.tile(scale.astype(np.float32), self._cell_width)
        self._offset = np.tile(offset.astype(np.float32), self._cell_width)
        self._extent = Window(0, 0, scene.height, scene.width)

    def read(self, window: Window, reach: int, out: np.ndarray, valid: np.ndarray) -> int:
        """Fill a window: input values into `out`, validity into `valid`; reflected up to `reach` pixels beyond the scene.

        out: float32 (height, width * bands), or uint16 for bfloat16 bits. valid: u8 (height, width), 0 outside the scene.
        Returns the number of valid pixels. Raises ReadError naming the window and GDAL's reason.
        """
        inside = window.intersect(self._extent)
        total = 0
        if inside != window:
            valid[...] = 0
        for origin, cell in self._cells(inside):
            part = origin.intersect(inside)
            total += normalise(
                cell.pixels, cell.mask, part.relative_to(origin), part.relative_to(window),
                self._nodata, self._has_nodata, self._strict, self._scale, self._offset, self._missing, out, valid,
            )  # fmt: skip
        if inside != window:
            frame = inside.relative_to(window)
            reflect(out, len(self.scene.bands), frame.row, frame.stop[0], frame.col, frame.stop[1], reach)
        return total

    def _cells(self, window: Window) -> Iterator[tuple[Window, Cell]]:
        """The cells that cover a window within the scene, each with the window it covers."""
        height, width = self._cell_height, self._cell_width
        for row in range(window.row // height * height, window.stop[0], height):
            for col in range(window.col // width * width, window.stop[1], width):
                place = Window(row, col, height, width).intersect(self._extent)
                yield place, self._cache.get((self.scene.name, self.scene.path, row, col), partial(self._decode, place))

    def _decode(self, place: Window) -> Cell:
        try:
            dataset = self._cache.datasets.get(self.scene.path)
            bands = list(self.scene.bands)
            pixels = np.empty((place.height, place.width, len(bands)), self._dtype)
            area = (place.col, place.row, place.width, place.height)
            # GDAL wants two dimensions for one band.
            target = pixels if len(bands) > 1 else pixels[:, :, 0]
            dataset.ReadAsArray(*area, buf_obj=target, interleave="pixel", band_list=bands)
            pixels = pixels.reshape(place.height, -1)
            return Cell(pixels, self._mask(dataset, place, area))
        except RuntimeError as error:
            raise ReadError(f"{self.scene.sources}, {place}: {error}") from error

    def _mask(self, dataset: gdal.Dataset, place: Window, area: tuple[int, int, int, int]) -> np.ndarray:
        """Where the file's mask, the one beside it and the area of interest all have data; u8 (h, w), (0, 0) if there is none."""
        found = []
        if self.scene.mask:
            found.append(dataset.GetRasterBand(self.scene.bands[0]).GetMaskBand().ReadAsArray(*area) != 0)
        if self.scene.mask_path:
            found.append(self._cache.datasets.get(self.scene.mask_path).GetRasterBand(1).ReadAsArray(*area) != 0)
        if self._aoi is not None:
            found.append(covered_pixels(self._aoi, place) != 0)
        return np.logical_and.reduce(found).view(np.uint8) if found else _NO_MASK


def _typed_nodata(nodata: tuple[float | None, ...], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """No-data values in the pixels' own type, and whether each can occur in it at all (-9999 cannot in u8)."""
    values, present = np.zeros(len(nodata), dtype), np.zeros(len(nodata), bool)
    for b, value in enumerate(nodata):
        if value is None or np.isnan(value):
            continue
        if dtype.kind == "f" or (np.isfinite(value) and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
            values[b], present[b] = value, True
    return values, present


def set_block_cache(nbytes: int) -> None:
    """Bound GDAL's own cache, which is per process."""
    gdal.SetCacheMax(int(nbytes))
