"""`hpcseg plan`: the partition for any number of ranks, without MPI, and from a manifest alone without opening a raster."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from hpcseg.errors import SceneError, UsageError
from hpcseg.footprint import read_wkt, to_pixels, touched_tiles
from hpcseg.georeference import Georeference
from hpcseg.inference.options import Options
from hpcseg.inference.route import Route
from hpcseg.mapping.options import MapOptions, describe_entry, layout_of
from hpcseg.partition import Plan, Work, make_plan
from hpcseg.raster import Entry, Scene, estimate_cost, list_scenes
from hpcseg.raster.listing import stem
from hpcseg.tiles import Grid

_SIZES = ("scene", "height", "width")


class Sketch(msgspec.Struct, frozen=True):
    """A scene known by a manifest: its size in pixels and, if known, the ground it covers.

    footprint: WKT polygon in the scene's reference system, or in pixels (x = column, y = row) where there is no transform.
    transform: GDAL's six numbers, () if none.
    """

    name: str
    height: int
    width: int
    footprint: str = ""
    transform: tuple[float, ...] = ()


class Way(NamedTuple):
    """What a plan knows of what maps the tiles. planes: of the prediction files. cell, unit, typical, price: as a Route has them. fit:
    gives a scene as it is to be mapped, or raises SceneError."""

    core: int
    halo: int = 0
    planes: tuple[str, ...] = ("labels",)
    cell: int = 0
    unit: int = 1
    typical: int = 1
    price: Callable[[Scene, Grid, np.ndarray], np.ndarray] = lambda scene, grid, cost: cost
    fit: Callable[[Entry, Scene], Scene] = lambda entry, scene: scene


def way_of(options: Options, route: Route, core: int) -> Way:
    """That of a network, or of a gallery's networks. Raises UsageError."""
    return Way(core, route.model.halo, options.planes(route.model.spec), route.cell, route.unit, route.typical, route.price)


class Outlook(NamedTuple):
    """A plan and what it takes. output: bytes of all prediction files. unit: what a forward pass counts in costs."""

    names: list[str]
    works: list[Work]
    plan: Plan
    output: int
    refused: list[tuple[str, str]]
    unit: int = 1


def read_sketches(path: Path) -> list[Sketch] | None:
    """The scenes of a CSV manifest with the columns scene, height, width and perhaps footprint and transform; None if it has no
    sizes. Named as `list_scenes` names them. Raises UsageError naming the line that is wrong."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return None
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not set(_SIZES) <= set(rows.fieldnames or ()):
            return None
        return [_sketch(path, rows.line_num, row) for row in rows]


def _sketch(path: Path, line: int, row: dict[str, str]) -> Sketch:
    try:
        transform = tuple(float(v) for v in (row.get("transform") or "").split())
        if len(transform) not in (0, 6):
            raise ValueError(f"transform has {len(transform)} numbers, wanted 6")
        name = (row.get("id") or "").strip() or stem(row["scene"].strip().split("+")[0])
        return Sketch(name, int(row["height"]), int(row["width"]), row.get("footprint") or "", transform)
    except ValueError as error:
        raise UsageError(f"{path}, line {line}: {error}") from error


def covered_tiles(sketch: Sketch, grid: Grid) -> np.ndarray:
    """Which tiles a footprint touches, bool (ny * nx,); all of them where there is none. Raises UsageError for bad WKT."""
    if not sketch.footprint:
        return np.ones(grid.size, bool)
    polygon = read_wkt(sketch.footprint)
    x0, dx, rx, y0, ry, dy = sketch.transform or (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return touched_tiles(to_pixels(polygon, Georeference(transform=(x0, dx, rx, y0, ry, dy))), grid)


def look_ahead(options: MapOptions, way: Way, ranks: int) -> Outlook:
    """The plan of a run on `ranks` ranks. Raises UsageError."""
    members: list[Sketch | Entry] = []
    for argument in options.scenes:
        sketches = read_sketches(Path(argument))
        members += list_scenes([argument], options.assets) if sketches is None else sketches
    number, of = options.part
    names: list[str] = []
    works: list[Work] = []
    refused: list[tuple[str, str]] = []
    output = 0
    for member in members[number - 1 :: of]:
        try:
            work, size = _of_sketch(member, way) if isinstance(member, Sketch) else _of_raster(member, options, way)
        except SceneError as error:
            refused.append((member.name, str(error)))
            continue
        names.append(member.name)
        works.append(work)
        output += size
    return Outlook(names, works, make_plan(works, ranks), output, refused, way.unit)


def _of_sketch(sketch: Sketch, way: Way) -> tuple[Work, int]:
    """The work of a scene that is not opened, and the bytes of its prediction file."""
    grid = Grid(sketch.height, sketch.width, way.core, way.halo)
    cost = way.typical * covered_tiles(sketch, grid).astype(np.int64)
    return Work(grid, False, cost, np.zeros(grid.size, bool)), grid.size * way.core**2 * len(way.planes)


def _of_raster(entry: Entry, options: MapOptions, way: Way) -> tuple[Work, int]:
    """The work of a scene, and the bytes of its prediction file. Raises SceneError."""
    scene = way.fit(entry, describe_entry(entry, options, options.resolution))
    layout = layout_of(scene, way.core, way.halo, way.planes, way.cell)
    cost = way.price(scene, layout.grid, estimate_cost(scene, layout.grid))
    return Work(layout.grid, scene.striped, cost, np.zeros(layout.grid.size, bool)), layout.nbytes


def window_bytes(core: int, halo: int, bands: int, planes: int) -> int:
    """Memory of one buffer of the stream: values in float32, validity, and the planes."""
    edge = core + 2 * halo
    return edge**2 * (4 * bands + 1) + planes * core**2


def halo_share(core: int, halo: int) -> float:
    """Pixels computed for each pixel kept."""
    return math.pow((core + 2 * halo) / core, 2)


def write_spans(outlook: Outlook, path: Path) -> None:
    """A CSV of who maps what: rank, scene, first and last place in the tile order, tiles, forward passes."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["rank", "scene", "tiles", "forward_passes"])
        for name, work, tiles, ranks in zip(outlook.names, outlook.works, outlook.plan.tiles, outlook.plan.ranks, strict=True):
            for rank in np.unique(ranks):
                mine = tiles[ranks == rank]
                rows.writerow([rank, name, len(mine), f"{work.cost[mine].sum() / outlook.unit:.10g}"])
