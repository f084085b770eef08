"""Pictures of sea ice: floes, leads, young ice, melt ponds, thin cloud and its shadow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError
from hpcseg.kernels import noise
from hpcseg.synthetic.camera import Camera, draw_camera
from hpcseg.synthetic.scene import FRAM, Fields, write_with_truth
from hpcseg.tiles import Window

# Deviation of the sum of two uniform values of range 1.
SPREAD = 6.0**-0.5
# Where the cloud lies whose shadow falls on a pixel: rows down, columns right.
SHADOW = (45, 60)


@dataclass(frozen=True)
class Floes:
    """One generation of floes. size: in pixels. pack: ice concentration that half of them need. gap: water around, in sizes."""

    size: float
    pack: float
    gap: float


FLOES = (Floes(430.0, 0.75, 0.05), Floes(170.0, 0.1, 0.07), Floes(62.0, 0.0, 0.07), Floes(21.0, -0.1, 0.1))
# Raises the share of ice; 0 leaves half of the sea to it.
PACK = 0.45
# Leads of a stated width: distance between them, as a multiple of the width and in pixels besides; how far their width varies;
# from which noise on they are open water instead of thin ice; brightness of the thin ice in its class, mean and deviation.
LEAD_SPACING = 3.0, 200.0
LEAD_VARIATION = 0.15
LEAD_OPEN = 1.0
LEAD_TONE = 0.45, 0.15


class Cells(NamedTuple):
    """Cells under a window.

    edge f32 (h, w) and nearest i32 (h, w): of nearest_cells. Per cell: look f32 (2, ny, nx), random, 0..1; pack f32 (ny, nx),
    ice concentration, 0 is the mean.
    """

    edge: np.ndarray
    nearest: np.ndarray
    look: np.ndarray
    pack: np.ndarray


@dataclass(frozen=True)
class IceScene(Fields):
    """A picture of the marginal ice zone, as a function of the pixel.

    scale: size of floes, 1 = up to 4 km at 10 m. clouds: share of the scene under thin cloud. ponds: share of thick ice under
    melt water. swath: the corners hold no data. degrade: taken by a camera that seed and index draw, see draw_camera.
    lead_width: above 0, closed pack ice with leads and fields of thin ice of about that width in pixels, whatever the scale, in
    place of floes, to judge filters by width; a part of them is open water.
    """

    scale: float = 1.0
    clouds: float = 0.1
    ponds: float = 0.0
    degrade: bool = False
    lead_width: float = 0.0

    def block(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The window's colours, u8 (3, h, w), 0 = no data, and its truth, u8 (h, w): 0 water, 1 thin, 2 thick, 255 no data."""
        picture, surface = self._seen_by(draw_camera(self.seed, self.index), window) if self.degrade else self._clear(window)
        if self.swath:
            empty = self.margins(window).min(0) < 0
            picture[:, empty], surface[empty] = 0, noise.NODATA
        return picture, surface

    def _clear(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Colours and truth as they are, without a frame."""
        surface, tone, ridge = self._surface(window)
        colours = noise.paint_ice(surface, tone, self._shade(window, ridge), self._ponds(window))
        return noise.veil(colours, *self._cloud(window)), surface

    def _seen_by(self, camera: Camera, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Colours as a camera records them, and the truth; the blur looks beyond the window, and the scene."""
        picture, surface = self._clear(window.grow(camera.radius))
        inner = slice(camera.radius, camera.radius + window.height), slice(camera.radius, camera.radius + window.width)
        uniform = np.stack([noise.lattice(self.key(f"grain {band}"), *window).sum(0) - np.float32(1) for band in range(3)])
        grain = np.float32(camera.grain / SPREAD) * uniform
        return noise.expose(picture, camera.radius, camera.response, grain), surface[inner]

    def _field(self, name: str, window: Window, size: float, octaves: int, unit: float = 1.0) -> np.ndarray:
        """Noise of the scene in a window that is counted in `unit` pixels; size in pixels at scale 1."""
        return self.field(name, window, size * self.scale / unit, octaves)

    def _bend(self, window: Window) -> np.ndarray:
        """What is added to the pixels' positions so that straight borders become natural ones, f32 (2, h, w)."""
        return np.float32(9.0 * self.scale) * np.stack([self._field(f"bend {axis}", window, 150.0, 4) for axis in "yx"])

    def _cells(self, name: str, window: Window, bend: np.ndarray, size: float) -> Cells:
        """The cells of `size` pixels at scale 1 that the window's pixels lie in."""
        edge_px = size * self.scale
        table, points = self.centres(name, window, bend, edge_px, 1)
        edge, index = noise.nearest_cells(points, tuple(table), tuple(window), bend, edge_px)
        look, pack = noise.lattice(self.key(name + " look"), *table), self._field("pack", table, 1500.0, 3, edge_px)
        return Cells(edge, index, look, pack)

    def _surface(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class u8 (h, w), brightness within it f32 (h, w), 0..1, and distance to the next ridge in pixels f32 (h, w)."""
        bend = self._bend(window)
        thick, bright, ridge = self._thick(window, bend)
        if self.lead_width:
            surface = self._wide_leads(window, bend)
            mean, deviation = LEAD_TONE
            age = np.clip(np.float32(mean) + np.float32(deviation) * self._field("age", window, 600.0, 3), 0, 1)
            return surface, np.where(surface == noise.THICK, bright, age), ridge
        thin, dark = self._thin(window, bend)
        surface = np.where(thick > 0, self._leads(window, bend), thin.astype(np.uint8))
        bright = np.where(thick > 0, np.where(surface == noise.THICK, bright, np.float32(0.4)), dark)
        return surface, bright, ridge

    def _thick(self, window: Window, bend: np.ndarray) -> np.ndarray:
        """Floes from the smallest to the largest, f32 (3, h, w): there or not, brightness, distance to the next ridge."""
        scene = np.zeros((5, window.height, window.width), np.float32)
        scene[2], scene[4] = 99, 99
        for floes in reversed(FLOES):
            cells = self._cells(f"floes {floes.size}", window, bend, floes.size)
            lives = cells.pack + PACK + 1.6 * (cells.look[0] - 0.5) > floes.pack
            water = floes.size * self.scale * floes.gap * (0.3 + 2.2 * cells.look[1] * np.exp(-0.6 * cells.pack))
            gap = np.where(lives, water, np.inf).astype(np.float32).ravel()
            if self.lead_width:
                gap[:] = -1
            scene = noise.lay_floes(cells.edge, cells.nearest, gap, cells.look[0].ravel(), scene)
        return scene[:3]

    def _thin(self, window: Window, bend: np.ndarray) -> np.ndarray:
        """Sheets of young ice on open water, f32 (2, h, w): there or not, and brightness."""
        cells = self._cells("sheets", window, bend, 260.0)
        growth = cells.pack + np.float32(2.2) * cells.look[0] - np.float32(1.0)
        age = np.float32(0.22) + np.float32(0.53) * cells.look[1]
        return noise.young_ice(cells.edge, cells.nearest, growth.ravel(), age.ravel(), self._field("grease", window, 90.0, 4))

    def _leads(self, window: Window, bend: np.ndarray) -> np.ndarray:
        """Long leads through the floes, u8 (h, w): WATER, THIN where they have frozen over, THICK where there is none."""
        cells = self._cells("leads", window, bend, 1100.0)
        inside = np.where(cells.look[0] < 0.6, noise.THIN, noise.WATER).astype(np.uint8).ravel()
        width = np.float32(6.0 * self.scale) * (self._field("opening", window, 500.0, 2) + np.float32(0.1))
        return np.where(cells.edge < width, inside[cells.nearest], np.uint8(noise.THICK))

    def _wide_leads(self, window: Window, bend: np.ndarray) -> np.ndarray:
        """Leads of the stated width through closed ice, u8 (h, w): THIN, WATER where they are open, THICK between them."""
        times, more = LEAD_SPACING
        edge_px = times * self.lead_width + more
        table, points = self.centres("wide leads", window, bend, edge_px, 2)
        distance = noise.border_distance(points, tuple(table), tuple(window), bend, edge_px)
        vary = np.clip(np.float32(1) + np.float32(LEAD_VARIATION) * self.field("width", window, 500.0, 2), 0.5, 1.5)
        inside = np.where(self.field("open", window, self.lead_width + 300.0, 2) > LEAD_OPEN, noise.WATER, noise.THIN)
        return np.where(distance < np.float32(self.lead_width / 2) * vary, inside, noise.THICK).astype(np.uint8)

    def _shade(self, window: Window, ridge: np.ndarray) -> np.ndarray:
        """Relief lit from the upper left, and ridges, in grey values f32 (h, w)."""
        relief = self._field("relief", window._replace(height=window.height + 1, width=window.width + 1), 28.0, 5)
        return noise.shade(relief, ridge, self._field("rough", window, 130.0, 2))

    def _ponds(self, window: Window) -> np.ndarray:
        """Depth of melt ponds, f32 (h, w), 0..1."""
        if not self.ponds:
            return np.zeros(window[2:], np.float32)
        level = np.float32(NormalDist().inv_cdf(1 - self.ponds))
        return np.clip(4 * (self._field("ponds", window, 26.0, 3) - level), 0, 1)

    def _cloud(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Opacity of thin cloud and the light its shadow takes, f32 (h, w)."""
        if not self.clouds:
            return np.zeros(window[2:], np.float32), np.zeros(window[2:], np.float32)
        level = np.float32(NormalDist().inv_cdf(1 - self.clouds))
        down, right = SHADOW
        field = self._field("cloud", window._replace(height=window.height + down, width=window.width + right), 700.0, 5)
        opacity = np.clip(np.float32(0.4) * (field - level), 0, np.float32(0.8))
        return opacity[: window.height, : window.width], np.float32(0.5) * opacity[down:, right:]


def ice(
    directory: Path | str, count: int, height: int, width: int, seed: int, *,
    scale: float = 1.0, clouds: float = 0.1, ponds: float = 0.0, swath: bool = False, degrade: bool = False,
    lead_width: float = 0.0, block: int = 512,
) -> list[Path]:  # fmt: skip
    """Write `count` sea-ice scenes ice_000.tif .. and their truth truth/ice_000.tif ..; returns the paths, scene before truth.

    Scenes are RGB u8, truth is u8 (0 open water, 1 thin ice, 2 thick ice, 255 no data); EPSG:3413, 10 m. scale, clouds,
    ponds, swath, degrade and lead_width are those of IceScene. block: edge of what is in memory at a time. Raises UsageError.
    """
    if min(count, height, width, block) < 1 or seed < 0 or scale <= 0 or lead_width < 0 or not (0 <= clouds < 1 and 0 <= ponds < 1):
        raise UsageError(
            f"synthetic ice: count {count}, size {height}x{width}, block {block} want 1 or more, seed {seed} 0 or more, "
            f"scale {scale} more than 0, clouds {clouds} and ponds {ponds} a share of 0 to below 1, lead width {lead_width} 0 or more"
        )
    directory = Path(directory)
    written: list[Path] = []
    for index in range(count):
        scene = IceScene(seed, index, height, width, scale, clouds, ponds, degrade, lead_width, swath=swath)
        paths = directory / f"ice_{index:03d}.tif", directory / "truth" / f"ice_{index:03d}.tif"
        write_with_truth(scene, *paths, FRAM.place(scene), block)
        written += paths
    return written
