"""`hpcseg gallery evaluate`: a gallery's maps against those of one model for all, on the same pixels: how good, how fast, who mapped what.

The tables are those of RESFlow (Table IV: IoU and F1 by region; Table VII: throughput), from confusion matrices in integers and from
the run.json of both runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from hpcseg.config import Class
from hpcseg.errors import UsageError
from hpcseg.evaluation import Evaluation, Judged, evaluate
from hpcseg.gallery.members import ModelGallery, open_gallery
from hpcseg.gallery.spec import MONO_BUCKET, NO_BUCKET
from hpcseg.gallery.table import write_csv
from hpcseg.mapping.report import STAGES, RankReport, read_record
from hpcseg.metrics import MEASURES, figures
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.products.buckets import BucketMap, draw_bucket_map
from hpcseg.products.cog import text
from hpcseg.store import Stored
from hpcseg.tally import Settings

MODELS = ("mono", "gallery")
_IOU, _F1 = MEASURES.index("iou"), MEASURES.index("f1")
_DAY = 86400


class Score(NamedTuple):
    """A region's figures by one of MODELS: those of the last of two classes, the means of more. NaN = unknown."""

    region: str
    model: str
    scenes: int
    judged_px: int
    iou: float
    f1: float


class Speed(NamedTuple):
    """What a run mapped in a second of its mapping, and busy seconds of its stages, over all threads and ranks. Rates of a run in several
    parts (--part) are NaN: its parts need not have run at once, nor one after another."""

    model: str
    mpx: float
    km2: float
    cells: float
    gb: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """The verdict. scores: by region, mono then gallery, all regions together last. pictures: scenes of the gallery that kept one.
    left_out: (scene, reason)."""

    classes: list[Class]
    scores: list[Score]
    speeds: list[Speed]
    pictures: list[Judged]
    left_out: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class Question:
    """What is compared. gallery: the model gallery's folder. maps, mono: folders of prediction files. labels: as `evaluate` takes them.
    region: the manifest column that names a scene's region; scenes without it are regions of their own."""

    gallery: Path
    maps: Path
    mono: Path
    labels: Sequence[str]
    region: str = "region"


def compare(comm: Comm, pulse: Pulse, question: Question, settings: Settings) -> Compared | None:
    """Judge both runs. Collective. Raises UsageError: nothing to compare, maps of another gallery."""
    gallery, own, other = on_root(comm, lambda: _prepare(question))
    found = evaluate(comm, pulse, own, question.labels, settings)
    mono = evaluate(comm, pulse, other, question.labels, replace(settings, pictures=0))
    return on_root(comm, lambda: None if found is None or mono is None else _verdict(question, gallery, found, mono))


def _prepare(question: Question) -> tuple[ModelGallery, list[Path], list[Path]]:
    """The gallery, and the maps of scenes that both runs have."""
    gallery = open_gallery(question.gallery, insist=True)
    if gallery.said.task == "points":
        raise UsageError(f"{question.gallery} finds points: judge each folder of hpcseg count by hpcseg evaluate FOLDER --points MARKS")
    folders = question.maps, question.mono
    names = [{path.name for path in folder.glob("[!.]*.h5")} for folder in folders]
    both = sorted(names[0] & names[1])
    if not both:
        raise UsageError(f"{question.maps} and {question.mono} have no prediction file (*.h5) of the same name: map the same scenes")
    own, other = ([folder / name for name in both] for folder in folders)
    return gallery, own, other


