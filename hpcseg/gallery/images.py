"""The image gallery: a row for each cell of the archive that has a code, in a Parquet dataset of parts that never change.

All ranks write the parts of a round into one hidden folder, which becomes visible by one rename: a round is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpcseg.area import pixel_to_map, reference_system
from hpcseg.errors import StoreError
from hpcseg.gallery.spec import NO_BUCKET, TILES, read_gallery
from hpcseg.raster import Entry, Scene, read_metadata

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("code", pa.uint64()), ("bucket", pa.uint8()), ("distance", pa.uint8()), ("scene", _TEXT), ("digest", _TEXT), ("path", _TEXT)]
    + [(name, pa.int32()) for name in ("row", "col", "height", "width")]
    + [("valid", pa.float32())]
    + [(name, pa.float64()) for name in ("left", "bottom", "right", "top")]
    + [("crs", _TEXT), ("metadata", _TEXT)]
)
"""code, bucket, distance: see Embedder. scene: its name. digest, path: of the scene. row, col, height, width: the cell in the scene, in
pixels. valid: share of them that have data. left, bottom, right, top: around the cell in the scene's reference system `crs`, NaN if it has
none. metadata: JSON of what the manifest and the file say of the scene."""

_REPLACED = "replaced.json"
_ORDER = ("scene", "digest", "row", "col")


def part_files(gallery: Path) -> list[Path]:
    """The parts of an image gallery, in order."""
    return sorted((gallery / TILES).glob("[!.]*/*.parquet"))


def read_cells(gallery: Path, files: Sequence[Path] | None = None, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Columns of an image gallery, or of some of its parts, ordered by scene, digest, row and column. Raises StoreError."""
    wanted, tables = list(dict.fromkeys([*columns, *_ORDER])), []
    for path in part_files(gallery) if files is None else files:
        with _open(path) as part:
            tables.append(part.read(wanted).select(wanted))
    table = _join(tables, wanted)
    keys = [(name, "ascending") for name in _ORDER]
    plain = table.select(_ORDER)
    for name in ("scene", "digest"):
        plain = plain.set_column(plain.schema.get_field_index(name), name, plain[name].cast(pa.string()))
    return table.take(pc.sort_indices(plain, sort_keys=keys)).select(list(columns))


def find_cells(gallery: Path, name: str, value: str, columns: Sequence[str]) -> pa.Table:
    """Columns of the cells whose scene's `name`, "scene" or "digest", is `value`; no more is read than can hold any. Raises StoreError."""
    at, tables = SCHEMA.get_field_index(name), []
    for path in part_files(gallery):
        with _open(path) as part:
            limits = [part.metadata.row_group(k).column(at).statistics for k in range(part.num_row_groups)]
            groups = [k for k, limit in enumerate(limits) if limit.min <= value <= limit.max]
            table = part.read_row_groups(groups, [*columns, name])
        tables.append(table.filter(pc.equal(table[name].cast(pa.string()), value)).select(columns))
    return _join(tables, columns)


