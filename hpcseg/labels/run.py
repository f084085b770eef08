"""`hpcseg label`: the steps of a teacher over all scenes, into one prediction file a scene.

The same path as a network's, `hpcseg.mapping`, after as many reduces as the teacher has. A scene whose map is complete is not read
again. A scene that is resumed is reduced anew: what its steps find is exact, so it agrees with what the file says, or else (tiles
that could not be read came back) the map is begun anew.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcseg import store
from hpcseg.environment import peak_memory, phase, processor
from hpcseg.errors import UsageError
from hpcseg.kernels.warm import compile_reading
from hpcseg.labels.engine import StepEngine
from hpcseg.labels.picture import check_pictures, remove_pictures, write_pictures
from hpcseg.labels.shares import LabelSummary, count_shares
from hpcseg.labels.teacher import Fit, Step, Teacher
from hpcseg.labels.warm import compile_steps
from hpcseg.mapping.options import MapOptions, layout_of, scene_identity
from hpcseg.mapping.report import RankReport, part_name, write_reports
from hpcseg.mapping.run import Mapper, Pass, announce, await_all, open_files, run_pass, summarise
from hpcseg.mapping.settle import (
    Settled,
    check_identities,
    check_space,
    check_stripe,
    find_done,
    find_earlier,
    list_part,
    open_scenes,
    plan_tiles,
)
from hpcseg.mapping.writer import Writer
from hpcseg.mpi import Comm, Pulse, first_on_node, on_root, refuse_stop, share_out
from hpcseg.partition import Plan
from hpcseg.progress import Progress
from hpcseg.raster import Entry, Scene, Values
from hpcseg.share import merge_at_owners
from hpcseg.store import Layout
from hpcseg.tiles import Grid


@dataclass(frozen=True)
class LabelOptions(MapOptions):
    """out: folder for the prediction files."""

    out: Path


@dataclass(frozen=True)
class Reduced:
    """What the steps before the last found. Lists are by scene number. unreadable: (scene, tile) -> reason. report: of this rank."""

    fits: list[Fit]
    unreadable: dict[tuple[int, int], str]
    report: RankReport


def label(comm: Comm, teacher: Teacher, options: LabelOptions, stop: threading.Event) -> LabelSummary | None:
    """Label all scenes; collective. stop: when set, on any rank, all finish the tile in hand. Returns the summary on rank 0."""
    begin = time.perf_counter()
    with Pulse(comm, options.stall, stop) as pulse:
        settled, done = settle(comm, pulse, teacher, options)
        announce(comm, settled)
        waiting = {scene.dtype for scene, tiles in zip(settled.scenes, done, strict=True) if not tiles.all()}
        if waiting:
            with phase("compile"):
                first_on_node(comm, lambda: _compile(teacher, sorted(waiting)))
        reduced, settled = _reduce(comm, pulse, teacher, options, settled, done)
        if teacher.picture:
            on_root(comm, lambda: remove_pictures(settled))
        of_scene = [{"fit": _text(fit)} for fit in reduced.fits]
        parameters = {"teacher": json.dumps({"name": teacher.name, **teacher.parameters})}
        mapper = Mapper(f"label {teacher.name}", teacher.classes, processor()[0], said=parameters, of_scene=lambda k: of_scene[k])
        writer = open_files(comm, pulse, settled, options, mapper)
        progress = Progress("tiles", settled.plan.size, comm.rank == 0, options.out, part_name(options.part))
        way = _way(teacher, teacher.steps[-1], options, settled, settled.plan, reduced)
        report, _ = run_pass(comm, pulse, way, options, writer, progress)
        await_all(comm, pulse, progress)
        writer.close()
        report.add_earlier(reduced.report)
        report.peak_memory_mb = peak_memory() / 1e6
        on_root(comm, lambda: _remove_scratch(settled.paths))
        shares = None if _is_stopped(comm, pulse) else count_shares(comm, pulse, settled, teacher.classes)
        if teacher.picture and shares is not None:
            write_pictures(comm, pulse, settled, teacher.picture)
        found = summarise(comm, settled, report, begin)
        if found is None:
            return None
        fits = {scene.name: fit for scene, fit in zip(settled.scenes, reduced.fits, strict=True) if fit}
        found |= {"device": processor()[0], "threads": options.threads}
        summary = LabelSummary(**found, teacher=teacher.name, fits=fits, shares=shares or {})
        write_reports(options.out, summary, settled.entries, options.part)
        return summary


def _compile(teacher: Teacher, dtypes: Sequence[str]) -> None:
    compile_reading(dtypes, teacher.dtype)
    compile_steps(teacher)


def settle(comm: Comm, pulse: Pulse, teacher: Teacher, options: LabelOptions) -> tuple[Settled, list[np.ndarray]]:
    """Scenes, files and what is done of them, bool (ny * nx,) by scene; the plan is that of all tiles. Collective. Raises UsageError."""
    core = on_root(comm, lambda: _choose_core(teacher, options))
    entries = list_part(comm, options)
    opened = on_root(comm, lambda: teacher.gather(entries))
    scenes, refused = open_scenes(comm, opened, options, lambda entry, scene: teacher.read(entry, scene)[0])
    asked, gathered = ({entry.name: entry for entry in each} for each in (entries, opened))
    values = share_out(comm, scenes, lambda scene: _values(teacher, gathered[scene.name], scene, options))
    pulse.step()
    halo = max(step.halo for step in teacher.steps)
    layouts = [layout_of(scene, core, halo, teacher.planes) for scene in scenes]
    identities = [_identity(*each, teacher, options) for each in zip(scenes, layouts, values, strict=True)]
    paths = [options.out / f"{scene.name}.h5" for scene in scenes]
    if teacher.picture:
        on_root(comm, lambda: check_pictures(paths, asked))
    stored = find_earlier(comm, options.out, paths, options.overwrite)
    on_root(comm, lambda: check_stripe(layouts, options.stripe))
    on_root(comm, lambda: check_identities(paths, identities, stored))
    on_root(comm, lambda: _remove_scratch(paths))
    done = find_done(comm, pulse, layouts, stored)
    new = [layout for layout, old in zip(layouts, stored, strict=True) if old is None]
    waiting = [layout for layout, tiles in zip(layouts, done, strict=True) if not tiles.all()]
    scratch = [_scratch_layout(layout, step) for layout in waiting for step in teacher.steps if step.scratch]
    pictures = [Layout(layout.grid, layout.chunk, tuple(sorted(set(teacher.picture)))) for layout in waiting if teacher.picture]
    on_root(comm, lambda: check_space(options.out, scratch))
    on_root(comm, lambda: check_space(options.out, new + scratch + pictures, paths if options.overwrite else ()))
    plan = plan_tiles(comm, scenes, layouts, done)
    return Settled(scenes, layouts, identities, values, paths, plan, refused, asked, []), done


def _values(teacher: Teacher, entry: Entry, scene: Scene, options: LabelOptions) -> Values:
    """How a scene is read: a teacher that needs all bands of a pixel says so itself."""
    values = teacher.read(entry, scene)[1]
    return values if values.rule == "any" else values._replace(rule=options.nodata_rule)


def _choose_core(teacher: Teacher, options: LabelOptions) -> int:
    core = options.core or teacher.core
    if core % teacher.stride:
        raise UsageError(f"--core {core} is no multiple of {teacher.stride}, the cells of label {teacher.name}")
    return core


def _identity(scene: Scene, layout: Layout, values: Values, teacher: Teacher, options: LabelOptions) -> dict[str, Any]:
    """All that decides the bytes of a prediction file, as it reads back from JSON."""
    own = {"teacher": teacher.name, "parameters": teacher.parameters, "values": values._asdict()}
    return json.loads(json.dumps(scene_identity(scene, layout, options.nodata_rule) | own, allow_nan=True, default=str))


def _text(fit: Fit) -> str:
    return json.dumps(fit, sort_keys=True)


def _reduce(
    comm: Comm, pulse: Pulse, teacher: Teacher, options: LabelOptions, settled: Settled, done: list[np.ndarray]
) -> tuple[Reduced, Settled]:
    """Run all steps but the last over the scenes that are not complete, and settle what is left to map. Collective.

    Raises StoppedError, shared by all ranks, if a signal came.
    """
    waiting = np.array([not tiles.all() for tiles in done], bool)
    plan = plan_tiles(comm, settled.scenes, settled.layouts, [np.full(tiles.size, not w) for tiles, w in zip(done, waiting, strict=True)])
    fits, unread = _begin(comm, pulse, teacher, options, settled, waiting)
    reduced = Reduced(fits, {}, RankReport(comm.rank, ""))
    for step in teacher.steps[:-1]:
        way = _way(teacher, step, options, settled, plan, reduced)
        reduced = _run_step(comm, pulse, step, way, options, settled, reduced)
    earlier = share_out(comm, settled.paths, lambda path: "" if options.overwrite else _earlier_fit(path))
    for k, text in enumerate(earlier):
        if not waiting[k]:
            reduced.fits[k] = json.loads(text)
        elif text and text != _text(reduced.fits[k]):
            done[k][:] = False
            on_root(comm, settled.paths[k].unlink)
    refused = [*settled.refused, *(("statistics", text) for text in unread)]
    for k, fit in enumerate(reduced.fits):
        if "problem" in fit and waiting[k]:
            done[k][:] = True
            refused.append((settled.scenes[k].name, fit["problem"]))
            if comm.rank == 0:
                print(f"skipped {settled.scenes[k].name}: {fit['problem']}", flush=True)
    plan = plan_tiles(comm, settled.scenes, settled.layouts, done)
    left = Settled(
        settled.scenes, settled.layouts, settled.identities, settled.values, settled.paths, plan, refused, settled.entries, settled.notes
    )
    return reduced, left


def _begin(
    comm: Comm, pulse: Pulse, teacher: Teacher, options: LabelOptions, settled: Settled, waiting: np.ndarray
) -> tuple[list[Fit], list[str]]:
    """What the teacher wants to know of the scenes that are not complete before its first step."""
    fits: list[Fit] = [{} for _ in settled.scenes]
    numbers = np.flatnonzero(waiting).tolist()
    found, unread = teacher.begin(comm, pulse, [settled.scenes[k] for k in numbers], options)
    refuse_stop(comm, pulse.stop, "all scenes were reduced")
    for k, fit in zip(numbers, found, strict=True):
        fits[k] = fit
    return fits, unread


def _earlier_fit(path: Path) -> str:
    """What the steps found when a file was made, "" if there is none."""
    return store.read(path).attributes.get("fit", "{}") if path.exists() else ""


def _way(teacher: Teacher, step: Step, options: LabelOptions, settled: Settled, plan: Plan, reduced: Reduced) -> Pass:
    grids = [Grid(y.grid.height, y.grid.width, y.grid.core, step.halo) for y in settled.layouts]
    used = {k for k, tiles in enumerate(plan.tiles) if len(tiles)} if step.reads_scratch else set()
    stored = [store.read(_scratch_path(path)) if k in used else None for k, path in enumerate(settled.paths)]
    engine = StepEngine(teacher, step, grids, reduced.fits, stored, options.threads)
    found = [(k, np.flatnonzero(each.status == store.EMPTY)) for k, each in enumerate(stored) if each is not None]
    empty = {(k, int(tile)) for k, tiles in found for tile in tiles}
    readers = options.readers or 1
    return Pass(settled.scenes, grids, settled.values, plan, engine, readers, reduced.unreadable, empty, not step.reads_scene)


def _run_step(comm: Comm, pulse: Pulse, step: Step, way: Pass, options: LabelOptions, settled: Settled, reduced: Reduced) -> Reduced:
    """One reduce: its accumulators merged and fitted by the scenes' owners, what they found told to all. Collective."""
    writer = _open_scratch(comm, pulse, step, way.plan, settled) if step.scratch else None
    report, failed = run_pass(comm, pulse, way, options, writer)
    await_all(comm, pulse)
    if writer is not None:
        writer.close()
    refuse_stop(comm, pulse.stop, "all scenes were reduced")
    assert isinstance(way.engine, StepEngine)
    merged = merge_at_owners(comm, way.plan, way.engine.results())
    mine = {k: step.fit(total, reduced.fits[k]) for k, total in merged.items()}
    told = {k: fit for each in comm.allgather(mine) for k, fit in each.items()}
    chosen = {k for k, tiles in enumerate(way.plan.tiles) if len(tiles)}
    fits = [told[k] if k in told else step.fit(step.start(), fit) if k in chosen else fit for k, fit in enumerate(reduced.fits)]
    unreadable = {place: reason for each in comm.allgather(failed) for place, reason in each.items()}
    report.add_earlier(reduced.report)
    return Reduced(fits, reduced.unreadable | unreadable, report)


def _is_stopped(comm: Comm, pulse: Pulse) -> bool:
    """Whether a signal came, the same on all ranks: each alone may see it before or after another. Collective."""
    return any(comm.allgather(pulse.stop.is_set()))


def _scratch_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.scratch.h5")


def _remove_scratch(paths: Sequence[Path]) -> None:
    for path in paths:
        _scratch_path(path).unlink(missing_ok=True)


def _scratch_layout(layout: Layout, step: Step) -> Layout:
    return Layout(layout.grid, layout.chunk, (store.SCRATCH,), step.scratch)


def _open_scratch(comm: Comm, pulse: Pulse, step: Step, plan: Plan, settled: Settled) -> Writer:
    """The scratch files of a step, of the same layout and crash rules as prediction files. Collective over the owners of each."""
    layouts = [_scratch_layout(layout, step) for layout in settled.layouts]
    paths = [_scratch_path(path) for path in settled.paths]

    def create(scene: int) -> None:
        grid = layouts[scene].grid
        store.create(paths[scene], layouts[scene], {"core": grid.core, "halo": grid.halo}, {}, settled.scenes[scene].place)

    return Writer(comm, pulse, plan, layouts, paths, create)
