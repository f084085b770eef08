"""What a count is told as: points, counts by scene and class, density, and a contact sheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hpcseg import __version__
from hpcseg.area import pixel_to_map
from hpcseg.config import ModelSpec
from hpcseg.errors import SceneError
from hpcseg.georeference import Georeference
from hpcseg.inference.prepare import Settled
from hpcseg.kernels.heat import FULL
from hpcseg.mpi import Pulse
from hpcseg.objects.peaks import HeatMap, Peaks, cell_of
from hpcseg.products.cog import publishing
from hpcseg.products.density import UNSEEN, write_density
from hpcseg.products.picture import Thumbnails
from hpcseg.products.points import Batch, Layer, write_layers
from hpcseg.products.polygons import legend_items
from hpcseg.products.sheet import draw_sheet
from hpcseg.raster import PATH_COLUMNS, Scene
from hpcseg.tiles import Window

COLUMNS = {
    "id": "Integer64", "scene": "String", "class": "String", "score": "Real", "x": "Real", "y": "Real", "row": "Real", "col": "Real",
}  # fmt: skip
_MILLION = 1_000_000
_SHOWN = 16.0
_LEAST_SHOWN = 32


@dataclass(frozen=True)
class Survey:
    """All that was found. Lists are by scene number. lengths: of the scenes' pixels in the units of the model."""

    out: Path
    settled: Settled
    maps: list[HeatMap]
    found: list[Peaks]
    lengths: list[float]

    @property
    def spec(self) -> ModelSpec:
        return self.settled.recipe.model.spec

    @property
    def scenes(self) -> list[Scene]:
        return self.settled.scenes

    @property
    def names(self) -> list[str]:
        """Of the classes."""
        return [each.name for each in self.spec.classes]

    @cached_property
    def points(self) -> list[np.ndarray]:
        """Of each scene, in raster order, see Peaks."""
        return [each.points for each in self.found]

    def counts(self, k: int) -> np.ndarray:
        """Points of each class in a scene, int64 (kinds,)."""
        return np.bincount(self.points[k][:, 2], minlength=len(self.names))

    def sums(self, k: int) -> np.ndarray:
        """Expected objects of each class in a scene, in millionths, or the sum of the scores in 254ths: int64 (kinds,)."""
        return self.found[k].scores @ np.array(self.spec.calibration or range(len(self.found[k].scores[0])), np.int64)

    @property
    def sum_name(self) -> str:
        return "expected" if self.spec.calibration else "score_sum"

    @property
    def unit(self) -> int:
        """What the sums count in."""
        return _MILLION if self.spec.calibration else FULL


def write_survey(survey: Survey, pulse: Pulse, sheet: int) -> tuple[list[Path], list[str]]:
    """Write all products; returns them and what is to be said. sheet: how many points are shown. Raises UsageError."""
    files = [*_write_points(survey, pulse), _write_counts(survey)]
    for k, case in enumerate(survey.maps):
        if case.cell:
            files.append(_write_density(survey, k))
            pulse.step()
    lines = _say(survey)
    try:
        files += _write_sheet(survey, pulse, sheet)
    except SceneError as error:
        lines.append(f"no contact sheet: {error}")
    return files, lines


def _say(survey: Survey) -> list[str]:
    """A line a class, and why there is nothing where there is nothing."""
    lines = []
    for kind, name in enumerate(survey.names):
        scenes = range(len(survey.scenes))
        n, total = (int(sum(each(k)[kind] for k in scenes)) for each in (survey.counts, survey.sums))
        lines.append(f"{name}: {n:,} objects, {survey.sum_name} {total / survey.unit:,.1f}")
    if not sum(map(len, survey.points)):
        highest = max((int(np.nonzero(each.scores.any(0))[0].max(initial=0)) for each in survey.found), default=0)
        if highest:
            why = f"the highest score is {highest / FULL:.3f}, the threshold {survey.maps[0].level / FULL:.3f}"
        else:
            why = "nowhere is there any heat" if survey.scenes else "no scene could be searched"
        lines.append(f"no objects: {why}; the files are valid and empty")
    return lines


