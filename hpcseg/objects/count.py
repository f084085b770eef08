"""`hpcseg count`: map scenes, find the objects by one reduce over the maps, and tell what was found.

Of a detector's heat the objects are its peaks; of a map of classes its connected patches.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hpcseg.environment import phase
from hpcseg.inference.options import Options
from hpcseg.inference.predict import map_scenes
from hpcseg.inference.route import Route
from hpcseg.mapping.report import Summary
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.objects.peaks import find_all
from hpcseg.objects.reduce import Settings, find_components, remove_scratch
from hpcseg.objects.search import Choice, Search, check, prepare
from hpcseg.objects.survey import write_survey


class Counted(NamedTuple):
    """What was counted, on rank 0. files: what was written. lines: what is to be said."""

    summary: Summary
    files: list[Path]
    lines: list[str]


def count(
    comm: Comm, options: Options, choice: Choice, stop: threading.Event, choose: Callable[[Comm, Options], Route]
) -> Counted | None:  # fmt: skip
    """Map, find and write; collective. Returns on rank 0 what was counted; a stop ends it after the map, as in predict.

    choose: opens what maps the scenes; maps of classes are made with their confidence. Raises UsageError if the choice does not fit it.
    """
    with phase("network"):
        route = choose(comm, options)
    on_root(comm, lambda: check(choice, route.model.spec, options.model))
    options = dataclasses.replace(options, confidence=route.model.spec.task == "classes")
    settled, summary = map_scenes(comm, options, stop, lambda comm, options: route)
    if comm.bcast(summary is not None and summary.stopped):
        return None if summary is None else Counted(summary, [], [])
    with Pulse(comm, options.stall, stop) as pulse:
        told = (_count_peaks if route.model.spec.task == "points" else _count_patches)(comm, pulse, prepare(comm, settled, options, choice))
    return None if summary is None else Counted(summary, *told)


def _count_peaks(comm: Comm, pulse: Pulse, search: Search) -> tuple[list[Path], list[str]]:
    maps = on_root(comm, search.heat_maps)
    peaks = find_all(comm, pulse, maps, search.options.threads, search.choice.tile)
    return on_root(comm, lambda: write_survey(search.survey_peaks(maps, peaks), pulse))


def _count_patches(comm: Comm, pulse: Pulse, search: Search) -> tuple[list[Path], list[str]]:
    cases = on_root(comm, search.cases)
    try:
        mine = find_components(comm, pulse, cases, Settings(threads=search.options.threads, tile=search.choice.tile))
        parts = {k: part for every in comm.gather(mine) or [] for k, part in every.items()}
        return on_root(comm, lambda: write_survey(search.survey_patches(cases, parts), pulse))
    finally:
        if comm.rank == 0:
            remove_scratch(cases)