def _verdict(question: Question, gallery: ModelGallery, found: Evaluation, mono: Evaluation) -> Compared:
    others = {each.case.scene.name: each for each in mono.scenes}
    pairs, left_out = [], [*found.refused, *mono.refused]
    for each in found.scenes:
        name = each.case.scene.name
        if each.case.stored.identity.get("network") != gallery.digest:
            raise UsageError(
                f"{each.case.stored.path} is not a map of {question.gallery} as it is now: map it again, or name another gallery"
            )
        if name in others and _same_pixels(each, others[name]):
            pairs.append((each, others[name]))
        elif name in others:
            left_out.append((name, "the two maps do not cover the same pixels: finish both runs"))
    if not pairs:
        raise UsageError(f"{question.maps}: no scene can be compared: {left_out[0][0]}: {left_out[0][1]}")
    used = {other.case.stored.identity.get("network") for _, other in pairs}
    notes = [] if used == {gallery.members[0].digest} else [f"the maps of {question.mono} are not of the gallery's own mono model"]
    stored = [each.case.stored for each, _ in pairs]
    speeds = [_speed(name, folder, stored) for name, folder in zip(MODELS, (question.mono, question.maps), strict=True)]
    notes += [f"no rates of {s.model}: its run.json is of several parts, or of nothing mapped" for s in speeds if np.isnan(s.mpx)]
    pictures = [each for each, _ in pairs if each.picture.size]
    return Compared(found.classes, _scores(pairs, question.region), speeds, pictures, sorted(set(left_out)), found.notes + notes)


def _same_pixels(one: Judged, other: Judged) -> bool:
    return np.array_equal(one.table.sum(1), other.table.sum(1)) and np.array_equal(one.unmapped, other.unmapped)


def _scores(pairs: Sequence[tuple[Judged, Judged]], column: str) -> list[Score]:
    regions: dict[str, list[tuple[Judged, Judged]]] = {}
    for pair in pairs:
        regions.setdefault(_region_of(pair[0], column), []).append(pair)
    groups = [*sorted(regions.items()), ("all", list(pairs))]
    return [_score(region, model, [pair[1 - k] for pair in group]) for region, group in groups for k, model in enumerate(MODELS)]


def _region_of(each: Judged, column: str) -> str:
    manifest = json.loads(text(each.case.stored.attributes.get("manifest", "{}")))
    return manifest.get(column) or each.case.scene.name


def _score(region: str, model: str, scenes: Sequence[Judged]) -> Score:
    table = np.sum([each.table for each in scenes], axis=0)
    values = figures(table)
    column = 1 if len(table) == 2 else -1
    return Score(region, model, len(scenes), int(table.sum()), float(values[_IOU, column]), float(values[_F1, column]))


def _speed(model: str, folder: Path, stored: Sequence[Stored]) -> Speed:
    """From a run's report. stored: its maps, for what a pixel's bands take."""
    ranks = _read_ranks(folder)
    whole = len({rank.rank for rank in ranks}) == len(ranks)
    wall = max([rank.seconds.get("wall", 0.0) for rank in ranks if whole], default=0.0) or float("nan")
    pixels, area = sum(rank.mapped_px for rank in ranks), sum(rank.mapped_m2 for rank in ranks)
    cell = max(each.layout.cell for each in stored)
    each_px = np.mean([len(each.identity["bands"]) * np.dtype(each.identity["scene"]["dtype"]).itemsize for each in stored])
    return Speed(
        model, pixels / wall / 1e6, area / wall / 1e6, pixels / cell**2 / wall, float(pixels * each_px) / wall / 1e9, _stages(ranks)
    )


def _read_ranks(folder: Path) -> list[RankReport]:
    """What the ranks of a run said, those of all its parts. Raises UsageError."""
    record = read_record(folder)
    if not record:
        raise UsageError(f"{folder}: no report of a run (run.json)")
    try:
        return msgspec.convert(record["ranks"], list[RankReport])
    except (KeyError, msgspec.ValidationError) as error:
        raise UsageError(f"{folder}/run.json: no report of a run of predict: {error}") from error


def _stages(ranks: Sequence[RankReport]) -> dict[str, float]:
    """Busy seconds; a run with one network segments for the whole of its forward passes."""
    total = {key: sum(rank.seconds.get(key, 0.0) for rank in ranks) for key in ("decode", "read", "forward", "write", "wait", *STAGES)}
    reading = {"decode": total["decode"], "preprocess": max(0.0, total["read"] - total["decode"])}
    features, hashing = total["features"], total["hash"]
    return {
        **reading, "features": features, "hash": hashing, "segment": total["segment"] or total["forward"],
        "write": total["write"], "wait": total["wait"],
    }  # fmt: skip