def _write_points(survey: Survey, pulse: Pulse) -> tuple[Path, ...]:
    """points.gpkg and points.csv: a layer for each reference system of the scenes."""
    starts = np.cumsum([1, *map(len, survey.points)])
    systems: dict[str, list[int]] = {}
    for k, scene in enumerate(survey.scenes):
        systems.setdefault(_system(scene.place), []).append(k)
    items = {"hpcseg_version": __version__, "model": survey.settled.recipe.model.name} | legend_items(survey.spec.classes)
    layers = [
        Layer("points" if len(systems) == 1 else f"points_{n}", survey.scenes[numbers[0]].place, items, _batches(survey, numbers, starts))
        for n, numbers in enumerate(systems.values(), start=1)
    ]
    date = max((each.stored.path.stat().st_mtime for each in survey.maps), default=0.0)
    return write_layers(survey.out / "points.gpkg", COLUMNS, layers or [Layer("points", Georeference(), items, [])], date, pulse.step)


def _system(place: Georeference) -> str:
    return place.wkt if place.transform is not None else place.gcp_wkt


def _batches(survey: Survey, numbers: Sequence[int], starts: np.ndarray) -> Iterator[Batch]:
    """The points of some scenes. starts: the first id of each."""
    names = np.array(survey.names, object)
    for k in numbers:
        scene, points = survey.scenes[k], survey.points[k]
        rows, cols = points[:, 0] + 0.5, points[:, 1] + 0.5
        to_map = pixel_to_map(scene.place)
        x, y = to_map(rows, cols) if to_map and len(points) else (cols, -rows)
        yield {
            "id": starts[k] + np.arange(len(points)), "scene": np.full(len(points), scene.name, object), "class": names[points[:, 2]],
            "score": np.round(points[:, 3] / FULL, 4), "x": x, "y": y, "row": rows, "col": cols,
        }  # fmt: skip


def _write_counts(survey: Survey) -> Path:
    """counts.csv: a row for each scene and class, with what the manifest says of the scene."""
    path = survey.out / "counts.csv"
    entries = [survey.settled.entries[scene.name].columns for scene in survey.scenes]
    more = [column for column in dict.fromkeys(name for entry in entries for name in entry) if column not in PATH_COLUMNS]
    digits = 6 if survey.spec.calibration else 3
    with publishing(path) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["scene", "class", "objects", survey.sum_name, "threshold", "missing_tiles", *more])
        for k, (scene, entry) in enumerate(zip(survey.scenes, entries, strict=True)):
            told = survey.maps[k].stored.counts()
            tail = [f"{survey.maps[k].level / FULL:.4f}", told["missing"] + told["failed"], *(entry.get(column, "") for column in more)]
            for name, n, total in zip(survey.names, survey.counts(k), survey.sums(k), strict=True):
                table.writerow([scene.name, name, n, f"{total / survey.unit:.{digits}f}", *tail])
    return path


def _write_density(survey: Survey, k: int) -> Path:
    """<scene>_density.tif: points in each cell that has data."""
    scene, case, points = survey.scenes[k], survey.maps[k], survey.points[k]
    cells = np.zeros((len(survey.names), *case.cells), np.uint32)
    np.add.at(cells, (points[:, 2], cell_of(points[:, 0], case.cell), cell_of(points[:, 1], case.cell)), 1)
    cells[:, ~survey.found[k].seen] = UNSEEN
    path = survey.out / f"{scene.name}_density.tif"
    write_density(path, cells, survey.names, scene.place, case.cell)
    return path


def _write_sheet(survey: Survey, pulse: Pulse, most: int) -> list[Path]:
    """sheet.png: the points that score highest, with what is around them. Raises SceneError."""
    path = survey.out / "sheet.png"
    path.unlink(missing_ok=True)
    numbers = np.repeat(np.arange(len(survey.points)), [len(each) for each in survey.points])
    points = np.concatenate([np.empty((0, 4), np.int64), *survey.points])
    best = np.argsort(-points[:, 3], kind="stable")[:most]
    if not len(best):
        return []
    edges = [max(_LEAST_SHOWN, round(_SHOWN * survey.spec.sigma / length)) for length in survey.lengths]
    thumbnails, pictures, captions = Thumbnails(max(edges)), [], []
    for number, (row, col, kind, score) in zip(numbers[best], points[best].tolist(), strict=True):
        scene, edge = survey.scenes[number], edges[number]
        window = Window(row - edge // 2, col - edge // 2, edge, edge).intersect(Window(0, 0, scene.height, scene.width))
        pictures.append(thumbnails.read_path(scene.path, window))
        captions.append(f"{survey.names[kind]} {score / FULL:.3f}\n{scene.name}\nrow {row}, col {col}")
        pulse.step()
    title = f"The {len(best)} highest scores of {len(points):,}"
    draw_sheet(path, pictures, captions, title, f"model {survey.settled.recipe.model.name}")
    return [path]
