"""What is in a gallery, for people: its buckets' sizes, a contact sheet of each, and maps of buckets over scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcseg.errors import SceneError, UsageError
from hpcseg.gallery.contact import View, bucket_name, draw_views, open_source
from hpcseg.gallery.images import part_files, read_cells, read_scene
from hpcseg.gallery.spec import MONO_BUCKET, NO_BUCKET, GallerySpec, read_gallery
from hpcseg.gallery.table import write_csv
from hpcseg.mpi import Comm, on_root
from hpcseg.products.buckets import BucketMap, draw_bucket_map
from hpcseg.products.picture import read_picture, scale_shape
from hpcseg.raster import describe
from hpcseg.tiles import Window
from hpcseg.training.together import share_out_together

_NEAR, _SPREAD = 18, 18
_LONGEST = 1050
_COLUMNS = ("bucket", "distance", "scene", "digest", "path", "row", "col", "height", "width")


class Size(NamedTuple):
    """A bucket's cells. share: of all cells. tiles: of the sample that the gallery was built from. median, farthest: distances to the
    centroid, of the mono model's cells to the nearest one."""

    bucket: str
    code: str
    cells: int
    share: float
    scenes: int
    tiles: int
    median: float
    farthest: int


class Picture(NamedTuple):
    """A file to be drawn: a contact sheet of views or, without any, the map of a scene, (name, digest, source)."""

    path: Path
    title: str
    views: Sequence[View] = ()
    scene: tuple[str, str, str] = ("", "", "")


def show(comm: Comm, gallery: Path, out: Path, scenes: Sequence[str]) -> tuple[list[Size], list[Path]]:
    """Draw the sheets of all buckets that have cells, and maps of the scenes of these names; write buckets.csv. Ranks share out the files.

    Collective. Returns sizes and files, on every rank. Raises UsageError: no gallery, no cells, no such scene; SceneError.
    """
    spec, sizes, pictures = on_root(comm, lambda: _prepare(gallery, out, scenes))
    share_out_together(comm, pictures, lambda picture: _draw(gallery, spec, picture))
    return sizes, [out / "buckets.csv", *(picture.path for picture in pictures)]


def _prepare(gallery: Path, out: Path, scenes: Sequence[str]) -> tuple[GallerySpec, list[Size], list[Picture]]:
    spec = read_gallery(gallery)
    if not part_files(gallery):
        raise UsageError(f"{gallery} holds no cells yet: add scenes with hpcseg gallery assign {gallery} SCENES")
    cells = read_cells(gallery, columns=_COLUMNS)
    maps = [Picture(out / f"map_{name}.png", name, scene=_find_scene(cells, name)) for name in scenes]
    buckets = cells["bucket"].to_numpy()
    numbers = [*range(len(spec.buckets)), MONO_BUCKET]
    sizes = [_measure(spec, k, cells.filter(pa.array(buckets == k)), len(cells)) for k in numbers]
    sheets = [_sheet(out, size, cells, np.flatnonzero(buckets == k)) for k, size in zip(numbers, sizes, strict=True) if size.cells]
    _write_sizes(out, sizes)
    return spec, sizes, [*sheets, *maps]


def _find_scene(cells: pa.Table, name: str) -> tuple[str, str, str]:
    """Name, digest and source of a scene. Raises UsageError."""
    found = cells.filter(pc.equal(cells["scene"].cast(pa.string()), name)).slice(0, 1).select(["scene", "digest", "path"]).to_pylist()
    if not found:
        there = sorted(cells["scene"].unique().to_pylist())
        some = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
        raise UsageError(f"--scene {name}: the gallery holds no scene of this name; it holds {some}")
    return found[0]["scene"], found[0]["digest"], found[0]["path"]


def _measure(spec: GallerySpec, bucket: int, cells: pa.Table, total: int) -> Size:
    distances = cells["distance"].to_numpy()
    known = bucket != MONO_BUCKET
    return Size(
        bucket_name(bucket),
        spec.buckets[bucket].code if known else "",
        len(cells),
        len(cells) / total,
        len(cells["digest"].unique()),
        spec.buckets[bucket].tiles if known else 0,
        float(np.median(distances)) if len(cells) else float("nan"),
        int(distances.max(initial=0)),
    )


def choose_members(distances: np.ndarray, near: int, spread: int) -> np.ndarray:
    """Places of the members that stand for a bucket, by distance: the nearest to its centroid, then others evenly up to the farthest.

    distances: (n,). Equal ones are in an order drawn at random, the same each time: many cells of a bucket have one code, and the first
    of them are of one scene. Returns int64, at most near + spread.
    """
    order = np.lexsort((np.random.default_rng(0).permutation(len(distances)), distances))
    rest = order[near:]
    steps = np.unique(np.linspace(-1, len(rest) - 1, spread + 1).round().astype(int))
    return np.concatenate([order[:near], rest[steps[steps >= 0]]])


def _sheet(out: Path, size: Size, cells: pa.Table, members: np.ndarray) -> Picture:
    """The contact sheet of a bucket. members: places of its cells."""
    distances = cells["distance"].to_numpy()[members]
    chosen = members[choose_members(distances, _NEAR, _SPREAD)]
    views = [
        View(each["path"], each["scene"], Window(each["row"], each["col"], each["height"], each["width"]), f"distance {each['distance']}")
        for each in cells.take(pa.array(chosen)).to_pylist()
    ]
    return Picture(out / f"bucket_{size.bucket}.png", f"bucket {size.bucket}  ·  {size.cells:,} cells of {size.scenes:,} scenes", views)


def _write_sizes(out: Path, sizes: Sequence[Size]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}") from error
    write_csv(out / "buckets.csv", Size._fields, [size._replace(share=round(size.share, 6)) for size in sizes])


def _draw(gallery: Path, spec: GallerySpec, picture: Picture) -> None:
    if picture.views:
        words = f"the {_NEAR} nearest to the centroid, then others evenly up to the farthest"
        draw_views(picture.path, picture.views, spec, picture.title, words)
        return
    name, digest, source = picture.scene
    buckets = read_scene(gallery, digest)
    assert buckets is not None
    draw_bucket_map(picture.path, _map(name, source, buckets, spec))


def _map(name: str, source: str, buckets: np.ndarray, spec: GallerySpec) -> BucketMap:
    try:
        path = open_source(source, spec)
        scene = describe(path, name)
        shape = scale_shape(scene.height, scene.width, min(1.0, _LONGEST / max(scene.height, scene.width)))
        image = read_picture(path, shape)
    except SceneError as error:
        raise SceneError(f"--scene {name}: {error}") from error
    return BucketMap(name, image, (scene.height, scene.width), spec.cell, buckets, MONO_BUCKET, NO_BUCKET)


def table_lines(sizes: Sequence[Size]) -> list[str]:
    """Sizes as a table."""
    lines = [f"{'bucket':>6}  {'cells':>9}  {'share':>7}  {'scenes':>6}  {'median':>6}  {'farthest':>8}  centroid"]
    for size in sizes:
        lines.append(
            f"{size.bucket:>6}  {size.cells:>9}  {100 * size.share:>6.2f}%  {size.scenes:>6}  {size.median:>6.1f}  {size.farthest:>8}"
            f"  {size.code}".rstrip()
        )
    return lines
