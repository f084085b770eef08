"""The prediction file: one HDF5 file per scene, written by many ranks, readable after a kill at any instant.

Crash rules. One rank creates the file whole under another name, with every byte of its datasets allocated, and renames it:
a file that bears its name is complete in its metadata. From then on only raw data is written, by independent calls, one whole
chunk each, in the order planes, crc32, status; no metadata is dirty, so nothing is lost when a rank dies.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcseg.errors import ReadError, StoreError
from hpcseg.georeference import Georeference
from hpcseg.tiles import Grid, Window

MISSING, DONE, EMPTY, FAILED = 0, 1, 2, 3
STATUS_NAMES = ("missing", "done", "nothing to do", "failed")
NODATA = 255
SCRATCH = "scratch"
HDF5_VERSION = h5py.version.hdf5_version

_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. %9d"


def version() -> tuple[str, bool]:
    """h5py and HDF5, and whether they are parallel."""
    return f"{h5py.version.hdf5_version}, h5py {h5py.__version__}", bool(h5py.get_config().mpi)


def _place_of(plane: str) -> tuple[bool, str]:
    """Sorts planes into their order in a file: labels first, then by name."""
    return plane != "labels", plane


@dataclass(frozen=True)
class Layout:
    """How a scene's tiles lie in its file. chunk: edge of the square HDF5 chunks, divides the core. planes: (H, W) datasets of one
    dtype, u8, u16 or u32, in the order of their CRC: labels first, others by name."""

    grid: Grid
    chunk: int
    planes: tuple[str, ...] = ("labels",)
    dtype: str = "uint8"

    def __post_init__(self) -> None:
        if self.grid.core % self.chunk:
            raise StoreError(f"chunk {self.chunk} does not divide core {self.grid.core}")
        if list(self.planes) != sorted(self.planes, key=_place_of):
            raise StoreError(f"planes {', '.join(self.planes)}: wanted labels first, the others by name")

    @property
    def nbytes(self) -> int:
        """Bytes of the planes and tables, edge chunks counted whole: what creating the file takes from the disk."""
        down, across = (-(-n // self.chunk) for n in (self.grid.height, self.grid.width))
        size = np.dtype(self.dtype).itemsize
        return size * len(self.planes) * down * across * self.chunk**2 + 5 * self.grid.size + 8 * (self.grid.height + self.grid.width)

    def chunks(self, tile: int) -> Iterable[Window]:
        """The chunks of a tile's core, whole ones, also where they reach over the scene's edge."""
        core = self.grid.core_window(tile)
        for row in range(core.row, core.stop[0], self.chunk):
            for col in range(core.col, core.stop[1], self.chunk):
                yield Window(row, col, self.chunk, self.chunk)


def tile_crc(planes: Sequence[np.ndarray]) -> int:
    """CRC-32 over the planes of one tile in order, each u8 (height, width), row by row."""
    crc = 0
    for plane in planes:
        crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
    return crc


def create(path: Path, layout: Layout, identity: dict[str, Any], attributes: dict[str, str], place: Georeference) -> None:
    """Make the file of a scene, complete but without data; atomic. Raises StoreError if it cannot be written.

    identity: what must agree for a resume. attributes: further strings for the root group.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            file.attrs["Conventions"] = "CF-1.8"
            file.attrs["identity"] = json.dumps(identity, sort_keys=True)
            file.attrs["georeference"] = place.to_json()
            file.attrs.update(attributes)
            _create_axes(file, layout.grid, place)
            for name in layout.planes:
                _create_plane(file, name, layout)
            _create_tables(file, layout.grid)
        os.replace(part, path)
    except (OSError, ValueError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be created: {error}") from error


def _create_plane(file: h5py.File, name: str, layout: Layout) -> None:
    """A chunked dataset, allocated at once and not filled: HDF5's own fill is slower than writing the tiles."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((layout.chunk, layout.chunk))
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    shape = (layout.grid.height, layout.grid.width)
    # A scene smaller than a chunk needs room for it, or HDF5 refuses the chunk.
    space = h5py.h5s.create_simple(shape, tuple(max(n, layout.chunk) for n in shape))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(layout.dtype)), space, properties)
    dataset = file[name]
    dataset.attrs["_FillValue"] = np.dtype(layout.dtype).type(NODATA)
    dataset.attrs["grid_mapping"] = "spatial_ref"
    dataset.dims[0].attach_scale(file["y"])
    dataset.dims[1].attach_scale(file["x"])


def _create_axes(file: h5py.File, grid: Grid, place: Georeference) -> None:
    """CF coordinates and grid mapping; dimensions without coordinates where the scene is rotated or not georeferenced."""
    if place.separable and place.axes != "none":
        y, x = place.coordinates(grid.height, grid.width)
        names = {"projected": ("projection_%s_coordinate", "m"), "geographic": ("%s", "degrees_%s")}[place.axes]
        words = {"projected": ("y", "x"), "geographic": ("latitude", "longitude")}[place.axes]
        compass = ("north", "east")
        for axis, values, word, direction in (("y", y, words[0], compass[0]), ("x", x, words[1], compass[1])):
            file[axis] = values
            file[axis].attrs["standard_name"] = names[0] % word
            file[axis].attrs["units"] = names[1] % direction if place.axes == "geographic" else names[1]
            file[axis].attrs["axis"] = axis.upper()
            file[axis].make_scale(axis)
    else:
        _create_bare_axis(file, "y", grid.height)
        _create_bare_axis(file, "x", grid.width)
    mapping = file.create_dataset("spatial_ref", data=np.int32(0))
    if place.wkt:
        mapping.attrs["crs_wkt"] = mapping.attrs["spatial_ref"] = place.wkt
    if place.transform is not None:
        mapping.attrs["GeoTransform"] = " ".join(repr(v) for v in place.transform)


def _create_bare_axis(group: h5py.Group, name: str, size: int) -> None:
    """A netCDF-4 dimension that has no coordinate values."""
    axis = group.create_dataset(name, shape=(size,), dtype=">f4")
    axis.make_scale(_NO_VARIABLE % size)


def _create_tables(file: h5py.File, grid: Grid) -> None:
    """/tiles: one status and one CRC per tile, contiguous, all zero."""
    group = file.create_group("tiles")
    _create_bare_axis(group, "tile_y", grid.shape[0])
    _create_bare_axis(group, "tile_x", grid.shape[1])
    for name, dtype in (("status", np.uint8), ("crc32", np.uint32)):
        table = group.create_dataset(name, data=np.zeros(grid.shape, dtype))
        table.dims[0].attach_scale(group["tile_y"])
        table.dims[1].attach_scale(group["tile_x"])


class Prediction:
    """A prediction file open for writing by the ranks of `comm`, who all own tiles of it. Opening and closing are collective.

    All other calls are independent. Not safe for several threads: one writer thread per rank.
    """

    def __init__(self, path: Path, layout: Layout, comm: Any) -> None:
        self.path, self.layout = path, layout
        try:
            self._file = h5py.File(path, "r+", driver="mpio", comm=comm)
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened for writing: {error}") from error
        self._planes = [self._file[name] for name in layout.planes]
        self._status, self._crc = self._file["tiles/status"], self._file["tiles/crc32"]
        self._descriptor = os.open(path, os.O_RDONLY)
        self._blank = np.full((layout.chunk, layout.chunk), NODATA, layout.dtype)

    def clear(self, tiles: Iterable[int]) -> None:
        """Write 255 to tiles, so that what is not yet mapped reads as no data."""
        for tile in tiles:
            for chunk in self.layout.chunks(tile):
                for plane in self._planes:
                    plane.id.write_direct_chunk((chunk.row, chunk.col), self._blank)

    def write(self, tile: int, planes: Sequence[np.ndarray]) -> None:
        """Write a finished tile: the planes in the layout's order, each of the tile's core within the scene."""
        core = self.layout.grid.core_window(tile)
        for dataset, plane in zip(self._planes, planes, strict=True):
            for chunk in self.layout.chunks(tile):
                dataset.id.write_direct_chunk((chunk.row, chunk.col), self._whole_chunk(plane, chunk.relative_to(core)))
        self._mark(tile, DONE, tile_crc(planes))

    def write_empty(self, tile: int) -> None:
        """Mark a tile that has no valid pixel; its bytes are 255 already."""
        core = self.layout.grid.core_window(tile)
        blank = np.full((core.height, core.width), NODATA, self.layout.dtype)
        self._mark(tile, EMPTY, tile_crc([blank] * len(self._planes)))

    def write_failed(self, tile: int) -> None:
        """Mark a tile that could not be read; it stays 255 and is tried again by the next run."""
        self._mark(tile, FAILED, 0)

    def _whole_chunk(self, plane: np.ndarray, chunk: Window) -> np.ndarray:
        part = plane[chunk.slices]
        if part.shape != self._blank.shape:
            whole = self._blank.copy()
            whole[: part.shape[0], : part.shape[1]] = part
            return whole
        return np.ascontiguousarray(part)

    def _mark(self, tile: int, status: int, crc: int) -> None:
        index = divmod(tile, self.layout.grid.shape[1])
        self._crc[index] = crc
        self._status[index] = status

    def sync(self) -> None:
        """Push what was written to the disk: what a lost node's page cache would take with it."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Collective: only when every rank of the communicator is known to be alive."""
        os.close(self._descriptor)
        self._file.close()


@dataclass(frozen=True)
class Stored:
    """What a prediction file says of itself. status, crc: (ny, nx). attributes: the root group's."""

    path: Path
    layout: Layout
    identity: dict[str, Any]
    attributes: dict[str, Any]
    place: Georeference
    status: np.ndarray
    crc: np.ndarray

    def counts(self) -> dict[str, int]:
        """Number of tiles of each status, by name."""
        return {name: int((self.status == code).sum()) for code, name in enumerate(STATUS_NAMES)}


def read(path: Path) -> Stored:
    """Read a prediction file's tables without MPI. Raises StoreError if it is none."""
    try:
        with h5py.File(path, "r") as file:
            identity = json.loads(file.attrs["identity"])
            planes = {name: each for name, each in file.items() if isinstance(each, h5py.Dataset) and each.ndim == 2 and each.chunks}
            names = tuple(sorted(planes, key=_place_of))
            first = planes[SCRATCH if names == (SCRATCH,) else "labels"]
            height, width = first.shape
            grid = Grid(height, width, identity["core"], identity["halo"])
            layout = Layout(grid, first.chunks[0], names, first.dtype.name)
            place = Georeference.from_json(file.attrs["georeference"])
            status, crc = file["tiles/status"][()], file["tiles/crc32"][()]
            return Stored(path, layout, identity, dict(file.attrs), place, status, crc)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is not a prediction file of hpcseg ({error})") from error


def check(stored: Stored, tiles: np.ndarray) -> np.ndarray:
    """Compare tiles with their CRC. tiles: flat tile numbers (n,). Returns bool (n,): True where the tile's bytes are right.

    A tile that is missing or failed is False.
    """
    layout, right = stored.layout, np.zeros(len(tiles), bool)
    status, crc = stored.status.ravel(), stored.crc.ravel()
    with h5py.File(stored.path, "r") as file:
        planes = [file[name] for name in layout.planes]
        for k, tile in enumerate(tiles):
            if status[tile] in (DONE, EMPTY):
                window = layout.grid.core_window(int(tile))
                right[k] = tile_crc([plane[window.slices] for plane in planes]) == crc[tile]
    return right


def read_window(stored: Stored, window: Window, plane: str = "labels") -> np.ndarray:
    """A window of a plane, u8 (height, width)."""
    with h5py.File(stored.path, "r") as file:
        return file[plane][window.slices]


class PlaneReader:
    """A plane of a prediction file that stays open: many windows cost one opening. Safe for several threads, which take turns."""

    def __init__(self, stored: Stored, plane: str = "labels") -> None:
        try:
            self._file = h5py.File(stored.path, "r")
        except OSError as error:
            raise StoreError(f"{stored.path}: cannot be opened: {error}") from error
        self._path, self._plane = stored.path, self._file[plane]

    def read(self, window: Window, out: np.ndarray) -> None:
        """Read a window within the scene into `out`, u8 (height, width). Raises ReadError naming the file and the window."""
        try:
            out[...] = self._plane[window.slices]
        except OSError as error:
            raise ReadError(f"{self._path}, {window}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
