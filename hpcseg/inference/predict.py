"""`hpcseg predict`: map scenes with a model, on any number of ranks, into one prediction file a scene."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch

from hpcseg import device
from hpcseg.environment import peak_memory, phase
from hpcseg.inference.options import Options
from hpcseg.inference.prepare import Settled, settle
from hpcseg.inference.route import Route, open_route
from hpcseg.mapping.report import RankReport, Summary, part_name, write_reports
from hpcseg.mapping.run import Mapper, Pass, announce, await_all, open_files, run_pass, summarise
from hpcseg.mapping.writer import Writer
from hpcseg.mpi import Comm, Pulse, first_on_node, on_root
from hpcseg.progress import Progress


def predict(
    comm: Comm, options: Options, stop: threading.Event, choose: Callable[[Comm, Options], Route] = open_route
) -> Summary | None:
    """Map all scenes; collective. stop: when set, on any rank, all finish the tile in hand. choose: opens what labels them.
    Returns the summary on rank 0."""
    return map_scenes(comm, options, stop, choose)[1]


def map_scenes(
    comm: Comm, options: Options, stop: threading.Event, choose: Callable[[Comm, Options], Route],
    ready: Callable[[Settled], object] = lambda settled: None,
) -> tuple[Settled, Summary | None]:  # fmt: skip
    """The same, and what was settled before the first tile, on every rank. ready: done with it on rank 0 before that tile; what it
    raises, all ranks do."""
    begin = time.perf_counter()
    with Pulse(comm, options.stall, stop) as pulse:
        with phase("network"):
            route = choose(comm, options)
        settled = settle(comm, pulse, options, route)
        announce(comm, settled)
        on_root(comm, lambda: ready(settled))
        recipe = settled.recipe
        dtypes = sorted({scene.dtype for scene in settled.scenes})
        with phase("compile"):
            first_on_node(comm, lambda: route.compile(dtypes, recipe))
        writer = open_files(comm, pulse, settled, options, _mapper(route))
        progress = Progress("tiles", settled.plan.size, comm.rank == 0, options.out, part_name(options.part))
        report = _map_span(comm, pulse, settled, route, options, writer, progress)
        await_all(comm, pulse, progress)
        writer.close()
        found = summarise(comm, settled, report, begin)
        if found is None:
            return settled, None
        threads = options.threads if device.choose().type == "cpu" else 0
        summary = Summary(**found, precision=recipe.precision, device=device.name(), threads=threads)
        write_reports(options.out, summary, settled.entries, options.part)
        return settled, summary


def _mapper(route: Route) -> Mapper:
    return Mapper(route.model.name, route.model.spec.classes, device.name(), {"torch": torch.__version__}, route.said)


def _map_span(
    comm: Comm, pulse: Pulse, settled: Settled, route: Route, options: Options, writer: Writer, progress: Progress
) -> RankReport:
    """The tiles of one rank: everything in it is independent of other ranks."""
    grids, where = [layout.grid for layout in settled.layouts], device.choose()
    engine = route.make_engine(settled.recipe, grids, where, options)
    way = Pass(settled.scenes, grids, settled.values, settled.plan, engine, count_readers(options, where))
    report, _ = run_pass(comm, pulse, way, options, writer, progress)
    route.report(engine, report)
    report.peak_memory_mb = peak_memory() / 1e6
    return report


def count_readers(options: Options, where: torch.device) -> int:
    """Reader threads of a rank. A GPU outruns one; on a CPU the engine's threads need the cores."""
    return options.readers or (max(1, options.threads - 1) if where.type == "cuda" else 1)
