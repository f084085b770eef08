"""The passes of a run over its tiles: whatever the engine is, a pass reads, writes, reports and fails the same way."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

import hpcseg
from hpcseg import store
from hpcseg.area import pixel_area_m2
from hpcseg.config import Class
from hpcseg.environment import peak_memory, phase, proportional_memory, startup
from hpcseg.errors import ReadError
from hpcseg.mapping.options import MapOptions
from hpcseg.mapping.report import RankReport, Summary, user
from hpcseg.mapping.settle import Settled, remove_earlier
from hpcseg.mapping.writer import Writer, access_of
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.partition import Plan
from hpcseg.progress import Progress
from hpcseg.raster import CellCache, Scene, Values, set_block_cache
from hpcseg.stream import Engine, Source, Stream
from hpcseg.tiles import Grid


@dataclass(frozen=True)
class Mapper:
    """What makes the labels, as prediction files tell it. versions: of its libraries. said: further attributes.

    of_scene: attributes that differ by scene, by its number.
    """

    name: str
    classes: Sequence[Class]
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    of_scene: Callable[[int], Mapping[str, str]] = lambda scene: {}


@dataclass(frozen=True)
class Pass:
    """One way over the tiles of a plan. grids, with the halo of this pass, scenes and values: lists by scene number.

    unreadable: (scene, tile) -> reason, of tiles that an earlier pass could not read: they fail here too. empty: tiles that it found
    without data. blind: the scenes are not read, an earlier pass has left all that the engine needs.
    """

    scenes: Sequence[Scene]
    grids: Sequence[Grid]
    values: Sequence[Values]
    plan: Plan
    engine: Engine
    readers: int = 1
    unreadable: Mapping[tuple[int, int], str] = field(default_factory=dict)
    empty: Set[tuple[int, int]] = frozenset()
    blind: bool = False


@phase("files")
def open_files(comm: Comm, pulse: Pulse, settled: Settled, options: MapOptions, mapper: Mapper) -> Writer:
    """The prediction files of a run, made where they are not there yet; with `overwrite` none is. Collective. Raises StoreError."""
    if options.overwrite:
        on_root(comm, lambda: remove_earlier(settled.paths))
    attributes, access = _attributes(options, mapper), access_of(options)

    def create(scene: int) -> None:
        place, name = settled.scenes[scene].place, settled.scenes[scene].name
        said = attributes | {"manifest": json.dumps(dict(settled.entries[name].columns))} | dict(mapper.of_scene(scene))
        store.create(settled.paths[scene], settled.layouts[scene], settled.identities[scene], said, place, access)

    return Writer(comm, pulse, settled.plan, settled.layouts, settled.paths, create, access)


def _attributes(options: MapOptions, mapper: Mapper) -> dict[str, str]:
    """What a file says of how it was made."""
    versions = {"hpcseg": hpcseg.__version__, **mapper.versions, "numpy": np.__version__, "hdf5": store.HDF5_VERSION}
    made_by = {"user": user(), "host": socket.gethostname(), "machine": platform.machine(), "device": mapper.device,
               "file_locking": os.environ.get("HDF5_USE_FILE_LOCKING", "")}  # fmt: skip
    return {
        "hpcseg_version": hpcseg.__version__,
        "model": mapper.name,
        "classes": json.dumps([{"name": each.name, "color": each.color} for each in mapper.classes]),
        "configuration": json.dumps({key: str(value) for key, value in asdict(options).items()}),
        **mapper.said,
        "versions": json.dumps(versions),
        "made_by": json.dumps(made_by),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def run_pass(
    comm: Comm, pulse: Pulse, way: Pass, options: MapOptions, writer: Writer | None = None, progress: Progress | None = None
) -> tuple[RankReport, dict[tuple[int, int], str]]:
    """This rank's tiles through the engine, and into the writer's files if there is one; independent of all other ranks.

    progress: counts the tiles that all ranks have finished, in the pass whose tiles the run is about. Returns the report and
    (scene, tile) -> reason of tiles that could not be read; with `options.strict` the first raises ReadError.
    """
    tasks = [(scene, int(tile)) for scene, tiles in way.plan.of_rank(comm.rank) for tile in tiles]
    edge = max((grid.core + 2 * grid.halo for grid in way.grids), default=1)
    set_block_cache(block_cache_bytes([way.scenes[scene] for scene in {scene for scene, _ in tasks}], edge))
    source = Source(way.scenes, way.grids, way.values, CellCache(options.cache), way.unreadable, way.empty, way.blind)
    stream = Stream(source, tasks, way.engine, way.readers, pulse.stop)
    report, ground = _report(comm.rank), Ground(way)
    failed: dict[tuple[int, int], str] = {}
    for item in stream:
        if writer is not None:
            writer.write(item)
        core = way.grids[item.scene].core_window(item.tile)
        report.tiles += 1
        report.empty += item.state == "empty"
        if item.state == "ready":
            report.mapped_px += core.height * core.width
            report.mapped_m2 += core.height * core.width * ground.of(item.scene, item.tile)
        if item.state == "failed":
            failed[item.scene, item.tile] = item.reason
            report.failed.append((way.scenes[item.scene].name, str(core), item.reason))
            if options.strict:
                raise ReadError(f"{item.reason} (--strict)")
        if progress is None:
            pulse.step()
        else:
            pulse.step_tile()
            progress.show(pulse.total_tiles)
    report.seconds = asdict(stream.seconds) | {"decode": source.cache.seconds}
    report.timeline = [stream.timeline.profile()]
    report.allocation = writer.allocation if writer is not None else 0.0
    return report, failed


def await_all(comm: Comm, pulse: Pulse, progress: Progress | None = None) -> None:
    """Return once every rank has come here; the others' tiles go on counting, and the pulse goes on bounding what all do next."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.005)
        if progress is not None:
            progress.show(pulse.total_tiles)
    if progress is not None:
        progress.close()


