"""Radar scenes of rivers and lakes (C band, VV): speckle, wind on water, radar shadow on land, border noise, and floods.

Levels are those that Sentinel-1 measures over lowland: calm water at -20 dB, wind on it up to 6 dB more, land at -8 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from hpcseg.errors import UsageError
from hpcseg.kernels import noise, speckle
from hpcseg.synthetic.scene import Fields, Sheet, write_scene, write_with_truth
from hpcseg.tiles import Window

DRY, WATER, FLOOD = 0, 1, 2
# The lower Garonne, UTM 31 N.
GARONNE = Sheet(32631, (300_000.0, 4_900_000.0))

# Backscatter in dB. Water: calm, what wind adds at most, deviations of its slow and, under wind, its fine texture.
CALM, WIND, SLOW, WAVES = -20.0, 6.0, 0.3, 0.8
# Land: its mean, deviations of regions and of fine texture, half range of parcels, what woods add, what towns and their texture add.
LAND, REGION, GRAIN, PARCEL, WOODS, TOWN, TOWN_GRAIN = -8.0, 1.0, 0.6, 2.0, 1.5, 4.0, 2.5
# Slopes: what a slope of one deviation adds where it faces the radar; radar shadow, near the noise floor of the instrument.
SLOPE, SHADOW = 1.5, -21.0
# Border noise: its level, and the scale of how far it reaches into the swath, in pixels.
BORDER, REACH = -50.0, 14.0
# Sizes in pixels of the coarsest structures.
LAKES, COURSES, WINDS, PARCELS, HILLS, RELIEF = 240.0, 480.0, 220.0, 40.0, 700.0, 60.0
# Deviation of the relief's difference between pixels, to make slopes of deviation 1.
STEEP = 0.0298
# The levels of water and shadow are found on windows of this edge, at most so many of them, spread evenly over the scene.
SAMPLE, SAMPLES = 64, 1024

Scale = Literal["amplitude", "power", "db"]


class Levels(NamedTuple):
    """From which wetness on there is water, and water when flooded; from which steepness away from the radar there is shadow."""

    water: float
    flood: float
    shadow: float


@dataclass(frozen=True)
class SarScene(Fields):
    """A radar picture of a river landscape, as a function of the pixel.

    water: share of the valid pixels under permanent water. flood: share flooded besides. wind: share of water that wind roughens.
    shadow: share of steep land in radar shadow. looks: of the speckle. scale: of the values. swath: the corners hold no data, and
    border noise lies along the edges. Raises UsageError.
    """

    dtype = "f4"
    bands = 1

    water: float = 0.05
    flood: float = 0.0
    wind: float = 0.3
    shadow: float = 0.02
    looks: float = 4.4
    scale: Scale = "power"

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("water", "flood", "wind", "shadow")}
        for name, value in (shares | {"water and flood": self.water + self.flood}).items():
            if not 0 <= value < 1:
                raise UsageError(f"synthetic radar: {name} {value}: wanted a share of 0 to below 1")
        if min(self.height, self.width) < 1 or self.seed < 0 or self.looks < 1:
            raise UsageError(
                f"synthetic radar: size {self.height}x{self.width} and looks {self.looks} want 1 or more, seed {self.seed} 0 or more"
            )
        if self.scale not in ("amplitude", "power", "db"):
            raise UsageError(f"synthetic radar: scale {self.scale}: wanted amplitude, power or db")

    def block(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The window's backscatter, f32 (1, h, w), 0 = no data, and its truth, u8 (h, w): 0 dry, 1 permanent water, 2 flood, 255 no data.

        With a flood it is the scene while flooded. Border noise is no data in the truth.
        """
        wet = self._wetness(window)
        truth = np.where(wet > self.levels.water, WATER, np.where(wet > self.levels.flood, FLOOD, DRY)).astype(np.uint8)
        inside, noisy = self._frame(window)
        truth[~inside | noisy] = noise.NODATA
        return self._picture(window, wet > self.levels.flood, "after"), truth

    def before(self, window: Window) -> np.ndarray:
        """The window before the flood, in other wind and with speckle of its own: f32 (1, h, w), 0 = no data."""
        return self._picture(window, self._wetness(window) > self.levels.water, "before")

    @cached_property
    def levels(self) -> Levels:
        """The levels that give the shares asked for, from the scene's own pixels; its size and number decide them, no window."""
        ny, nx = (-(-edge // SAMPLE) for edge in (self.height, self.width))
        every = max(1.0, (ny * nx / SAMPLES) ** 0.5)
        wet, steep = [], []
        for row in np.arange(0, ny, every).astype(int):
            for col in np.arange(0, nx, every).astype(int):
                window = Window(int(row) * SAMPLE, int(col) * SAMPLE, SAMPLE, SAMPLE).intersect(Window(0, 0, self.height, self.width))
                inside, noisy = self._frame(window)
                seen = inside & ~noisy
                wet.append(self._wetness(window)[seen])
                steep.append(self._steepness(window)[seen])
        wetness, steepness = np.concatenate(wet), np.concatenate(steep)
        water, flood = (_level(wetness, share) for share in (self.water, self.water + self.flood))
        return Levels(water, flood, max(0.0, _level(steepness, self.shadow)))

    def _picture(self, window: Window, water: np.ndarray, date: str) -> np.ndarray:
        """What the radar records, f32 (1, h, w), of a window and its water, bool (h, w), on one of the two dates."""
        inside, noisy = self._frame(window)
        level = np.where(water, self._sea(window, date), self._land(window))
        level[noisy] = BORDER
        factor = speckle.speckle(self.key(f"speckle {date}"), *window, self._quantiles)
        power = np.power(np.float32(10), level.astype(np.float32) / np.float32(10)) * factor
        values = {"power": lambda: power, "amplitude": lambda: np.sqrt(power), "db": lambda: _db(power)}[self.scale]()
        values[~inside] = 0
        return values[None]

    @cached_property
    def _quantiles(self) -> np.ndarray:
        return speckle.gamma_quantiles(self.looks)

    def _wetness(self, window: Window) -> np.ndarray:
        """How likely a pixel is under water: see speckle.wetness."""
        more = window._replace(height=window.height + 1, width=window.width + 1)
        width = np.clip(np.float32(1) + np.float32(0.35) * self.field("river width", window, 300.0, 3), 0.3, 3)
        return speckle.wetness(self.field("lakes", window, LAKES, 5), self.field("courses", more, COURSES, 4), width)

    def _slope(self, window: Window) -> np.ndarray:
        """Slope towards the radar, which looks from the left, f32 (h, w), deviation 1 in the hills, 0 in the plains."""
        relief = self.field("relief", window._replace(width=window.width + 1), RELIEF, 3)
        hills = np.clip(self.field("hills", window, HILLS, 2) + np.float32(0.3), 0, 1)
        return hills * (relief[:, 1:] - relief[:, :-1]) / np.float32(STEEP)

    def _steepness(self, window: Window) -> np.ndarray:
        return -self._slope(window)

    def _sea(self, window: Window, date: str) -> np.ndarray:
        """Backscatter of water in dB, f32 (h, w)."""
        level = np.float32(NormalDist().inv_cdf(1 - self.wind)) if self.wind else np.float32(99)
        rough = np.clip(2 * (self.field(f"wind {date}", window, WINDS, 3) - level), 0, 1)
        waves = np.float32(WIND) + np.float32(WAVES) * self.field(f"waves {date}", window, 12.0, 2)
        return np.float32(CALM) + np.float32(SLOW) * self.field(f"slow {date}", window, 200.0, 2) + rough * waves

    def _land(self, window: Window) -> np.ndarray:
        """Backscatter of land in dB, f32 (h, w): parcels, woods, towns, slopes, and shadow behind the steep ones."""
        slope = self._slope(window)
        level = np.float32(LAND) + np.float32(REGION) * self.field("region", window, 600.0, 3) + self._parcels(window)
        level += np.float32(GRAIN) * self.field("grain", window, 8.0, 2)
        level += np.float32(WOODS) * (self.field("woods", window, 160.0, 4) > 0.8)
        town = np.clip(4 * (self.field("towns", window, 200.0, 3) - np.float32(1.5)), 0, 1)
        level += town * (np.float32(TOWN) + np.float32(TOWN_GRAIN) * self.field("houses", window, 4.0, 1))
        level += np.float32(SLOPE) * np.clip(slope, -2, 3)
        return np.where(-slope > self.levels.shadow, np.float32(SHADOW), level)

    def _parcels(self, window: Window) -> np.ndarray:
        """What each parcel's crop adds in dB, f32 (h, w)."""
        bend = np.float32(4) * np.stack([self.field(f"bend {axis}", window, 90.0, 2) for axis in "yx"])
        table, points = self.centres("parcels", window, bend, PARCELS, 1)
        _, nearest = noise.nearest_cells(points, tuple(table), tuple(window), bend, PARCELS)
        crop = noise.lattice(self.key("crops"), *table)[0]
        return np.float32(PARCEL) * (2 * crop.ravel()[nearest] - 1)

    def _frame(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """bool (h, w) each: within the swath, and under border noise."""
        if not self.swath:
            return np.ones(window[2:], bool), np.zeros(window[2:], bool)
        upper, right, lower, left = self.margins(window)
        pixels = np.minimum(np.minimum(upper, lower) * self.height, np.minimum(left, right) * self.width)
        reach = np.float32(REACH) * np.clip(np.float32(0.6) + self.field("border", window, 60.0, 3), 0, 2)
        return pixels >= 0, (pixels >= 0) & (pixels < reach)


def _level(values: np.ndarray, share: float) -> float:
    """The value that `share` of the values exceed."""
    if not share or not values.size:
        return np.inf
    k = min(values.size - 1, round((1 - share) * values.size))
    return float(np.partition(values, k)[k])


def _db(power: np.ndarray) -> np.ndarray:
    """Decibels, never exactly 0, which is no data."""
    values = np.float32(10) * np.log10(power)
    return np.where(values == 0, np.float32(1e-6), values)


def sar(directory: Path | str, count: int, height: int, width: int, seed: int, *, block: int = 512, **look: object) -> list[Path]:
    """Write `count` radar scenes sar_000.tif .. and their truth truth/sar_000.tif ..; returns the paths, truth last of each scene.

    Scenes are f32, truth is u8 (0 dry, 1 water, 2 flood, 255 no data); UTM 31 N, 10 m. With a flood the scene before it is
    before/sar_000.tif. look: of SarScene. block: edge of what is in memory at a time. Raises UsageError.
    """
    if min(count, block) < 1:
        raise UsageError(f"synthetic radar: count {count} and block {block} want 1 or more")
    scenes = [SarScene(seed, index, height, width, **look) for index in range(count)]  # type: ignore[arg-type]
    directory = Path(directory)
    written: list[Path] = []
    for scene in scenes:
        name, place = f"sar_{scene.index:03d}.tif", GARONNE.place(scene)
        path, before, truth = directory / name, directory / "before" / name, directory / "truth" / name
        write_with_truth(scene, path, truth, place, block)
        if scene.flood:
            before.parent.mkdir(exist_ok=True)
            write_scene(scene, before, scene.before, place, block)
        written += [path, before, truth] if scene.flood else [path, truth]
    return written
