"""`hpcseg count`: map scenes to the heat of a detector, find its peaks by one reduce over the maps, and tell what was found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpcseg import store
from hpcseg.area import pixel_width_m
from hpcseg.config import ModelSpec
from hpcseg.errors import UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.predict import map_scenes
from hpcseg.inference.prepare import Settled
from hpcseg.inference.route import Route
from hpcseg.kernels.heat import level_of
from hpcseg.kernels.peaks import neighbours
from hpcseg.mapping.report import Summary
from hpcseg.mpi import Comm, Pulse, on_root, share_out
from hpcseg.objects.peaks import TILE, HeatMap, find_all
from hpcseg.objects.survey import Survey, write_survey
from hpcseg.raster import Scene


@dataclass(frozen=True)
class Choice:
    """What is counted and told. threshold, distance: None = the model's. pixel_size: metres, of scenes that do not say where they lie.
    density: edge of the cells of a grid, 0 = none. sheet: how many points are shown. Lengths in metres, or pixels where the model has no
    resolution. tile: edge of the tiles of the search in pixels."""

    threshold: float | None = None
    distance: float | None = None
    pixel_size: float = 0.0
    density: float = 0.0
    sheet: int = 40
    tile: int = TILE


class Counted(NamedTuple):
    """What was counted, on rank 0. files: what was written. lines: what is to be said."""

    summary: Summary
    files: list[Path]
    lines: list[str]


def count(
    comm: Comm, options: Options, choice: Choice, stop: threading.Event, choose: Callable[[Comm, Options], Route]
) -> Counted | None:  # fmt: skip
    """Map, find and write; collective. Returns on rank 0 what was counted; a stop ends it after the map, as in predict.

    choose: opens what maps the scenes. Raises UsageError if that is no detector or the choice does not fit it.
    """
    settled, summary = map_scenes(comm, options, stop, lambda comm, options: _detector(comm, options, choose))
    if comm.bcast(summary is not None and summary.stopped):
        return None if summary is None else Counted(summary, [], [])
    with Pulse(comm, options.stall, stop) as pulse:
        stored = share_out(comm, settled.paths, store.read)
        lengths = [length_of(settled.recipe.model.spec, scene, choice.pixel_size) for scene in settled.scenes]
        maps = on_root(comm, lambda: _heat_maps(settled, stored, lengths, choice))
        found = find_all(comm, pulse, maps, options.threads, choice.tile)
        told = on_root(comm, lambda: write_survey(Survey(options.out, settled, maps, found, lengths), pulse, choice.sheet))
    return None if summary is None else Counted(summary, *told)


def _detector(comm: Comm, options: Options, choose: Callable[[Comm, Options], Route]) -> Route:
    route = choose(comm, options)

    def check() -> None:
        if route.model.spec.task != "points":
            more = "hpcseg predict, then hpcseg export --to objects, counts its patches"
            raise UsageError(f"model {options.model} labels pixels, wanted a detector (hpcseg train --task points); {more}")

    on_root(comm, check)
    return route


def length_of(spec: ModelSpec, scene: Scene, pixel_size: float) -> float:
    """Length of a scene's pixel in the units of the model: metres, by `pixel_size` or else as in training where the scene does not say
    where it lies; 1 where the model has no resolution."""
    if not spec.resolution:
        return 1.0
    return pixel_width_m(scene.place, scene.height, scene.width) or pixel_size or spec.resolution


def _heat_maps(settled: Settled, stored: Sequence[store.Stored], lengths: Sequence[float], choice: Choice) -> list[HeatMap]:
    """What is looked for in each scene. lengths: of their pixels. Raises UsageError if a length does not fit a scene's pixels."""
    spec, maps = settled.recipe.model.spec, []
    level = level_of(spec.threshold if choice.threshold is None else choice.threshold)
    distance = spec.least_distance if choice.distance is None else choice.distance
    for scene, each, length in zip(settled.scenes, stored, lengths, strict=True):
        if distance / length > TILE:
            raise UsageError(f"--distance {distance:g} is {distance / length:.0f} pixels of {scene.name}, wanted at most {TILE}")
        if 0 < choice.density < length:
            raise UsageError(f"--density {choice.density:g}: wanted cells no smaller than a pixel, which is {length:.3g} in {scene.name}")
        maps.append(HeatMap(each, neighbours(distance, (length, length)), level, choice.density / length))
    return maps
