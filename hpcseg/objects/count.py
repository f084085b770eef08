"""`hpcseg count`: map scenes, find the objects by one reduce over the maps, and tell what was found.

Of a detector's heat the objects are its peaks; of a map of classes its connected patches.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hpcseg import store
from hpcseg.environment import phase
from hpcseg.inference.options import Options
from hpcseg.inference.predict import map_scenes
from hpcseg.inference.prepare import Settled
from hpcseg.inference.route import Route
from hpcseg.mapping.report import Summary
from hpcseg.mpi import Comm, Pulse, on_root, share_out
from hpcseg.objects.peaks import find_all
from hpcseg.objects.reduce import Settings, find_components, remove_scratch
from hpcseg.objects.search import Choice, Search, check, prepare
from hpcseg.objects.survey import remove_survey, write_survey


class Counted(NamedTuple):
    """What was counted, on rank 0. files: what was written. lines: what is to be said."""

    summary: Summary
    files: list[Path]
    lines: list[str]


def count(
    comm: Comm, options: Options, choice: Choice, stop: threading.Event, choose: Callable[[Comm, Options], Route]
) -> Counted | None:  # fmt: skip
    """Map, find and write; collective. Returns on rank 0 what was counted; a stop ends it after the map, as in predict.

    choose: opens what maps the scenes; maps of classes are made with their confidence. Raises UsageError if the choice does not fit it or
    the scenes, before anything is mapped; then what an earlier count told of the scenes is removed.
    """
    # A pulse of its own, as long as the options of the map depend on what is opened.
    with Pulse(comm, options.stall, stop), phase("network"):
        route = choose(comm, options)
        on_root(comm, lambda: check(choice, route.model.spec, options.model))
    options = dataclasses.replace(options, confidence=route.model.spec.task == "classes")

    def clear(settled: Settled) -> None:
        prepare(settled, options, choice).check()
        remove_survey(options.out, settled.scenes)

    settled, summary = map_scenes(comm, options, stop, lambda comm, options: route, clear)
    if comm.bcast(summary is not None and summary.stopped):
        return None if summary is None else Counted(summary, [], [])
    with Pulse(comm, options.stall, stop) as pulse:
        search = prepare(settled, options, choice, share_out(comm, settled.paths, store.read))
        told = (_count_peaks if route.model.spec.task == "points" else _count_patches)(comm, pulse, search)
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
