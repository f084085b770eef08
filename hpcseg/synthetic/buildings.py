"""Pictures of towns from above: houses with roofs of several colours on rotated blocks, streets, shadows, trees and fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError
from hpcseg.kernels import noise, towns
from hpcseg.synthetic.scene import Fields, Sheet, write_with_truth
from hpcseg.tiles import Window

# The plain of the lower Garonne, UTM 31 N.
PLAIN = (300_000.0, 4_800_000.0)
# Metres: edge of districts, of fields and of trees' squares, width of the roads between districts, shadow of the highest house.
DISTRICT, FIELD, TREE, ROAD, SHADOW = 150.0, 60.0, 6.0, 5.0, (5.0, 6.0)
# Least and most, in metres: edge of lots, width of streets; and of the share of lots with a house, in districts that are settled.
LOT, STREET, BUILT = (11.0, 26.0), (4.0, 9.0), (0.55, 0.98)
# In the others: farms.
FARMS = 0.02
# Colours (R, G, B). Roofs: tiles, slate, metal, blue metal, rust, concrete.
ROOFS = np.array([(176, 92, 70), (98, 98, 106), (226, 226, 222), (104, 134, 178), (134, 90, 62), (172, 166, 154)], np.float32)
GROUND = np.array([(96, 112, 68), (158, 138, 104)], np.float32)
FIELDS = np.array([(86, 122, 58), (128, 142, 78), (182, 166, 112), (146, 116, 84), (110, 134, 70)], np.float32)
PAVING, CROWN = np.array((124, 122, 120), np.float32), np.array((62, 92, 44), np.float32)


class Districts(NamedTuple):
    """Districts under a window. edge f32 (h, w), pixels to the next district's border; nearest i32 (h, w), each pixel's district; keys
    u64 (districts,) and plans f64 (districts, 7) as for towns.lay_town; settled bool (districts,)."""

    edge: np.ndarray
    nearest: np.ndarray
    keys: np.ndarray
    plans: np.ndarray
    settled: np.ndarray


@dataclass(frozen=True)
class BuildingScene(Fields):
    """A picture of towns, as a function of the pixel.

    pixel: metres. settled: share of districts with streets and houses; the others are fields with farms. woods: share of open
    ground under trees. swath: the corners hold no data. Raises UsageError.
    """

    pixel: float = 0.4
    settled: float = 0.7
    woods: float = 0.2

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or self.seed < 0 or not 0.05 <= self.pixel <= 2:
            raise UsageError(
                f"synthetic buildings: size {self.height}x{self.width} wants 1 or more, seed {self.seed} 0 or more, pixel {self.pixel} "
                "0.05 to 2 metres"
            )
        for name in ("settled", "woods"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"synthetic buildings: {name} {getattr(self, name)}: wanted a share of 0 to 1")

    def block(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The window's colours, u8 (3, h, w), 0 = no data, and its truth, u8 (h, w): 0 open, 1 building, 255 no data."""
        districts = self._districts(window)
        sun = tuple(metres / self.pixel for metres in SHADOW)
        surface, look = towns.lay_town(tuple(window), districts.nearest, districts.keys, districts.plans, sun)
        road = districts.edge < np.float32(0.5 * ROAD / self.pixel)
        surface[road | (~districts.settled[districts.nearest] & (surface == towns.STREET))] = towns.OPEN
        colours = self._paint(window, surface, look, road, districts)
        truth = (surface == towns.ROOF).astype(np.uint8)
        if self.swath:
            empty = self.margins(window).min(0) < 0
            colours[:, empty], truth[empty] = 0, noise.NODATA
        return colours, truth

    def _districts(self, window: Window) -> Districts:
        size = DISTRICT / self.pixel
        bend = np.zeros((2, *window[2:]), np.float32)
        table, points = self.centres("districts", window, bend, size, 1)
        edge, nearest = noise.nearest_cells(points, tuple(table), tuple(window), bend, size)
        rows, cols = np.mgrid[table.row : table.stop[0], table.col : table.stop[1]]
        look, more = noise.lattice(self.key("plans"), *table), noise.lattice(self.key("shares"), *table)
        settled = look[0] < self.settled
        angle = np.pi / 2 * look[1].astype(np.float64)
        lot, street = (low + (high - low) * value for (low, high), value in zip((LOT, STREET), more, strict=True))
        # A farm's yard is wider than a town's lot.
        lot = np.where(settled, lot, LOT[1]) / self.pixel
        built = np.where(settled, BUILT[0] + (BUILT[1] - BUILT[0]) * (look[0] / max(self.settled, 1e-6)), FARMS)
        plans = [(rows + points[0]) * size, (cols + points[1]) * size, np.cos(angle), np.sin(angle), lot, street / self.pixel, built]
        keys = np.array([noise.mix(self.key("lots"), int(r), int(c)) for r, c in zip(rows.flat, cols.flat, strict=True)], np.uint64)
        return Districts(edge, nearest, keys, np.stack(plans, -1).reshape(-1, 7).astype(np.float64), settled.ravel())

    def _paint(self, window: Window, surface: np.ndarray, look: np.ndarray, road: np.ndarray, districts: Districts) -> np.ndarray:
        """Colours, u8 (3, h, w), 1..255."""
        lit, tint, shadow = look
        roof = surface == towns.ROOF
        paved = road | (surface == towns.STREET)
        colours = self._open_ground(window, districts)
        colours[paved] = PAVING
        trees = towns.plant(self.key("trees"), tuple(window), self._wood(window), TREE / self.pixel)
        crown = (trees > 0) & ~roof & ~paved
        colours[crown] = CROWN * trees[crown][:, None] * np.float32(1.5)
        light = np.where(roof, np.float32(0.82) + np.float32(0.24) * lit, np.float32(1) - np.float32(0.55) * shadow)
        family = self._roof_family(districts)[districts.nearest]
        # Most houses of a district share a roof; the others have any.
        kind = np.where(tint < 0.6, family, (tint * 97).astype(np.int64) % len(ROOFS))
        colours[roof] = ROOFS[kind[roof]] * (np.float32(0.8) + np.float32(0.4) * (tint[roof] * 31 % 1))[:, None]
        grain = np.float32(4) * self.field("grain", window, 3.0, 2)
        return np.clip((colours * light[..., None] + grain[..., None]).transpose(2, 0, 1) + np.float32(0.5), 1, 255).astype(np.uint8)

    def _roof_family(self, districts: Districts) -> np.ndarray:
        """The roofs of each district, index of ROOFS."""
        return ((districts.keys >> np.uint64(20)) % np.uint64(len(ROOFS))).astype(np.int64)

    def _wood(self, window: Window) -> np.ndarray:
        """Chance of a tree, f32 (h, w)."""
        field = self.field("woods", window, 90.0 / self.pixel, 3)
        return np.clip(np.float32(self.woods) * (np.float32(1) + field), 0, 1)

    def _open_ground(self, window: Window, districts: Districts) -> np.ndarray:
        """Gardens and bare soil in towns, fields outside: colours f32 (h, w, 3)."""
        dry = np.clip(np.float32(0.5) + np.float32(0.45) * self.field("dry", window, 40.0 / self.pixel, 4), 0, 1)[..., None]
        ground = GROUND[0] * (1 - dry) + GROUND[1] * dry
        bend = np.zeros((2, *window[2:]), np.float32)
        size = FIELD / self.pixel
        table, points = self.centres("fields", window, bend, size, 1)
        _, nearest = noise.nearest_cells(points, tuple(table), tuple(window), bend, size)
        crop, tone = noise.lattice(self.key("crops"), *table).reshape(2, -1)
        fields = FIELDS[(crop * len(FIELDS)).astype(np.int64)] * (np.float32(0.85) + np.float32(0.3) * tone)[:, None]
        settled = districts.settled[districts.nearest][..., None]
        return np.where(settled, ground, fields[nearest] * (np.float32(0.94) + np.float32(0.12) * dry))


def buildings(directory: Path | str, count: int, height: int, width: int, seed: int, *, block: int = 512, **look: object) -> list[Path]:
    """Write `count` scenes of towns buildings_000.tif .. and their truth truth/buildings_000.tif ..; returns the paths, scene before truth.

    Scenes are RGB u8, truth is u8 (0 open, 1 building, 255 no data); UTM 31 N. look: of BuildingScene. block: edge of what is in
    memory at a time. Raises UsageError.
    """
    if min(count, block) < 1:
        raise UsageError(f"synthetic buildings: count {count} and block {block} want 1 or more")
    scenes = [BuildingScene(seed, index, height, width, **look) for index in range(count)]  # type: ignore[arg-type]
    directory = Path(directory)
    written: list[Path] = []
    for scene in scenes:
        paths = directory / f"buildings_{scene.index:03d}.tif", directory / "truth" / f"buildings_{scene.index:03d}.tif"
        write_with_truth(scene, *paths, Sheet(32631, PLAIN, scene.pixel).place(scene), block)
        written += paths
    return written
