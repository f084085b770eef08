"""`hpcseg export --objects`: every connected component of maps as a point with its measures, and how many there are of each size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg import store
from hpcseg.area import ground_plane, pixel_to_map
from hpcseg.errors import HpcsegError, StoreError, UsageError
from hpcseg.evaluation import scene_of
from hpcseg.kernels.heat import FULL
from hpcseg.mpi import Comm, Pulse, on_root, share_out
from hpcseg.objects.ground import Ground
from hpcseg.objects.reduce import Case, Part, Settings, find_components, remove_scratch
from hpcseg.objects.spool import in_raster_order
from hpcseg.products.cog import legend
from hpcseg.products.points import Batch, write_points
from hpcseg.products.sizes import SizeCounts, write_sizes

COLUMNS = {
    "id": "Integer64", "class": "Integer", "name": "String", "area_px": "Integer64", "area_m2": "Real", "x": "Real", "y": "Real",
    "row": "Real", "col": "Real", "box_row": "Integer", "box_col": "Integer", "box_height": "Integer", "box_width": "Integer",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which objects are written. classes: names, () = all. Smaller ones than both areas say are left out."""

    classes: tuple[str, ...] = ()
    min_area_m2: float = 0.0
    min_area_px: int = 0


class Written(NamedTuple):
    """What became of a map. files: what was written. notes: what the user should know. problem: why there is nothing."""

    name: str
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


def export_objects(comm: Comm, pulse: Pulse, maps: Sequence[Path], out: Path | None, choice: Choice, settings: Settings) -> list[Written]:
    """Write `<map>_objects.gpkg`, .csv and .png for each map into the folder `out`, None = beside the map; returns what became of each, on
    all ranks. Collective.

    Objects are numbered in raster order of their first pixels, those that `choice` leaves out for their size included: the files are the
    same for any number of ranks and threads and any tiles. Raises UsageError if nothing can be read, StoppedError after a signal.
    """
    opened = share_out(comm, maps, lambda path: _open(path, out or path.parent, choice))
    cases = [each for each in opened if isinstance(each, Case)]
    refused = [each for each in opened if isinstance(each, Written)]
    on_root(comm, lambda: _need(cases, refused))
    try:
        parts = find_components(comm, pulse, cases, settings)
        mine = {k: _write(cases[k], part, choice, settings, pulse) for k, part in parts.items()}
        written = {k: each for every in comm.allgather(mine) for k, each in every.items()}
    finally:
        if comm.rank == 0:
            remove_scratch(cases)
    return [written[k] for k in sorted(written)] + refused


def _open(path: Path, folder: Path, choice: Choice) -> Case | Written:
    """A map whose objects can be had, or why they cannot."""
    try:
        stored = store.read(path)
        names = [each.name for each in legend(stored)]
        unknown = [name for name in choice.classes if name not in names]
        if unknown:
            raise UsageError(f"has no class {', '.join(unknown)}; wanted some of {', '.join(names)} (--classes)")
        grid = stored.layout.grid
        if choice.min_area_m2 and ground_plane(stored.place, grid.height, grid.width) is None:
            raise UsageError("does not say where on the Earth it lies: give --min-area-px instead of --min-area")
        chosen = np.arange(256) < store.NODATA
        if choice.classes:
            chosen = np.isin(np.arange(256), [names.index(name) for name in choice.classes])
        return Case(stored, scene_of(stored), chosen, folder / f".{path.stem}_objects")
    except HpcsegError as error:
        return Written(path.stem, problem=str(error))


def _need(cases: Sequence[Case], refused: Sequence[Written]) -> None:
    if not cases:
        raise UsageError(f"{refused[0].name}: {refused[0].problem}")


class _Rows:
    """The rows of a map's objects, made a batch at a time; what was written so far is counted by class."""

    def __init__(self, case: Case, part: Part, choice: Choice) -> None:
        grid, place = case.stored.layout.grid, case.stored.place
        self.case, self.classes = case, legend(case.stored)
        self.ground = Ground.of(place, grid.height, grid.width)
        self.sizes, self.pixels = SizeCounts(len(self.classes)), np.zeros(len(self.classes), np.int64)
        self._blocks, self._choice = part.spool.blocks, choice
        self._to_map = pixel_to_map(place) or (lambda rows, cols: (cols, -rows))
        self._names = np.array([each.name for each in self.classes], object)

    def __iter__(self) -> Iterator[Batch]:
        first = 1
        for found in in_raster_order(self._blocks, self.case.scene.width):
            ids = np.arange(first, first + len(found))
            first += len(found)
            if found["label"].max() >= len(self.classes):
                raise StoreError(f"{self.case.stored.path}: label {found['label'].max()}, but the legend names {len(self.classes)} classes")
            areas = self.ground.in_m2(found)
            large = (found["area"] >= self._choice.min_area_px) & ~(areas < self._choice.min_area_m2)
            yield self._batch(found[large], ids[large], areas[large])

    def _batch(self, found: np.ndarray, ids: np.ndarray, areas: np.ndarray) -> Batch:
        rows, cols = found["rows"] / found["area"] + 0.5, found["cols"] / found["area"] + 0.5
        x, y = self._to_map(rows, cols)
        np.add.at(self.pixels, found["label"], found["area"])
        self.sizes.add(found["label"], areas if self.ground.known else found["area"])
        return {
            "id": ids, "class": found["label"], "name": self._names[found["label"]], "area_px": found["area"], "area_m2": areas,
            "x": x, "y": y, "row": rows, "col": cols, "box_row": found["top"], "box_col": found["left"],
            "box_height": found["bottom"] - found["top"], "box_width": found["right"] - found["left"],
            "confidence": found["score"] / (FULL * found["area"]),
        }  # fmt: skip

    def notes(self) -> list[str]:
        """How many objects of each class were written."""
        found = zip(self.classes, self.sizes.counts.sum(1), self.pixels, strict=True)
        words = [f"{each.name}: {n:,} objects, {pixels:,} px" for each, n, pixels in found if n]
        return words or ["no objects: the files are valid and empty"]


def _write(case: Case, part: Part, choice: Choice, settings: Settings, pulse: Pulse) -> Written:
    """Write the files of a map. What goes wrong with one is told, and the others are written."""
    name, folder = case.scene.name, case.scratch.parent
    columns = COLUMNS | ({"confidence": "Real"} if "confidence" in case.stored.layout.planes else {})
    try:
        rows = _Rows(case, part, choice)
        product = write_points(case.stored, folder / f"{name}_objects.gpkg", columns, rows, pulse.step)
        picture = folder / f"{name}_objects.png"
        unit = "m²" if rows.ground.known else "px"
        write_sizes(picture, name, f"objects, {settings.connectivity}-connected", rows.classes, rows.sizes, unit)
    except HpcsegError as error:
        return Written(name, problem=str(error))
    return Written(name, (*product.files, picture), (*rows.notes(), *product.notes))
