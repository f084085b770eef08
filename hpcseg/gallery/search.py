"""The cells of an archive whose codes are nearest to that of a window or a picture: exact, over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcseg import device
from hpcseg.errors import UsageError
from hpcseg.gallery.archive import measure
from hpcseg.gallery.contact import View, bucket_name, draw_views
from hpcseg.gallery.embed import Embedder
from hpcseg.gallery.images import find_cells, part_files, read_cells
from hpcseg.gallery.spec import GallerySpec, read_gallery
from hpcseg.gallery.table import write_csv
from hpcseg.kernels.codes import search
from hpcseg.mapping.options import MapOptions
from hpcseg.mapping.settle import open_scenes
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.raster import CellCache, Scene, Values, list_scenes, open_reader
from hpcseg.tiles import Window


class Hit(NamedTuple):
    """A cell of the archive, in the order in which cells are found. away: its code's distance to the query's."""

    away: int
    scene: str
    digest: str
    row: int
    col: int
    height: int
    width: int
    bucket: int
    code: int
    path: str

    @property
    def window(self) -> Window:
        """The cell in its scene."""
        return Window(self.row, self.col, self.height, self.width)


class Query(NamedTuple):
    """What is looked for. source: of the scene, see Entry. bucket, distance: of its code, see Embedder."""

    scene: str
    source: str
    window: Window
    code: np.uint64
    bucket: int
    distance: int
    stored: bool
    """The code was in the gallery, not computed."""


def find_similar(comm: Comm, gallery: Path, code: np.uint64, k: int) -> list[Hit]:
    """The k cells nearest to a code, fewer where there are fewer, on every rank. Of equal distances the first by scene, row and column.

    Ranks share out the parts of the image gallery, which pass through memory one by one. Collective. Raises UsageError.
    """
    files = on_root(comm, lambda: _require_parts(gallery))
    mine: list[Hit] = []
    for file in files[comm.rank :: comm.size]:
        mine = sorted([*mine, *_find_in(gallery, file, code, k)])[:k]
    return sorted(hit for hits in comm.allgather(mine) for hit in hits)[:k]


def _require_parts(gallery: Path) -> list[Path]:
    read_gallery(gallery)
    files = part_files(gallery)
    if not files:
        raise UsageError(f"{gallery} holds no cells yet: add scenes with hpcseg gallery assign {gallery} SCENES")
    return files


def _find_in(gallery: Path, file: Path, code: np.uint64, k: int) -> list[Hit]:
    """The nearest cells of a part, whose cells come in the order of hits."""
    table = read_cells(gallery, [file], Hit._fields[1:])
    places, away = search(np.ascontiguousarray(table["code"].to_numpy()), code, k)
    return [Hit(int(d), **cell) for d, cell in zip(away, table.take(pa.array(places)).to_pylist(), strict=True)]


def read_query(
    comm: Comm, pulse: Pulse, gallery: Path, source: str, place: tuple[int, int] | None, options: MapOptions
) -> Query:
    """The code of the cell of a scene that holds a pixel, place (row, col); place None: of the cell in the middle of a picture.

    source: what GDAL opens, or the name of a scene of the gallery. A code that is stored is taken from there, else it is computed as
    `assign` does. Collective. Raises UsageError: not one scene, other bands, a place outside, a cell without data.
    """
    spec = on_root(comm, lambda: read_gallery(gallery))
    options = replace(options, **on_root(comm, lambda: spec.reading.settle(options)))
    source = on_root(comm, lambda: _source_of(gallery, source))
    entries = on_root(comm, lambda: list_scenes([source], options.assets))
    scenes, refused = open_scenes(comm, entries[:1], options)
    window = on_root(comm, lambda: _check(source, len(entries), scenes, refused, spec, place))
    scene = scenes[0]
    found = on_root(comm, lambda: _stored(gallery, scene.digest, window)) if place else None
    if found:
        return Query(scene.name, source, window, np.uint64(found["code"]), found["bucket"], found["distance"], True)
    values = measure(comm, pulse, scenes, spec.cell, options).values[0]
    code, bucket, distance = on_root(comm, lambda: _look(gallery, scene, values, window))
    return Query(scene.name, source, window, code, bucket, distance, False)


def _source_of(gallery: Path, source: str) -> str:
    """The path of a scene of the gallery by its name; anything else stays as it is."""
    if Path(source).exists():
        return source
    found = find_cells(gallery, "scene", source, ["path"])
    return found["path"][0].as_py() if len(found) else source


def _stored(gallery: Path, digest: str, window: Window) -> dict | None:
    """What the image gallery says of the cell of a scene at the origin of a window, if it has one."""
    cells = find_cells(gallery, "digest", digest, ["row", "col", "code", "bucket", "distance"])
    found = cells.filter((pc.field("row") == window.row) & (pc.field("col") == window.col))
    return found.to_pylist()[0] if len(found) else None


def _check(
    source: str, entries: int, scenes: Sequence[Scene], refused: Sequence[tuple[str, str]], spec: GallerySpec,
    place: tuple[int, int] | None,
) -> Window:  # fmt: skip
    """The cell that is asked for, in the scene. Raises UsageError."""
    if entries != 1:
        raise UsageError(f"{source} names {entries} scenes: wanted one, and --window ROW,COL")
    if refused:
        raise UsageError(f"{source}: no scene of the gallery has this name, and as a file it {refused[0][1]}")
    scene, cell = scenes[0], spec.cell
    if len(scene.bands) != spec.bands:
        raise UsageError(f"{source} gives {len(scene.bands)} bands of its {scene.count}, not {spec.bands}: choose with --bands")
    extent = Window(0, 0, scene.height, scene.width)
    if place is None:
        return Window(max(0, (scene.height - cell) // 2), max(0, (scene.width - cell) // 2), cell, cell).intersect(extent)
    row, col = place
    if not (0 <= row < scene.height and 0 <= col < scene.width):
        raise UsageError(f"--window {row},{col}: {source} has rows 0 to {scene.height - 1}, columns 0 to {scene.width - 1}")
    return Window(row // cell * cell, col // cell * cell, cell, cell).intersect(extent)


def _look(gallery: Path, scene: Scene, values: Values, window: Window) -> tuple[np.uint64, int, int]:
    """Code, bucket and distance of a cell. Raises UsageError if it has no data, ReadError."""
    embedder = Embedder(gallery)
    device.settle_threads()
    cell = embedder.spec.cell
    pixels, valid = np.empty((cell, cell * len(scene.bands)), np.float32), np.empty((cell, cell), np.uint8)
    reader = open_reader(scene, values, CellCache(1))
    if not reader.read(window._replace(height=cell, width=cell), 0, pixels, valid):
        raise UsageError(f"{scene.sources}, {window}: no data, nothing to look for")
    return embedder.look(pixels, (window.height, window.width))


def write_hits(path: Path, hits: Sequence[Hit]) -> None:
    """Write hits as CSV, the nearest first, codes in hexadecimal. Raises UsageError."""
    at = Hit._fields.index("code")
    write_csv(path, Hit._fields, [(*hit[:at], f"{hit.code:016x}", *hit[at + 1 :]) for hit in hits])


def draw_hits(path: Path, query: Query, hits: Sequence[Hit], spec: GallerySpec) -> None:
    """A contact sheet of a query and its hits, as PNG. Raises UsageError."""
    asked = View(query.source, query.scene, query.window, "query")
    views = [View(hit.path, hit.scene, hit.window, f"distance {hit.away}") for hit in hits]
    draw_views(path, [asked, *views], spec, f"most similar to {query.scene}, {query.window}", f"code {query.code:016x}")


def hit_lines(query: Query, hits: Sequence[Hit]) -> list[str]:
    """A query and its hits as lines for people."""
    origin = "stored" if query.stored else "computed"
    lines = [
        f"query={query.scene} {query.window}",
        f"code={query.code:016x} {origin}",
        f"bucket={bucket_name(query.bucket)}",
        f"{'distance':>8}  {'bucket':>6}  {'row':>7}  {'col':>7}  scene",
    ]
    return lines + [f"{hit.away:>8}  {bucket_name(hit.bucket):>6}  {hit.row:>7}  {hit.col:>7}  {hit.scene}" for hit in hits]
