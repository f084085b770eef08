"""Pictures of animals that rest along cracks in sea ice, among what looks like them: melt holes, blocks of ice, shadows of ridges."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError
from hpcseg.georeference import Georeference
from hpcseg.kernels.bodies import lay_bodies
from hpcseg.kernels.noise import border_distance, lattice
from hpcseg.synthetic.scene import FRAM, Fields, Sheet, write_scene
from hpcseg.tiles import Window

# Metres: edge of the plates of ice between cracks, half of a crack's mean width, edge of the squares that hold one thing at most.
PLATE, CRACK, SQUARE = 40.0, 0.35, 4.0
# Where in its square a thing lies: from .2 to .8 of its edge.
FROM, SPAN = 0.2, 0.6
# Animals and what resembles them: half the length and half the width in metres, the smallest and the largest.
LENGTH, WIDTH = (0.9, 1.25), (0.3, 0.42)
# A hole as large, and how round; a shadow half as wide and three times as long; the taper of an animal's body.
LARGE, ROUND, NARROW, LONG, TAPER = 0.62, 0.85, 0.5, 3.0, 0.45
# How near animals lie to a crack, in metres from its middle line.
NEAR = (0.9, 3.2)
# Chance of a square near a crack to hold an animal in the middle of a herd.
HERD = 0.8
# Chances of any square, where `lookalikes` is 1: holes, blocks, shadows; near cracks three times as much.
HOLES, BLOCKS, SHADOWS, MORE = 0.08, 0.04, 0.02, 3.0
# Colours (R, G, B): snow, water, thin ice in narrow cracks; fur, wet ice and shade all look alike, from dark to less dark.
SNOW, WATER, THIN = (np.array(each, np.float32) for each in ((222, 226, 230), (34, 44, 54), (128, 140, 150)))
DARK = np.array([(52, 48, 46), (112, 106, 102)], np.float32)
ANIMAL, HOLE, BLOCK, SHADOW = 1, 2, 3, 4


class Things(NamedTuple):
    """What lies in squares. kind: u8 (n,). row, col: f64 (n,), of the middle, in the scene. angle: f64 (n,). look: f32 (2, n), size and
    tone, 0..1."""

    kind: np.ndarray
    row: np.ndarray
    col: np.ndarray
    angle: np.ndarray
    look: np.ndarray

    def pick(self, keep: np.ndarray) -> Things:
        """Some of them, bool (n,)."""
        return Things(*(each[..., keep] for each in self))


@dataclass(frozen=True)
class AnimalScene(Fields):
    """A picture of animals on ice, as a function of the pixel.

    pixel: metres. density: of animals, 1 = some 60 in a hectare. lookalikes: how many things resemble them, 1 = some 110 in a hectare.
    swath: the corners hold no data. Raises UsageError.
    """

    pixel: float = 0.2
    density: float = 0.5
    lookalikes: float = 1.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or self.seed < 0 or not 0.05 <= self.pixel <= 1:
            raise UsageError(
                f"synthetic animals: size {self.height}x{self.width} wants 1 or more, seed {self.seed} 0 or more, pixel {self.pixel} "
                "0.05 to 1 metre"
            )
        for name in ("density", "lookalikes"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"synthetic animals: {name} {getattr(self, name)}: wanted 0 to 1")

    def block(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The window's colours, u8 (3, h, w), 0 = no data, and the middles of the animals in it, f64 (n, 2), row and column in the scene,
        in raster order."""
        # What lies beyond the window reaches into it.
        wide = window.grow(math.ceil((LONG * LENGTH[1] + 0.5) / self.pixel))
        crack, opening = self._cracks(wide)
        things = self._things(wide, crack)
        picture = self._ice(wide, crack, opening)
        self._lay(things, wide, picture)
        inner = window.relative_to(wide).slices
        grain = np.float32(4) * self.field("grain", window, 2.0, 2)
        colours = np.clip(picture[inner].transpose(2, 0, 1) + grain + np.float32(0.5), 1, 255).astype(np.uint8)
        animals = things.pick((things.kind == ANIMAL) & _inside(things, window))
        if self.swath:
            empty = self.margins(window).min(0) < 0
            colours[:, empty] = 0
            rows, cols = np.floor([animals.row - window.row, animals.col - window.col]).astype(np.int64)
            animals = animals.pick(~empty[rows, cols])
        points = np.stack([animals.row, animals.col], -1)
        return colours, points[np.lexsort((points[:, 1], points[:, 0]))]

    def _cracks(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the middle of the next crack, and half its width there, f32 (h, w) each, in metres."""
        size = PLATE / self.pixel
        bend = np.float32(3 / self.pixel) * np.stack([self.field(f"bend {axis}", window, 20 / self.pixel, 3) for axis in "yx"])
        table, points = self.centres("plates", window, bend, size, 2)
        distance = border_distance(points, tuple(table), tuple(window), bend, size) * np.float32(self.pixel)
        vary = np.float32(1) + np.float32(0.8) * self.field("opening", window, 60 / self.pixel, 2)
        return distance, np.float32(CRACK) * np.clip(vary, 0, 3)

    def _things(self, window: Window, crack: np.ndarray) -> Things:
        """What lies in a window, which the cracks' distances cover."""
        size = SQUARE / self.pixel
        low, high = (math.floor(start / size) for start in window[:2]), (math.floor(stop / size) + 1 for stop in window.stop)
        (top, bottom), (left, right) = zip(low, high, strict=True)
        table = Window(top, left, bottom - top, right - left)
        rows, cols = np.mgrid[top:bottom, left:right]
        place = FROM + SPAN * lattice(self.key("middles"), *table).astype(np.float64)
        chance, turn = lattice(self.key("kinds"), *table)
        things = Things(
            np.zeros(rows.size, np.uint8), ((rows + place[0]) * size).ravel(), ((cols + place[1]) * size).ravel(),
            2 * np.pi * turn.ravel().astype(np.float64), lattice(self.key("looks"), *table).reshape(2, -1),
        )  # fmt: skip
        here = _inside(things, window)
        herd = np.clip(np.float32(0.5) + self.field("herds", table, 30 / SQUARE, 2), 0, 1).ravel()[here]
        things, chance = things.pick(here), chance.ravel()[here]
        rows, cols = (np.floor(each).astype(np.int64) for each in (things.row - window.row, things.col - window.col))
        return self._named(things, chance, crack[rows, cols], herd)

    def _named(self, things: Things, chance: np.ndarray, crack: np.ndarray, herd: np.ndarray) -> Things:
        """Those of the things that are there, with their kinds. chance: uniform. crack: metres to the next. herd: 0..1."""
        near = (crack > NEAR[0]) & (crack < NEAR[1])
        animals = np.where(near, HERD * self.density * herd, 0)
        others = self.lookalikes * np.where(near, MORE, 1) * np.array([[HOLES], [BLOCKS], [SHADOWS]])
        steps = np.cumsum(np.concatenate([animals[None], others]), 0)
        kind = ((chance >= steps).sum(0) + 1).astype(np.uint8)
        return things._replace(kind=kind).pick(kind <= SHADOW)

    def _ice(self, window: Window, crack: np.ndarray, opening: np.ndarray) -> np.ndarray:
        """Snow with drifts, and cracks: colours f32 (h, w, 3)."""
        drifts = np.float32(9) * self.field("drifts", window, 12 / self.pixel, 4)
        drifts += np.float32(7) * self.field("fields", window, 80 / self.pixel, 2)
        frozen = np.clip(np.float32(2) - 4 * opening, 0, 1)[..., None]
        share = np.clip((opening - crack) / np.float32(self.pixel) + np.float32(0.5), 0, 1)[..., None]
        snow = SNOW + drifts[..., None]
        return snow + share * (frozen * THIN + (1 - frozen) * WATER - snow)

    def _lay(self, things: Things, window: Window, picture: np.ndarray) -> None:
        """Draw things over the ice, in raster order of their squares."""
        size, tone = things.look.astype(np.float64)
        length, width = (low + (high - low) * size for low, high in (LENGTH, WIDTH))
        cases = [things.kind == each for each in (ANIMAL, HOLE, BLOCK)]
        width = np.select(cases, [width, LARGE * ROUND * length, LARGE * length], NARROW * width)
        length = np.select(cases, [length, LARGE * length, LARGE * length], LONG * length)
        taper = np.where(things.kind == ANIMAL, TAPER, 0)
        colours = DARK[0] + (DARK[1] - DARK[0]) * tone[:, None].astype(np.float32)
        parts = [things.row, things.col, np.cos(things.angle), np.sin(things.angle), length / self.pixel, width / self.pixel, taper]
        bodies = np.stack(parts, -1)
        # A block of ice hides most of its shadow, and is as bright as snow.
        blocks = bodies[things.kind == BLOCK]
        blocks[:, :2] -= 0.5 * blocks[:, 4:5]
        lit = np.broadcast_to(np.minimum(SNOW * np.float32(1.08), 250), (len(blocks), 3))
        lay_bodies(bodies, colours, window.row, window.col, picture)
        lay_bodies(blocks, lit, window.row, window.col, picture)


def _inside(things: Things, window: Window) -> np.ndarray:
    """Which things have their middle in a window, bool (n,)."""
    rows, cols = things.row, things.col
    return (rows >= window.row) & (rows < window.stop[0]) & (cols >= window.col) & (cols < window.stop[1])


def animals(directory: Path | str, count: int, height: int, width: int, seed: int, *, block: int = 512, **look: object) -> list[Path]:
    """Write `count` scenes animals_000.tif .. and the animals in them as points, truth/animals_000.geojson .., and of all scenes together
    animals.csv; returns the paths.

    Scenes are RGB u8, EPSG:3413. The table's columns: scene, row, col (pixels), x, y, class. look: of AnimalScene. block: edge of what
    is in memory at a time. Raises UsageError.
    """
    if min(count, block) < 1:
        raise UsageError(f"synthetic animals: count {count} and block {block} want 1 or more")
    scenes = [AnimalScene(seed, index, height, width, **look) for index in range(count)]  # type: ignore[arg-type]
    directory = Path(directory)
    (directory / "truth").mkdir(parents=True, exist_ok=True)
    table = directory / "animals.csv"
    written: list[Path] = []
    with table.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("scene", "row", "col", "x", "y", "class"))
        for scene in scenes:
            name = f"animals_{scene.index:03d}"
            paths = directory / f"{name}.tif", directory / "truth" / f"{name}.geojson"
            points = write_animals(scene, *paths, block)
            rows.writerows([name, *point, "animal"] for point in points.tolist())
            written += paths
    return [*written, table]


