"""Pictures that a teacher makes of scenes, as GeoTIFFs that other commands take for scenes.

Ranks write a picture's bands in parallel, as planes of the prediction file; what is a GeoTIFF is made of those planes once a scene is
complete, by one rank, and appears under its name when it is complete itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpcseg import store
from hpcseg.errors import StoreError, UsageError
from hpcseg.mapping.settle import Settled
from hpcseg.mpi import Comm, Pulse, share_out
from hpcseg.raster import Entry, create_geotiff
from hpcseg.store import NODATA, PlaneReader
from hpcseg.tiles import Window

FOLDER = "filtered"
# Twice the largest chunk.
_WINDOW = 2048


def picture_path(path: Path) -> Path:
    """Where the picture of a scene goes, by the path of its prediction file: of the same stem, so that labels and truth pair with it."""
    return path.parent / FOLDER / f"{path.stem}.tif"


def check_pictures(paths: Sequence[Path], entries: Mapping[str, Entry]) -> None:
    """Raises UsageError if a picture would replace a scene's own file. paths: of prediction files."""
    pictures = {picture_path(path).resolve(): path for path in paths}
    for entry in entries.values():
        for part in entry.parts:
            if Path(part).resolve() in pictures:
                raise UsageError(f"--filtered would write over the scene {part}: choose another --out")


def remove_pictures(settled: Settled) -> None:
    """Remove the pictures of scenes that have tiles to be labelled."""
    for path, tiles in zip(settled.paths, settled.plan.tiles, strict=True):
        if len(tiles):
            picture_path(path).unlink(missing_ok=True)


def write_pictures(comm: Comm, pulse: Pulse, settled: Settled, planes: tuple[str, ...]) -> None:
    """Write the pictures that are not there of all scenes that have a prediction file; ranks share out the scenes. Collective."""
    share_out(comm, range(len(settled.paths)), lambda k: _write_picture(pulse, settled, k, planes))


def _write_picture(pulse: Pulse, settled: Settled, scene: int, planes: tuple[str, ...]) -> None:
    path, out = settled.paths[scene], picture_path(settled.paths[scene])
    if out.exists() or not path.exists():
        return
    try:
        out.parent.mkdir(exist_ok=True)
        _copy(pulse, store.read(path), out, planes, settled.scenes[scene].has_gaps)
    except (OSError, RuntimeError) as error:
        raise StoreError(f"{out}: cannot be written: {error}") from error


def _copy(pulse: Pulse, stored: store.Stored, out: Path, planes: tuple[str, ...], gaps: bool) -> None:
    """Write planes as bands, with a mask where some pixels have no data. gaps: the scene may have some."""
    extent = stored.layout.grid.extent
    masked = gaps or bool((stored.status != store.DONE).any())
    readers = {name: PlaneReader(stored, name) for name in ("labels", *planes)}
    with create_geotiff(out, (len(planes), extent.height, extent.width), "uint8", stored.place, masked=masked) as put:
        for row in range(0, extent.height, _WINDOW):
            for col in range(0, extent.width, _WINDOW):
                window = Window(row, col, _WINDOW, _WINDOW).intersect(extent)
                found = {name: np.empty((window.height, window.width), np.uint8) for name in readers}
                for name, reader in readers.items():
                    reader.read(window, found[name])
                put(window, np.stack([*(found[name] for name in planes), (found["labels"] != NODATA).view(np.uint8)]))
                pulse.step()
    for reader in readers.values():
        reader.close()