def _report(rank: int) -> RankReport:
    """A report that tells what the start took."""
    memory = {"peak_mb": peak_memory() / 1e6, "shared_out_mb": proportional_memory() / 1e6}
    return RankReport(rank, socket.gethostname(), startup=startup | memory)


def block_cache_bytes(scenes: list[Scene], rows: int) -> int:
    """GDAL's own cache: enough for the strips under one row of windows, at most 512 MB; blocks are read once each otherwise."""
    strips = [rows * s.width * len(s.bands) * np.dtype(s.dtype).itemsize for s in scenes if s.striped]
    return min(512 << 20, max([32 << 20, *strips]))


class Ground:
    """Ground area of a pixel in each tile, from the ellipsoid; 0 for scenes that do not say where they lie."""

    def __init__(self, way: Pass) -> None:
        self._way = way
        self._areas: dict[int, np.ndarray] = {}

    def of(self, scene: int, tile: int) -> float:
        """Square metres of one pixel of a tile."""
        if scene not in self._areas:
            grid, place = self._way.grids[scene], self._way.scenes[scene].place
            areas = pixel_area_m2(place, grid.height, grid.width, grid.core)
            self._areas[scene] = np.zeros(grid.size) if areas is None else np.nan_to_num(areas.ravel())
        return float(self._areas[scene][tile])


def summarise(comm: Comm, settled: Settled, report: RankReport, begin: float) -> dict[str, Any] | None:
    """What any run puts into its Summary, on rank 0. Collective. begin: time.perf_counter() at its start."""
    reports = comm.gather(report)
    if reports is None:
        return None
    mapped = sum(each.tiles for each in reports)
    return {
        "ranks": reports, "refused": settled.refused, "notes": settled.notes, "scenes": len(settled.scenes),
        "planned_tiles": settled.plan.size, "imbalance": settled.plan.imbalance, "wall": time.perf_counter() - begin,
        "stopped": mapped < settled.plan.size,
        "manifest": {name: dict(entry.columns) for name, entry in settled.entries.items() if entry.columns},
    }  # fmt: skip


def announce(comm: Comm, settled: Settled) -> None:
    """Name the scenes that do not run, and why, before any work starts."""
    if comm.rank == 0:
        for name, reason in settled.refused:
            print(f"skipped {name}: {reason}", flush=True)
        for note in settled.notes:
            print(f"note: {note}", flush=True)


def exit_code(comm: Comm, summary: Summary | None) -> int:
    """The exit code of a run, on every rank."""
    return comm.bcast(None if summary is None else summary.exit_code)
