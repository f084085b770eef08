"""What a count is told as: points, counts by scene and class, density, and a contact sheet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg import __version__
from hpcseg.area import pixel_to_map
from hpcseg.config import Class
from hpcseg.errors import SceneError, StoreError
from hpcseg.georeference import Georeference
from hpcseg.inference.prepare import Settled
from hpcseg.kernels.heat import FULL
from hpcseg.mpi import Pulse
from hpcseg.objects.cells import cell_of
from hpcseg.objects.found import Found
from hpcseg.products.cog import publishing
from hpcseg.products.density import UNSEEN, is_density, write_density
from hpcseg.products.picture import Thumbnails
from hpcseg.products.points import Batch, Layer, write_layers
from hpcseg.products.polygons import legend_items
from hpcseg.products.sheet import draw_sheet
from hpcseg.raster import PATH_COLUMNS, Scene
from hpcseg.tiles import Window

COLUMNS = {
    "id": "Integer64", "scene": "String", "class": "String", "score": "Real", "x": "Real", "y": "Real", "row": "Real", "col": "Real",
}  # fmt: skip
_SHOWN = ("kind", "score", "row", "col", "extent")
_LEAST_SHOWN = 32
_OF_ALL = ("points.gpkg", "points.csv", "counts.csv", "sheet.png")
_DENSITY = "_density.tif"


class Total(NamedTuple):
    """What the scores add up to. name: of the column. unit: what the sums count in. digits: that are written."""

    name: str
    unit: int
    digits: int


@dataclass(frozen=True)
class Survey:
    """All that was found, and how to tell it. found: by scene number. kinds: of objects. level: the threshold in 254ths. measures: columns
    of points beside COLUMNS. nothing: a word for scenes in which there is nothing at all. sheet: how many points are shown."""

    out: Path
    settled: Settled
    found: Sequence[Found]
    kinds: Sequence[Class]
    level: int
    total: Total
    measures: Mapping[str, str]
    nothing: str
    sheet: int

    @property
    def scenes(self) -> list[Scene]:
        return self.settled.scenes

    @property
    def names(self) -> list[str]:
        """Of the kinds."""
        return [each.name for each in self.kinds]


@dataclass
class Tally:
    """What was written of a scene's points. counts: int64 (kinds,). cells: u32 (kinds, down, across). best: what is to be shown of those
    that score highest, by column."""

    counts: np.ndarray
    cells: np.ndarray
    best: Batch

    def add(self, batch: Batch, cell: float, most: int) -> None:
        """Take in points. cell: edge of the cells in pixels, 0 = none. most: how many of the best are kept."""
        np.add.at(self.counts, batch["kind"], 1)
        if cell:
            np.add.at(self.cells, (batch["kind"], cell_of(batch["row"], cell), cell_of(batch["col"], cell)), 1)
        self.best = _best([self.best, batch], most)


def _best(parts: Sequence[Batch], most: int) -> dict[str, np.ndarray]:
    """The points that score highest, of several that are equal the first, with the columns that the first part has."""
    every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first = np.argsort(-every["score"], kind="stable")[:most]
    return {name: values[first] for name, values in every.items()}


def remove_survey(out: Path, scenes: Sequence[Scene]) -> None:
    """Remove what an earlier survey told of these scenes, so that it never lies beside newer maps. Raises StoreError."""
    names = {f"{scene.name}{_DENSITY}" for scene in scenes}
    densities = [path for path in out.glob(f"*{_DENSITY}") if path.name in names and is_density(path)]
    try:
        for path in (*(out / name for name in _OF_ALL), *densities):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{error.filename} of an earlier count cannot be removed: {error.strerror}") from error


def write_survey(survey: Survey, pulse: Pulse) -> tuple[list[Path], list[str]]:
    """Write all products; returns them and what is to be said. Raises UsageError."""
    kinds, none = len(survey.kinds), {name: np.empty(0) for name in (*_SHOWN, *survey.measures)}
    tallies = [Tally(np.zeros(kinds, np.int64), np.zeros((kinds, *each.seen.shape), np.uint32), none) for each in survey.found]
    files = [*_write_points(survey, tallies, pulse), _write_counts(survey, tallies)]
    for scene, each, tally in zip(survey.scenes, survey.found, tallies, strict=True):
        if each.cell:
            files.append(_write_density(survey, scene, each, tally))
            pulse.step()
    lines = _say(survey, tallies)
    try:
        files += _write_sheet(survey, tallies, pulse)
    except SceneError as error:
        lines.append(f"no contact sheet: {error}")
    return files, lines


def _say(survey: Survey, tallies: Sequence[Tally]) -> list[str]:
    """A line a class, and why there is nothing where there is nothing."""
    none = np.zeros(len(survey.kinds), np.int64)
    counts, sums = sum((each.counts for each in tallies), none), sum((each.sums() for each in survey.found), none)
    lines = [
        f"{name}: {n:,} objects, {survey.total.name} {total / survey.total.unit:,.1f}"
        for name, n, total in zip(survey.names, counts.tolist(), sums.tolist(), strict=True)
    ]
    if not counts.any():
        lines.append(f"no objects: {_why_none(survey)}; the files are valid and empty")
    return lines


def _why_none(survey: Survey) -> str:
    highest = max((each.highest() for each in survey.found), default=0.0)
    if not highest:
        return survey.nothing if survey.scenes else "no scene could be searched"
    if highest < survey.level / FULL:
        return f"the highest score is {highest:.3f}, the threshold {survey.level / FULL:.3f}"
    return "none is large enough"


def _write_points(survey: Survey, tallies: Sequence[Tally], pulse: Pulse) -> tuple[Path, ...]:
    """points.gpkg and points.csv: a layer for each reference system of the scenes. Fills the tallies."""
    systems: dict[str, list[int]] = {}
    for k, scene in enumerate(survey.scenes):
        systems.setdefault(_system(scene.place), []).append(k)
    items = {"hpcseg_version": __version__, "model": survey.settled.recipe.model.name} | legend_items(survey.kinds)
    ids = count(1)
    layers = [
        Layer(
            "points" if len(systems) == 1 else f"points_{n}", survey.scenes[numbers[0]].place, items,
            (batch for k in numbers for batch in _batches(survey, k, tallies[k], ids)),
        )
        for n, numbers in enumerate(systems.values(), start=1)
    ]  # fmt: skip
    date = max((each.stored.path.stat().st_mtime for each in survey.found), default=0.0)
    columns = {**COLUMNS, **survey.measures}
    return write_layers(survey.out / "points.gpkg", columns, layers or [Layer("points", Georeference(), items, [])], date, pulse.step)


def _system(place: Georeference) -> str:
    return place.wkt if place.transform is not None else place.gcp_wkt


def _batches(survey: Survey, k: int, tally: Tally, ids: Iterator[int]) -> Iterator[Batch]:
    """The points of a scene with all their columns, each added to the tally. ids: the next ones."""
    names, found, scene = np.array(survey.names, object), survey.found[k], survey.scenes[k]
    to_map = pixel_to_map(scene.place) or (lambda rows, cols: (cols, -rows))
    for batch in found.batches():
        tally.add(batch, found.cell, survey.sheet)
        n = len(batch["row"])
        x, y = to_map(batch["row"], batch["col"]) if n else (batch["col"], batch["row"])
        yield {
            **batch, "id": np.array([next(ids) for _ in range(n)], np.int64), "scene": np.full(n, scene.name, object),
            "class": names[batch["kind"]], "score": np.round(batch["score"], 4), "x": x, "y": y,
        }  # fmt: skip


def _write_counts(survey: Survey, tallies: Sequence[Tally]) -> Path:
    """counts.csv: a row for each scene and class, with what the manifest says of the scene."""
    path, total = survey.out / "counts.csv", survey.total
    entries = [survey.settled.entries[scene.name].columns for scene in survey.scenes]
    more = [column for column in dict.fromkeys(name for entry in entries for name in entry) if column not in PATH_COLUMNS]
    with publishing(path) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["scene", "class", "objects", total.name, "threshold", "missing_tiles", *more])
        for scene, found, tally, entry in zip(survey.scenes, survey.found, tallies, entries, strict=True):
            told = found.stored.counts()
            tail = [f"{survey.level / FULL:.4f}", told["missing"] + told["failed"], *(entry.get(column, "") for column in more)]
            for name, n, each in zip(survey.names, tally.counts, found.sums(), strict=True):
                table.writerow([scene.name, name, n, f"{each / total.unit:.{total.digits}f}", *tail])
    return path


def _write_density(survey: Survey, scene: Scene, found: Found, tally: Tally) -> Path:
    """<scene>_density.tif: points in each cell that has data, or the centre of an object around what has none."""
    cells = np.where(found.seen | tally.cells.any(0), tally.cells, np.uint32(UNSEEN))
    path = survey.out / f"{scene.name}{_DENSITY}"
    write_density(path, cells, survey.names, scene.place, found.cell)
    return path


def _write_sheet(survey: Survey, tallies: Sequence[Tally], pulse: Pulse) -> list[Path]:
    """sheet.png: the points that score highest, with what is around them. Raises SceneError."""
    path = survey.out / "sheet.png"
    parts = [{**each.best, "number": np.full(len(each.best["score"]), k)} for k, each in enumerate(tallies)]
    if not sum(len(each["score"]) for each in parts):
        return []
    best = _best(parts, survey.sheet)
    edges = {k: max(_LEAST_SHOWN, round(float(np.median(best["extent"][best["number"] == k])))) for k in set(best["number"].tolist())}
    thumbnails, pictures, captions = Thumbnails(max(edges.values())), [], []
    for values in zip(*(each.tolist() for each in best.values()), strict=True):
        point = dict(zip(best, values, strict=True))
        scene, edge, row, col = survey.scenes[point["number"]], edges[point["number"]], int(point["row"]), int(point["col"])
        window = Window(row - edge // 2, col - edge // 2, edge, edge)
        pictures.append(thumbnails.read_around(scene.path, window, Window(0, 0, scene.height, scene.width)))
        name = survey.names[int(point["kind"])]
        captions.append(f"{name} {point['score']:.3f}{_size(point)}\n{scene.name}\nrow {row}, col {col}")
        pulse.step()
    title = f"The {len(pictures)} highest scores of {sum(int(each.counts.sum()) for each in tallies):,}"
    draw_sheet(path, pictures, captions, title, f"model {survey.settled.recipe.model.name}")
    return [path]


def _size(point: Mapping[str, float]) -> str:
    """A phrase for the size of a point, "" if it has none."""
    if "size" not in point:
        return ""
    return f", {point['area_px']:,.0f} px" if math.isnan(point["size"]) else f", {point['size']:,.3g} m"
