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

_NO_BUCKETS = np.empty((0, 0), np.uint8)
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. %9d"


def version() -> tuple[str, bool]:
    """h5py and HDF5, and whether they are parallel."""
    return f"{h5py.version.hdf5_version}, h5py {h5py.__version__}", bool(h5py.get_config().mpi)


def _place_of(plane: str) -> tuple[bool, str]:
    """Sorts planes into their order in a file: labels first, then by name."""
    return plane != "labels", plane


def heat_planes(kinds: int) -> tuple[str, ...]:
    """The planes of a map that tells where objects are instead of labels: one for each kind of objects."""
    digits = len(str(kinds - 1))
    return ("heat",) if kinds == 1 else tuple(f"heat_{k:0{digits}}" for k in range(kinds))


@dataclass(frozen=True)
class Layout:
    """How a scene's tiles lie in its file. chunk: edge of the square HDF5 chunks, divides the core. planes: (H, W) datasets of one
    dtype, u8, u16 or u32, in the order of their CRC: labels first, others by name. cell: edge of the squares, origin (0, 0), whose
    buckets the file tells, divides the core; 0 = it tells none."""

    grid: Grid
    chunk: int
    planes: tuple[str, ...] = ("labels",)
    dtype: str = "uint8"
    cell: int = 0

    def __post_init__(self) -> None:
        if self.grid.core % self.chunk:
            raise StoreError(f"chunk {self.chunk} does not divide core {self.grid.core}")
        if self.cell and self.grid.core % self.cell:
            raise StoreError(f"cell {self.cell} does not divide core {self.grid.core}")
        if list(self.planes) != sorted(self.planes, key=_place_of):
            raise StoreError(f"planes {', '.join(self.planes)}: wanted labels first, the others by name")

    @property
    def nbytes(self) -> int:
        """Bytes of the planes and tables, edge chunks counted whole: what creating the file takes from the disk."""
        down, across = (-(-n // self.chunk) for n in (self.grid.height, self.grid.width))
        size, (rows, cols) = np.dtype(self.dtype).itemsize, self.cells
        tables = 5 * self.grid.size + rows * cols + 8 * (self.grid.height + self.grid.width)
        return size * len(self.planes) * down * across * self.chunk**2 + tables

    @property
    def cells(self) -> tuple[int, int]:
        """Cells down and across, (0, 0) without cells."""
        if not self.cell:
            return 0, 0
        return -(-self.grid.height // self.cell), -(-self.grid.width // self.cell)

    def cells_of(self, tile: int) -> Window:
        """The cells of a tile's core within the scene, counted in cells."""
        if not self.cell:
            return Window(0, 0, 0, 0)
        core = self.grid.core_window(tile)
        return Window(core.row // self.cell, core.col // self.cell, -(-core.height // self.cell), -(-core.width // self.cell))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk."""
        return self.chunk**2 * np.dtype(self.dtype).itemsize

    def fits(self, stripe: int) -> bool:
        """Whether stripes of so many bytes consist of whole chunks, or chunks of whole stripes."""
        return not stripe or not (stripe % self.chunk_bytes and self.chunk_bytes % stripe)

    def chunks(self, tile: int) -> Iterable[Window]:
        """The chunks of a tile's core, whole ones, also where they reach over the scene's edge."""
        core = self.grid.core_window(tile)
        for row in range(core.row, core.stop[0], self.chunk):
            for col in range(core.col, core.stop[1], self.chunk):
                yield Window(row, col, self.chunk, self.chunk)


@dataclass(frozen=True)
class Access:
    """How files lie on a parallel file system and are opened there: no byte of a map depends on it.

    stripe: bytes, a multiple or a divisor of a chunk's: no chunk crosses from one into the next more often than it must. 0 = any place.
    info: hints of MPI-IO, None = none. comm: of this rank alone; with it a file is created through MPI-IO, where the hints that stripe it
    count.
    """

    stripe: int = 0
    info: Any = None
    comm: Any = None

    def creating(self, layout: Layout) -> dict[str, Any]:
        """What h5py is told when it creates a file."""
        step = min(self.stripe, layout.chunk_bytes)
        aligned = {"alignment_threshold": step, "alignment_interval": step} if step else {}
        return aligned | ({} if self.comm is None else self.sharing(self.comm))

    def sharing(self, comm: Any) -> dict[str, Any]:
        """What h5py is told when ranks open a file together."""
        return {"driver": "mpio", "comm": comm} | ({} if self.info is None else {"info": self.info})


ANYWHERE = Access()


def tile_crc(planes: Sequence[np.ndarray]) -> int:
    """CRC-32 over the planes of one tile in order, each u8 (height, width), row by row, and over the buckets of its cells."""
    crc = 0
    for plane in planes:
        crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
    return crc


def create(
    path: Path, layout: Layout, identity: dict[str, Any], attributes: dict[str, str], place: Georeference, access: Access = ANYWHERE
) -> None:
    """Make the file of a scene, complete but without data; atomic. Raises StoreError if it cannot be written.

    identity: what must agree for a resume. attributes: further strings for the root group.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w", **access.creating(layout)) as file:
            file.attrs["Conventions"] = "CF-1.8"
            file.attrs["identity"] = json.dumps(identity, sort_keys=True)
            file.attrs["georeference"] = place.to_json()
            file.attrs.update(attributes)
            _create_axes(file, layout.grid, place)
            for name in layout.planes:
                _create_plane(file, name, layout)
            _create_tables(file, layout)
        # A node that is lost must not leave a name without a file behind it: no other start could go on from that.
        with part.open("rb+") as file:
            os.fsync(file.fileno())
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


def _create_tables(file: h5py.File, layout: Layout) -> None:
    """/tiles: one status and one CRC per tile, contiguous, all zero; with cells one bucket a cell, all 255."""
    group, grid = file.create_group("tiles"), layout.grid
    _create_table(group, "tile", {"status": np.zeros(grid.shape, np.uint8), "crc32": np.zeros(grid.shape, np.uint32)})
    if layout.cell:
        _create_table(group, "cell", {"bucket": np.full(layout.cells, NODATA, np.uint8)})
        group["bucket"].attrs["cell"] = layout.cell


def _create_table(group: h5py.Group, unit: str, tables: dict[str, np.ndarray]) -> None:
    """Contiguous datasets of one shape, with a value for each tile or cell."""
    shape = next(iter(tables.values())).shape
    axes = [f"{unit}_{axis}" for axis in "yx"]
    for axis, size in zip(axes, shape, strict=True):
        _create_bare_axis(group, axis, size)
    for name, values in tables.items():
        table = group.create_dataset(name, data=values)
        for number, axis in enumerate(axes):
            table.dims[number].attach_scale(group[axis])


class Prediction:
    """A prediction file open for writing by the ranks of `comm`, who all own tiles of it. Opening and closing are collective.

    All other calls are independent. Not safe for several threads: one writer thread per rank.
    """

    def __init__(self, path: Path, layout: Layout, comm: Any, access: Access = ANYWHERE) -> None:
        self.path, self.layout = path, layout
        try:
            self._file = h5py.File(path, "r+", **access.sharing(comm))
        except OSError as error:
            raise StoreError(f"{path}: cannot be opened for writing: {error}") from error
        self._planes = [self._file[name] for name in layout.planes]
        self._status, self._crc = self._file["tiles/status"], self._file["tiles/crc32"]
        self._buckets = self._file["tiles/bucket"] if layout.cell else None
        self._descriptor = os.open(path, os.O_RDONLY)
        self._blank = np.full((layout.chunk, layout.chunk), NODATA, layout.dtype)

    def clear(self, tiles: Iterable[int]) -> None:
        """Write 255 to tiles, so that what is not yet mapped reads as no data."""
        for tile in tiles:
            self._write_buckets(tile, self._no_buckets(tile))
            for chunk in self.layout.chunks(tile):
                for plane in self._planes:
                    plane.id.write_direct_chunk((chunk.row, chunk.col), self._blank)

    def write(self, tile: int, planes: Sequence[np.ndarray], buckets: np.ndarray = _NO_BUCKETS) -> None:
        """Write a finished tile: the planes in the layout's order, each of the tile's core within the scene. buckets: u8, of its cells
        there, as the layout's `cells_of`."""
        core = self.layout.grid.core_window(tile)
        for dataset, plane in zip(self._planes, planes, strict=True):
            for chunk in self.layout.chunks(tile):
                dataset.id.write_direct_chunk((chunk.row, chunk.col), self._whole_chunk(plane, chunk.relative_to(core)))
        self._write_buckets(tile, buckets)
        self._mark(tile, DONE, tile_crc([*planes, buckets]))

    def write_empty(self, tile: int) -> None:
        """Mark a tile that has no valid pixel; its bytes are 255 already."""
        core = self.layout.grid.core_window(tile)
        blank = np.full((core.height, core.width), NODATA, self.layout.dtype)
        self._mark(tile, EMPTY, tile_crc([*[blank] * len(self._planes), self._no_buckets(tile)]))

    def write_failed(self, tile: int) -> None:
        """Mark a tile that could not be read; it stays 255 and is tried again by the next run."""
        self._mark(tile, FAILED, 0)

    def _no_buckets(self, tile: int) -> np.ndarray:
        return np.full(self.layout.cells_of(tile)[2:], NODATA, np.uint8)

    def _write_buckets(self, tile: int, buckets: np.ndarray) -> None:
        if self._buckets is not None:
            self._buckets[self.layout.cells_of(tile).slices] = buckets

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
    """What a prediction file says of itself. status, crc: (ny, nx). attributes: the root group's. buckets: u8, one a cell of the
    layout, 255 = none, (0, 0) without cells."""

    path: Path
    layout: Layout
    identity: dict[str, Any]
    attributes: dict[str, Any]
    place: Georeference
    status: np.ndarray
    crc: np.ndarray
    buckets: np.ndarray

    def counts(self) -> dict[str, int]:
        """Number of tiles of each status, by name."""
        return _counts(self.status)


def read(path: Path) -> Stored:
    """Read a prediction file's tables without MPI. Raises StoreError if it is none."""
    try:
        with h5py.File(path, "r") as file:
            identity = json.loads(file.attrs["identity"])
            planes = {name: each for name, each in file.items() if isinstance(each, h5py.Dataset) and each.ndim == 2 and each.chunks}
            names = tuple(sorted(planes, key=_place_of))
            alone = names == (SCRATCH,) or all(name.startswith("heat") for name in names)
            first = planes[names[0] if alone else "labels"]
            height, width = first.shape
            grid = Grid(height, width, identity["core"], identity["halo"])
            table = file["tiles"].get("bucket")
            cell, buckets = (0, _NO_BUCKETS) if table is None else (int(table.attrs["cell"]), table[()])
            layout = Layout(grid, first.chunks[0], names, first.dtype.name, cell)
            place = Georeference.from_json(file.attrs["georeference"])
            status, crc = file["tiles/status"][()], file["tiles/crc32"][()]
            return Stored(path, layout, identity, dict(file.attrs), place, status, crc, buckets)
    except (OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is not a prediction file of hpcseg ({error})") from error


def read_counts(path: Path) -> dict[str, int]:
    """Number of tiles of each status, by name, and no more of a prediction file than that. Raises StoreError if it is none."""
    try:
        with h5py.File(path, "r") as file:
            return _counts(file["tiles/status"][()])
    except (OSError, LookupError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is not a prediction file of hpcseg ({error})") from error


def _counts(status: np.ndarray) -> dict[str, int]:
    return dict(zip(STATUS_NAMES, np.bincount(status.ravel(), minlength=len(STATUS_NAMES)).tolist(), strict=True))


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
                buckets = stored.buckets[layout.cells_of(int(tile)).slices]
                right[k] = tile_crc([*[plane[window.slices] for plane in planes], buckets]) == crc[tile]
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
