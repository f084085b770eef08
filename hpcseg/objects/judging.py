"""`hpcseg evaluate --points`: counted objects against marked ones, in integers, the same for any number of ranks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from hpcseg import store
from hpcseg.annotations import Annotations, pixel_length, read_annotations, tell_outside
from hpcseg.config import Class, LabelSpec
from hpcseg.errors import SceneError, StoreError, UsageError
from hpcseg.evaluation import scene_of, write_json
from hpcseg.kernels.heat import level_of
from hpcseg.matching import SCORES, Figures, Objects, curve
from hpcseg.mpi import Comm, Pulse, on_root, share_out
from hpcseg.products.cog import publishing, text
from hpcseg.products.recall import draw_recall
from hpcseg.raster import POINT_SUFFIXES, Entry, Pair, pair_labels, read_points

COUNTED = "points.csv"
_ALL = "all"
_CLASS, _SCORE = "class", "score"
# All points, then steps along the curve.
_LEVELS = (0, *range(5, SCORES, 5))
_COUNTS = ("within", "there", "found", "matched")
_FIGURES = ("precision", "recall", "f1", "count_error")


class Rule(NamedTuple):
    """How points are judged. distances: in metres, or pixels of scenes that do not say where they lie without `pixel_size`. spec: what the
    marks' values mean."""

    distances: tuple[float, ...]
    pixel_size: float
    spec: LabelSpec


class Judged(NamedTuple):
    """A scene. counts: int64 (classes, distances, levels, 3): there, found, matched. marked: what was read. blank: marks on no data."""

    name: str
    counts: np.ndarray
    marked: Annotations
    blank: int


@dataclass(frozen=True)
class PointEvaluation:
    """All scenes. notes: what else the user should know."""

    classes: list[str]
    rule: Rule
    scenes: list[Judged]
    notes: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """Figures of all points, then of each class where there are several, over all scenes, then of each scene; by distance."""
        total = np.sum([each.counts for each in self.scenes], axis=0)
        found = []
        for name, counts in [(_ALL, total), *((each.name, each.counts) for each in self.scenes)]:
            kinds = [(_ALL, counts.sum(0)), *zip(self.classes, counts, strict=True)]
            for (kind, table), (k, distance) in product(kinds[: None if len(self.classes) > 1 else 1], enumerate(self.rule.distances)):
                found.append({"scene": name, "class": kind, "within": distance} | Figures(*table[k, 0].tolist()).record())
        return found

    def curve(self, distance: int) -> list[tuple[float, Figures]]:
        """Figures over all scenes and classes at rising thresholds. distance: its number."""
        table = np.sum([each.counts for each in self.scenes], axis=(0, 1))[distance]
        return [(level / (SCORES - 1), Figures(*row)) for level, row in zip(_LEVELS, table.tolist(), strict=True)]


def judge_points(comm: Comm, pulse: Pulse, maps: Sequence[Path], files: Sequence[str], rule: Rule) -> PointEvaluation | None:
    """Judge what `hpcseg count` found beside its maps; the result on rank 0, None on others. Collective.

    maps: prediction files. files: of marked objects, files, globs or folders; they pair with the maps by name. Marks outside every scene
    and marks on no data are left out.
    Raises UsageError or SceneError if something cannot be read, StoreError if a map cannot.
    """
    stored = on_root(comm, lambda: {path.stem: store.read(path) for path in maps})
    on_root(comm, lambda: _check(maps, stored))
    entries = [Entry(name, (str(each.path),)) for name, each in stored.items()]
    pairs, unpaired = on_root(comm, lambda: pair_labels(entries, files, POINT_SUFFIXES))

    def judge(pair: Pair) -> Judged | str:
        pulse.step()
        each = stored[pair.entry.name]
        try:
            return _judge(pair.label, each, rule)
        except (SceneError, UsageError) as error:
            return str(error)

    found = share_out(comm, pairs, judge)
    wrong = [each for each in found if isinstance(each, str)]
    on_root(comm, lambda: _refuse(wrong))
    if comm.rank:
        return None
    scenes = [each for each in found if isinstance(each, Judged)]
    blank = [f"{each.marked.path}: {each.blank} marks on no data of {each.name} left out" for each in scenes if each.blank]
    notes = [*unpaired, *tell_outside([each.marked for each in scenes]), *blank]
    return PointEvaluation(_classes(next(iter(stored.values()))), rule, scenes, notes)


def _classes(stored: store.Stored) -> list[str]:
    """The kinds of objects of a map."""
    try:
        names = [each.name for each in msgspec.json.decode(text(stored.attributes["classes"]), type=list[Class])]
    except (KeyError, msgspec.MsgspecError) as error:
        raise StoreError(f"{stored.path}: does not name its classes (attribute classes: {error})") from error
    # Marks need no class where there is one kind of patches beside the background.
    return names[1:] if "labels" in stored.layout.planes and len(names) == 2 else names


