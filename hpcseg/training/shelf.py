"""What a training run stands on: scenes and labels opened, classes counted, samples dealt out, normalisation measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hpcseg.annotations import Annotations, read_annotations, tell_outside
from hpcseg.config import Normalisation
from hpcseg.errors import SceneError, StoppedError, UsageError
from hpcseg.inference.options import Options, fixed_values
from hpcseg.inference.prepare import open_scenes, percentile_values
from hpcseg.kernels.filters import Prefilter
from hpcseg.models import Model
from hpcseg.mpi import Comm, Pulse, on_root, refuse_stop
from hpcseg.prefilter import check_scene, fit_prefilters
from hpcseg.raster import (
    POINT_SUFFIXES,
    CellCache,
    Entry,
    Pair,
    Scene,
    SceneReader,
    Values,
    list_scenes,
    open_label,
    pair_labels,
    set_block_cache,
)
from hpcseg.statistics import statistics
from hpcseg.tiles import Grid, Window
from hpcseg.training.feed import Shelf
from hpcseg.training.samples import PARTS, Samples, Shares, deal
from hpcseg.training.settings import Settings
from hpcseg.training.together import share_out_together, together
from hpcseg.training.truth import PointTruth
from hpcseg.truth import Truth, count_tile, open_truth


def reading(settings: Settings) -> Options:
    """How scenes are read, as `predict` reads them."""
    return Options(
        tuple(settings.scenes), "", settings.out, bands=tuple(settings.bands), nodata=settings.nodata, nodata_rule=settings.nodata_rule,
        crs=settings.crs, resolution=settings.resolution, align=settings.align, aoi=settings.aoi, assets=tuple(settings.assets),
        threads=settings.threads, cache=settings.cache << 20,
    )  # fmt: skip


def fill_shelf(comm: Comm, pulse: Pulse, settings: Settings, start: Model | None) -> Shelf:
    """Open scenes and labels, count classes, deal the samples out; all of it printed. Collective. Raises UsageError, SceneError.

    start: the model that training begins with."""
    entries = on_root(comm, lambda: list_scenes(settings.scenes, settings.assets))
    pairs, unpaired = on_root(comm, lambda: _pair(entries, settings))
    prefilter = settings.prefilter or (start.spec.prefilter if start else "")
    scenes, refused = open_scenes(comm, [pair.entry for pair in pairs], reading(settings), lambda entry, scene: _fitting(scene, prefilter))
    say(comm, [f"left out: {phrase}" for phrase in unpaired] + [f"left out: {name} {reason}" for name, reason in refused])
    on_root(comm, lambda: _check_scenes(scenes, refused))
    chosen = {pair.entry.name: pair for pair in pairs}
    cache = CellCache(settings.cache << 20)
    set_block_cache(32 << 20)
    truths = _open_truths(comm, pulse, settings, scenes, [chosen[scene.name] for scene in scenes], cache)
    grids = [Grid(scene.height, scene.width, settings.tile, 0) for scene in scenes]
    tiles = [(s, t) for s, grid in enumerate(grids) for t in range(grid.size)]

    def count(place: tuple[int, int]) -> tuple[np.ndarray, bool]:
        pulse.step()
        _check_stopped(pulse.stop.is_set())
        scene, tile = place
        return _count(truths[scene], grids[scene].core_window(tile), readers[scene])

    plain = [Values((1.0,) * len(scene.bands), (0.0,) * len(scene.bands), settings.nodata_rule) for scene in scenes]
    readers = [SceneReader(scene, values, cache) for scene, values in zip(scenes, plain, strict=True)]
    found = share_out_together(comm, tiles, count)
    starts = np.cumsum([0, *(grid.size for grid in grids)])
    counts = [np.stack([counts for counts, _ in found[a:b]]) for a, b in pairwise(starts)]
    seen = [np.array([sample for _, sample in found[a:b]]) for a, b in pairwise(starts)]
    fixed = {pair.entry.name: pair.entry.columns["split"] for pair in pairs if pair.entry.columns.get("split")}
    on_root(comm, lambda: _check_fixed(fixed))
    shares = Shares(settings.block, settings.validation, settings.test, settings.split_seed, fixed)
    samples = on_root(comm, lambda: deal([scene.name for scene in scenes], grids, counts, shares, seen))
    filters, unread = fit_prefilters(comm, pulse, prefilter, scenes, reading(settings))
    on_root(comm, lambda: _check_readable(unread))
    norm, values = normalise(comm, pulse, settings, scenes, start, filters)
    refuse_stop(comm, pulse.stop, "the first step")
    shelf = Shelf(samples, scenes, values, truths, cache, norm, len(refused), prefilter)
    on_root(comm, lambda: tell_split(settings, samples))
    return shelf


def _fitting(scene: Scene, prefilter: str) -> Scene:
    """The scene, if it can pass the filter. Raises SceneError."""
    check_scene(scene, prefilter)
    return scene


def _pair(entries: Sequence[Entry], settings: Settings) -> tuple[list[Pair], list[str]]:
    """Scenes with their labels, and what has no other half."""
    if settings.task == "points":
        return pair_labels(entries, settings.labels.files, POINT_SUFFIXES)
    return pair_labels(entries, settings.labels.files)


def _open_truths(
    comm: Comm, pulse: Pulse, settings: Settings, scenes: list[Scene], pairs: list[Pair], cache: CellCache
) -> list[Truth] | list[PointTruth]:
    """The truth of each scene, and a word on points that lie in none. Collective."""
    if settings.task == "classes":
        return together(comm, lambda: [_truth_of(pair, scene, settings, cache, pulse) for pair, scene in zip(pairs, scenes, strict=True)])

    def read(k: int) -> Annotations:
        pulse.step()
        return read_annotations(pairs[k].label, scenes[k], settings.labels, settings.names)

    found = share_out_together(comm, range(len(scenes)), read)
    say(comm, tell_outside(found))
    return [PointTruth(each, scene, settings) for each, scene in zip(found, scenes, strict=True)]


def _count(truth: Truth | PointTruth, window: Window, reader: SceneReader) -> tuple[np.ndarray, bool]:
    """Labelled pixels, or objects, of each class in a window, and whether it is a sample."""
    if isinstance(truth, PointTruth):
        return truth.count(window, reader)
    counts = count_tile(truth, window, reader)
    return counts, bool(counts.any())


def _truth_of(pair: Pair, scene: Scene, settings: Settings, cache: CellCache, pulse: Pulse) -> Truth:
    pulse.step()
    source = open_label(pair.label, pair.entry, settings.bands, settings.crs, settings.resolution, settings.align)
    return open_truth(pair.label, scene, settings.labels, settings.names, cache, source)


def _check_stopped(stopped: bool) -> None:
    if stopped:
        raise StoppedError("stopped before the first step: run the same command again")


def _check_scenes(scenes: list[Scene], refused: list[tuple[str, str]]) -> None:
    if not scenes:
        raise SceneError(f"no scene is left to train on: {refused[0][0]} {refused[0][1]}")
    bands = {len(scene.bands) for scene in scenes}
    if len(bands) > 1:
        raise UsageError(f"scenes give {' and '.join(map(str, sorted(bands)))} bands: choose the same number of each with bands = [...]")


def _check_fixed(fixed: dict[str, str]) -> None:
    wrong = [f"{name}: {part!r}" for name, part in fixed.items() if part not in PARTS]
    if wrong:
        raise UsageError(f"column split: {', '.join(wrong[:3])}; wanted {', '.join(PARTS)}, or nothing")


def say(comm: Comm, lines: list[str]) -> None:
    """Print lines on rank 0."""
    if comm.rank == 0 and lines:
        print("\n".join(lines), flush=True)


def normalise(
    comm: Comm, pulse: Pulse, settings: Settings, scenes: list[Scene], start: Model | None, filters: Sequence[Prefilter | None]
) -> tuple[Normalisation, list[Values]]:
    """How pixels become input, as model.toml says it and by scene: the start model's constants; else of all scenes together mean and
    deviation, or each scene's own percentiles. filters: what each scene passes first. Collective."""
    rule = settings.nodata_rule
    norm = start.spec.normalisation if start else Normalisation(kind=settings.normalisation, percentiles=settings.percentiles)
    if norm.kind == "fixed" and len(norm.mean) == len(scenes[0].bands):
        return norm, [fixed_values(norm, rule)._replace(prefilter=each) for each in filters]
    found, failures = statistics(comm, pulse, scenes, rule, norm.percentiles, settings.threads, settings.cache << 20, filters)
    on_root(comm, lambda: _check_readable(failures))
    if norm.kind == "scene":
        return norm, percentile_values(found, rule, filters)
    count, mean, deviation = (
        np.array([[getattr(band, key) for band in bands] for bands in found], float) for key in ("count", "mean", "deviation")
    )
    total = np.maximum(count.sum(0), 1)
    middle = (count * mean).sum(0) / total
    spread = np.sqrt((count * (deviation**2 + (mean - middle) ** 2)).sum(0) / total)
    spread = np.where(spread > 0, spread, 1.0)
    constants = Normalisation(mean=[float(f"{v:.8g}") for v in middle], std=[float(f"{v:.8g}") for v in spread])
    return constants, [fixed_values(constants, rule)._replace(prefilter=each) for each in filters]


def _check_readable(failures: list[str]) -> None:
    if failures:
        raise SceneError(f"{failures[0]}; training stops: leave this scene out, or repair it")


def tell_split(settings: Settings, samples: Samples) -> None:
    """Print the split and its class counts. Raises UsageError where train lacks a class."""
    points = settings.task == "points"
    for part in PARTS:
        counts = samples.class_counts(part)
        total = max(1, counts.sum())
        named = zip(settings.names, counts, strict=True)
        shares = [f"{name} {n}" if points else f"{name} {n} px ({100 * n / total:.1f} %)" for name, n in named]
        if points:
            shares.append(f"samples without objects {int((~samples.counts[samples.of(part)].any(1)).sum())}")
        blocks = sum(block.part == part for block in samples.blocks)
        where = f"{blocks} {'blocks' if samples.edge else 'scenes'}"
        print(f"{part}: {len(samples.of(part))} samples in {where}: {'  '.join(shares)}", flush=True)
    absent = [name for name, n in zip(settings.names, samples.class_counts("train"), strict=True) if n == 0]
    if absent:
        wanted = f"{'an object' if points else 'a pixel'} of {', '.join(absent)}"
        raise UsageError(f"no train sample has {wanted}: another split_seed, smaller blocks, or fewer classes")