def write_animals(scene: AnimalScene, path: Path, truth: Path, block: int) -> np.ndarray:
    """Write one scene and, as points, the animals in it; returns these, f64 (n, 4): row, col, x, y, in raster order."""
    sheet = Sheet(FRAM.epsg, FRAM.origin, scene.pixel)
    place, found = sheet.place(scene), []

    def make_block(window: Window) -> np.ndarray:
        picture, points = scene.block(window)
        found.append(points)
        return picture

    write_scene(scene, path, make_block, place, block)
    points = np.concatenate(found)
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    points = np.concatenate([points, _on_ground(points, place)], 1)
    _write_geojson(truth, sheet.epsg, points)
    return points


def _on_ground(points: np.ndarray, place: Georeference) -> np.ndarray:
    """x and y of points in pixels, f64 (n, 2)."""
    assert place.transform is not None
    x0, dx, _, y0, _, dy = place.transform
    return np.stack([x0 + dx * points[:, 1], y0 + dy * points[:, 0]], 1)


def _write_geojson(path: Path, epsg: int, points: np.ndarray) -> None:
    """Points with their reference system, as GeoJSON of 2008 says it and GDAL reads it."""
    features = [
        {"type": "Feature", "properties": {"class": "animal"}, "geometry": {"type": "Point", "coordinates": [x, y]}}
        for _, _, x, y in points.tolist()
    ]
    system = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": system, "features": features}) + "\n")