def _check(maps: Sequence[Path], stored: dict[str, store.Stored]) -> None:
    """Refuse what was not counted together."""
    if not (maps[0].parent / COUNTED).is_file():
        raise UsageError(f"{maps[0].parent}: no {COUNTED} here: wanted the folder of hpcseg count")
    names = {name: _classes(each) for name, each in stored.items()}
    first = next(iter(names))
    other = [name for name in names if names[name] != names[first]]
    if other:
        raise UsageError(f"{other[0]} has the classes {', '.join(names[other[0]])}, {first} has {', '.join(names[first])}")


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise UsageError(wrong[0])


def _judge(marks: str, stored: store.Stored, rule: Rule) -> Judged:
    """The counts of one scene."""
    scene, classes = scene_of(stored), _classes(stored)
    path = str(stored.path.parent / COUNTED)
    marked, blank = _on_data(stored, read_annotations(marks, scene, rule.spec, classes))
    counted = read_annotations(path, scene, LabelSpec(field=_CLASS), classes)
    scores = np.array([level_of(float(value)) for value in read_points(path, scene, _SCORE).values], np.uint8)
    length = pixel_length(scene, rule.pixel_size)
    there, found = _objects(marked, length, np.zeros(len(marked.kinds), np.uint8)), _objects(counted, length, scores)
    counts = [
        [curve(there.pick(there.place == kind), found.pick(found.place == kind), distance, _LEVELS) for distance in rule.distances]
        for kind in range(len(classes))
    ]
    return Judged(scene.name, np.array(counts, np.int64).reshape(len(classes), len(rule.distances), len(_LEVELS), 3), marked, blank)


def _on_data(stored: store.Stored, marked: Annotations) -> tuple[Annotations, int]:
    """The marks that lie on data of a scene, and how many do not. In tiles that were not mapped nobody knows: they lie on data."""
    grid, rows, cols = stored.layout.grid, marked.rows.astype(np.int64), marked.cols.astype(np.int64)
    tiles = rows // grid.core * grid.shape[1] + cols // grid.core
    reader, keep = store.PlaneReader(stored, stored.layout.planes[0]), np.ones(len(rows), bool)
    for tile in np.unique(tiles[np.isin(stored.status.ravel()[tiles], (store.DONE, store.EMPTY))]).tolist():
        core, here = grid.core_window(tile), tiles == tile
        plane = np.empty((core.height, core.width), np.uint8)
        reader.read(core, plane)
        keep[here] = plane[rows[here] - core.row, cols[here] - core.col] != store.NODATA
    reader.close()
    left = marked._replace(rows=marked.rows[keep], cols=marked.cols[keep], kinds=marked.kinds[keep])
    return left, int((~keep).sum())


def _objects(found: Annotations, length: float, scores: np.ndarray) -> Objects:
    return Objects(found.kinds, found.rows * length, found.cols * length, scores)


def write_evaluation(found: PointEvaluation, path: Path) -> list[Path]:
    """Write a report and, beside it by the same name, its figures (.csv) and its curve (.png). Returns the files."""
    rows, table, picture = found.rows(), path.with_suffix(".csv"), path.with_suffix(".png")
    write_json({"classes": found.classes, "distances": list(found.rule.distances), "figures": _plain(rows)}, path)
    with publishing(table) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_plain(rows))
    drawn = io.BytesIO()
    draw_recall(drawn, {f"within {distance:g}": found.curve(k) for k, distance in enumerate(found.rule.distances)})
    with publishing(picture) as part:
        part.write_bytes(drawn.getvalue())
    return [path, table, picture]


def _plain(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose unknown figures are None."""
    return [{key: None if value != value else value for key, value in row.items()} for row in rows]


def evaluation_lines(found: PointEvaluation) -> list[str]:
    """A table for people, then the figures over all scenes as stable `key=value` lines."""
    rows = found.rows()
    width = max(len(row["scene"]) for row in rows) + 2
    lines = [f"{'scene':<{width}}{'class':<12}" + "".join(f"{name:>9}" for name in _COUNTS) + "".join(f"{name:>13}" for name in _FIGURES)]
    for row in rows:
        counts, figures = "".join(f"{row[name]:>9g}" for name in _COUNTS), "".join(f"{row[name]:>13.3f}" for name in _FIGURES)
        lines.append(f"{row['scene']:<{width}}{row['class']:<12}{counts}{figures}")
    for row in rows[: len(found.rule.distances)]:
        lines += [f"{name}_within_{row['within']:g}={row[name]:.4f}" for name in _FIGURES]
    return lines
