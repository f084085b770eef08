"""What all synthetic scenes share: keyed random fields, the swath's frame, and files that know where they lie."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from hpcseg.georeference import Georeference
from hpcseg.kernels import noise
from hpcseg.raster import create_geotiff, epsg_wkt
from hpcseg.tiles import Grid, Window

# Share of each edge that a swath leaves empty at the corners.
TILT = 0.14


@dataclass(frozen=True)
class Fields:
    """A scene as a function of the pixel: all that is random in it comes from fields of its own keys.

    dtype, bands: of its pictures. swath: the corners hold no data, which is 0.
    """

    dtype: ClassVar[str] = "u1"
    bands: ClassVar[int] = 3

    seed: int
    index: int
    height: int
    width: int
    _: KW_ONLY
    swath: bool = False

    def block(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The window's picture, (bands, h, w) of dtype, and its truth."""
        raise NotImplementedError

    def key(self, name: str) -> np.uint64:
        """The key of one of the scene's fields."""
        return np.uint64(noise.mix(np.uint64(noise.mix(np.uint64(self.seed), self.index, 0)), zlib.crc32(name.encode()), 0))

    def field(self, name: str, window: Window, size: float, octaves: int) -> np.ndarray:
        """Noise of mean 0 and variance 1, f32 (h, w); size: of its coarsest structure in pixels."""
        return noise.fractal_noise(self.key(name), *window, size, octaves)

    def centres(self, name: str, window: Window, bend: np.ndarray, size: float, margin: int) -> tuple[Window, np.ndarray]:
        """The cells of `size` pixels under a bent window and `margin` more on each side, and their centres, f32 (2, ny, nx), 0..1."""
        low = [int((start + off.min()) // size) - margin for start, off in zip(window[:2], bend, strict=True)]
        high = [int((stop + off.max()) // size) + 1 + margin for stop, off in zip(window.stop, bend, strict=True)]
        table = Window(low[0], low[1], high[0] - low[0], high[1] - low[1])
        return table, np.float32(0.1) + np.float32(0.8) * noise.lattice(self.key(name), *table)

    def margins(self, window: Window) -> np.ndarray:
        """How far inside the four-cornered swath whose corners lie on the scene's edges: f64 (4, h, w), per edge, in shares of the scene.

        A pixel lies in the swath if all four are 0 or more.
        """
        row, col = np.ogrid[window.row : window.stop[0], window.col : window.stop[1]]
        y, x = (row + 0.5) / self.height, (col + 0.5) / self.width
        slope = TILT / (1 - TILT)
        upper, right = y - slope * (x - TILT), 1 - x - slope * (y - TILT)
        return np.stack([upper, right, 1 - y - slope * (1 - x - TILT), x - slope * (1 - y - TILT)])


@dataclass(frozen=True)
class Sheet:
    """Where on the ground the scenes of one kind lie: the reference system, the upper left corner (x, y) of the first, metres a pixel."""

    epsg: int
    origin: tuple[float, float]
    pixel: float = 10.0

    def place(self, scene: Fields) -> Georeference:
        """North up; scenes lie side by side, eight in a row."""
        row, col = divmod(scene.index, 8)
        x, y = self.origin[0] + col * scene.width * self.pixel, self.origin[1] - row * scene.height * self.pixel
        return Georeference(wkt=epsg_wkt(self.epsg), transform=(x, self.pixel, 0.0, y, 0.0, -self.pixel), axes="projected")


# Fram Strait, 80 N 8 W: sea ice that drifts south along Greenland.
FRAM = Sheet(3413, (600_000.0, -820_000.0))


def write_scene(scene: Fields, path: Path | str, make_block: Callable[[Window], np.ndarray], place: Georeference, block: int) -> None:
    """Write a picture as GeoTIFF; make_block(window) returns its pixels, (bands, h, w) of the scene's dtype.

    Blocks of `block` pixels come row by row, each pixel once. That of a swath declares its no data and has overviews.
    """
    grid, shape = Grid(scene.height, scene.width, block, 0), (scene.bands, scene.height, scene.width)
    nodata = 0 if scene.swath else None
    with create_geotiff(path, shape, scene.dtype, place, nodata=nodata, overviews=scene.swath) as put:
        for tile in range(grid.size):
            window = grid.core_window(tile)
            put(window, make_block(window))


def write_with_truth(scene: Fields, path: Path, truth: Path, place: Georeference, block: int) -> None:
    """Write a scene and, in the same pass, its truth, u8 (h, w), 255 = no data; their folders are made."""
    for each in (path, truth):
        each.parent.mkdir(parents=True, exist_ok=True)
    with create_geotiff(truth, (1, scene.height, scene.width), "u1", place, nodata=noise.NODATA) as put_truth:

        def make_block(window: Window) -> np.ndarray:
            picture, labels = scene.block(window)
            put_truth(window, labels[None])
            return picture

        write_scene(scene, path, make_block, place, block)