def _join(tables: Sequence[pa.Table], columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables([SCHEMA.empty_table().select(columns), *tables])


def read_scene(gallery: Path, digest: str) -> np.ndarray | None:
    """The buckets of a scene's cells, uint8 (ny, nx), NO_BUCKET where a cell has none; None if the scene is not in the gallery."""
    table = find_cells(gallery, "digest", digest, ["row", "col", "bucket"])
    if not len(table):
        return None
    cell = read_gallery(gallery).cell
    iy, ix = (table[name].to_numpy() // cell for name in ("row", "col"))
    buckets = np.full((iy.max() + 1, ix.max() + 1), NO_BUCKET, np.uint8)
    buckets[iy, ix] = table["bucket"].to_numpy()
    return buckets


def stored_digests(gallery: Path) -> set[str]:
    """The scenes that an image gallery holds; a replacement that was cut short is brought to its end before. Raises StoreError."""
    with _writing(gallery / TILES):
        _finish_replacing(gallery / TILES)
    found: set[str] = set()
    for path in part_files(gallery):
        with _open(path) as part:
            found.update(part.read(["digest"])["digest"].unique().to_pylist())
    return found


def _finish_replacing(tiles: Path) -> None:
    """Remove the scenes that a round replaces from the rounds before it."""
    for mark in tiles.glob(f"[!.]*/{_REPLACED}"):
        gone = pa.array(json.loads(mark.read_text()), pa.string())
        for path in tiles.glob("[!.]*/*.parquet"):
            if path.parent.name < mark.parent.name:
                _drop(path, gone)
        mark.unlink()


def _drop(path: Path, gone: pa.Array) -> None:
    """Remove scenes, by digest, from a part: one that holds cells of others too is written anew without them."""
    with _open(path) as part:
        table = part.read()
    keep = pc.invert(pc.is_in(table["digest"].cast(pa.string()), gone))
    if not pc.any(keep).as_py():
        path.unlink()
    elif not pc.all(keep).as_py():
        write_part(path, [table.filter(keep)])


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """A part of an image gallery. pyarrow.dataset would read it too, but its import takes longer than that. Raises StoreError."""
    try:
        with pq.ParquetFile(path) as part:
            yield part
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read: {error}: remove it, and assign its scenes again") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the file system says in this block, of a full or a read-only disk, is a StoreError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be written: {error}") from error


def write_part(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write a part, a row group for each table, under another name, and rename it. Raises StoreError."""
    hidden = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(hidden, SCHEMA) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=max(1, len(table)))
        os.replace(hidden, path)
    except (OSError, pa.ArrowException) as error:
        hidden.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written: {error}") from error


def new_round(gallery: Path) -> Path:
    """The hidden folder of a round's parts; what rounds that did not end left is removed. Raises StoreError."""
    with _writing(gallery / TILES):
        for left in (gallery / TILES).glob(".*"):
            shutil.rmtree(left)
        number = 1 + max((int(each.name) for each in (gallery / TILES).glob("[0-9]*")), default=0)
        folder = gallery / TILES / f".{number:06d}"
        folder.mkdir(parents=True)
    return folder


def publish_round(folder: Path, replaced: Iterable[str] = ()) -> None:
    """Make the parts of a round visible, then remove the scenes of these digests from the rounds before it. A kill in between leaves them
    twice, until `stored_digests` is asked. Raises StoreError."""
    with _writing(folder.parent):
        if gone := sorted(replaced):
            (folder / _REPLACED).write_text(json.dumps(gone))
        os.replace(folder, folder.with_name(folder.name[1:]))
        _finish_replacing(folder.parent)


def scene_table(scene: Scene, entry: Entry, places: np.ndarray, valid: np.ndarray, codes: tuple[np.ndarray, ...]) -> pa.Table:
    """The rows of a scene. places: int32 (n, 4), row, col, height, width of its cells. valid: float32 (n,). codes: code, bucket, distance,
    (n,) each."""
    said = {"scene": scene.name, "digest": scene.digest, "path": entry.source, "crs": reference_name(scene), "metadata": describe(entry)}
    texts = {name: pa.DictionaryArray.from_arrays(np.zeros(len(places), np.int32), [text]) for name, text in said.items()}
    numbers = dict(zip(("code", "bucket", "distance"), codes, strict=True)) | dict(
        zip(("row", "col", "height", "width"), places.T, strict=True)
    )
    bounds = dict(zip(("left", "bottom", "right", "top"), bounds_of(scene, places), strict=True))
    columns: dict = {**numbers, **texts, "valid": valid, **bounds}
    return pa.table([pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names], SCHEMA)


def describe(entry: Entry) -> str:
    """What the manifest, before the file, says of a scene, as JSON."""
    return json.dumps(read_metadata(entry.parts) | dict(entry.columns), sort_keys=True)


def reference_name(scene: Scene) -> str:
    """The reference system of a scene as AUTHORITY:CODE, else its WKT, "" if it has none."""
    system = reference_system(scene.place)
    if system is None:
        return ""
    code = system.GetAuthorityCode(None)
    return f"{system.GetAuthorityName(None)}:{code}" if code else system.ExportToWkt()


def bounds_of(scene: Scene, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """left, bottom, right, top of windows, int (n, 4), in the scene's reference system; NaN if it says not where it lies."""
    to_map = pixel_to_map(scene.place)
    if to_map is None:
        nothing = np.full(len(places), np.nan)
        return nothing, nothing, nothing, nothing
    row, col, height, width = places.T.astype(np.float64)
    x, y = to_map(np.stack([row, row, row + height, row + height]), np.stack([col, col + width, col, col + width]))
    return x.min(0), y.min(0), x.max(0), y.max(0)