def report_lines(found: Compared) -> list[str]:
    """Both tables for people, then stable `key=value` lines of all regions together."""
    width = max(len("region"), *(len(each.region) for each in found.scores))
    lines = [f"{'region':<{width}}  {'model':<8}  {'IoU':>6}  {'F1':>6}  {'judged px':>14}"]
    lines += [f"{s.region:<{width}}  {s.model:<8}  {s.iou:>6.3f}  {s.f1:>6.3f}  {s.judged_px:>14,}" for s in found.scores]
    lines += ["", f"{'':<10}  {'km2/s':>9}  {'km2/day':>12}  {'cells/s':>9}  {'Mpx/s':>9}  {'GB/s':>8}"]
    lines += [f"{s.model:<10}  {s.km2:>9.4g}  {s.km2 * _DAY:>12,.0f}  {s.cells:>9.4g}  {s.mpx:>9.4g}  {s.gb:>8.4g}" for s in found.speeds]
    stages = list(found.speeds[0].seconds)
    lines += ["", "busy seconds  " + "  ".join(f"{name:>10}" for name in stages)]
    lines += [f"{s.model:<12}  " + "  ".join(f"{s.seconds[name]:>10.2f}" for name in stages) for s in found.speeds]
    lines.append("")
    for score in found.scores[-len(MODELS) :]:
        lines += [f"iou_{score.model}={score.iou:.6f}", f"f1_{score.model}={score.f1:.6f}"]
    lines += [f"throughput_{each.model}={each.mpx:.3f} Mpx/s" for each in found.speeds]
    return [*lines, f"scenes={found.scores[-1].scenes}", f"left_out={len(found.left_out)}"]


def write_tables(found: Compared, out: Path) -> list[Path]:
    """scores.csv and speeds.csv in a folder. Raises UsageError."""
    rates = ("mpx", "km2", "cells", "gb")
    speeds = [
        [each.model, *(f"{getattr(each, name):.6g}" for name in rates), *(f"{getattr(each, name) * _DAY:.6g}" for name in rates),
         *(f"{value:.3f}" for value in each.seconds.values())]
        for each in found.speeds
    ]  # fmt: skip
    stages = [f"{name}_s" for name in found.speeds[0].seconds]
    head = ["model", *(f"{name}_per_s" for name in rates), *(f"{name}_per_day" for name in rates), *stages]
    scores = [[*each[:-2], f"{each.iou:.6f}", f"{each.f1:.6f}"] for each in found.scores]
    return [write_csv(out / "scores.csv", Score._fields, scores), write_csv(out / "speeds.csv", head, speeds)]


def draw_maps(found: Compared, out: Path, step: Callable[[], None]) -> list[Path]:
    """Maps tinted by the bucket whose network made each cell, <scene>_buckets.png. step: called after each. Raises UsageError."""
    paths = []
    for each in found.pictures:
        stored, name = each.case.stored, each.case.scene.name
        grid, labels = stored.layout.grid, each.picture[1]
        title = f"{name}: {', '.join(legend.name for legend in found.classes)}, from light to dark, by the bucket that mapped them"
        image = _greys(labels, len(found.classes))
        what = BucketMap(title, image, (grid.height, grid.width), stored.layout.cell, stored.buckets, MONO_BUCKET, NO_BUCKET)
        paths.append(out / f"{name}_buckets.png")
        draw_bucket_map(paths[-1], what)
        step()
    return paths


def _greys(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels as RGBA, the first class lightest, so that a tint shows; transparent where there are none."""
    shades = np.zeros((256, 4), np.uint8)
    shades[:classes] = np.linspace(250, 20, classes)[:, None]
    shades[:classes, 3] = 255
    return shades[labels]
