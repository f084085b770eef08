"""`hpcseg predict`: map scenes with a model, on any number of ranks, into one prediction file a scene."""

from __future__ import annotations

import csv
import getpass
import json
import os
import platform
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import torch

import hpcseg
from hpcseg import device, store
from hpcseg.area import pixel_area_m2
from hpcseg.errors import ReadError
from hpcseg.inference.engine import make_engine
from hpcseg.inference.options import Options
from hpcseg.inference.prepare import Settled, settle
from hpcseg.inference.writer import Writer
from hpcseg.kernels.warm import compile_kernels
from hpcseg.mpi import Comm, Pulse, first_on_node
from hpcseg.progress import Progress
from hpcseg.raster import CellCache, Entry, Scene, set_block_cache
from hpcseg.stream import Source, Stream


class RankReport(msgspec.Struct):
    """What one rank did. seconds: by stage, summed over its threads. failed: (scene, window, reason)."""

    rank: int
    host: str
    tiles: int = 0
    empty: int = 0
    mapped_px: int = 0
    mapped_m2: float = 0.0
    allocation: float = 0.0
    seconds: dict[str, float] = {}
    failed: list[tuple[str, str, str]] = []
    peak_memory_mb: float = 0.0


class Summary(msgspec.Struct):
    """A whole run. stopped: a signal ended it before its end. manifest: by scene, what its manifest says of it."""

    ranks: list[RankReport]
    refused: list[tuple[str, str]]
    notes: list[str]
    scenes: int
    planned_tiles: int
    imbalance: float
    wall: float
    stopped: bool
    precision: str
    device: str
    manifest: dict[str, dict[str, str]] = {}

    @property
    def failed(self) -> list[tuple[str, str, str]]:
        """All tiles that could not be read."""
        return [each for rank in self.ranks for each in rank.failed]

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some scenes or tiles failed, 75 stopped."""
        return 75 if self.stopped else 3 if self.refused or self.failed else 0


def predict(comm: Comm, options: Options, stop: threading.Event) -> Summary | None:
    """Map all scenes; collective. stop: when set, on any rank, all finish the tile in hand. Returns the summary on rank 0."""
    begin = time.perf_counter()
    with Pulse(comm, options.stall, stop) as pulse:
        settled = settle(comm, pulse, options)
        if comm.rank == 0:
            _announce(settled)
        dtypes = sorted({scene.dtype for scene in settled.scenes})
        first_on_node(comm, lambda: compile_kernels(dtypes, settled.recipe.precision == "bf16", settled.model.logits))
        writer = _open_files(comm, pulse, settled, options)
        progress = Progress("tiles", settled.plan.size, comm.rank == 0)
        report = _map_span(comm, pulse, settled, options, writer, progress)
        pulse.wait_for_all(lambda: progress.show(pulse.total_tiles))
        progress.close()
        writer.close()
    reports = comm.gather(report)
    if reports is None:
        return None
    mapped = sum(each.tiles for each in reports)
    summary = Summary(
        reports, settled.refused, settled.notes, len(settled.scenes), settled.plan.size, settled.plan.imbalance,
        time.perf_counter() - begin, mapped < settled.plan.size, settled.recipe.precision, device.name(),
        {name: dict(entry.columns) for name, entry in settled.entries.items() if entry.columns},
    )  # fmt: skip
    _write_reports(options, summary, settled.entries)
    return summary


def exit_code(comm: Comm, summary: Summary | None) -> int:
    """The exit code of a run, on every rank."""
    return comm.bcast(None if summary is None else summary.exit_code)


def _announce(settled: Settled) -> None:
    for name, reason in settled.refused:
        print(f"skipped {name}: {reason}", flush=True)
    for note in settled.notes:
        print(f"note: {note}", flush=True)


def _open_files(comm: Comm, pulse: Pulse, settled: Settled, options: Options) -> Writer:
    attributes = _attributes(settled, options)

    def create(scene: int) -> None:
        place, name = settled.scenes[scene].place, settled.scenes[scene].name
        said = attributes | {"manifest": json.dumps(dict(settled.entries[name].columns))}
        store.create(settled.paths[scene], settled.layouts[scene], settled.identities[scene], said, place)

    return Writer(comm, pulse, settled.plan, settled.layouts, settled.paths, create)


def _attributes(settled: Settled, options: Options) -> dict[str, str]:
    """What a file says of how it was made."""
    spec = settled.model.spec
    versions = {"hpcseg": hpcseg.__version__, "torch": torch.__version__, "numpy": np.__version__, "hdf5": store.HDF5_VERSION}
    return {
        "hpcseg_version": hpcseg.__version__,
        "model": settled.model.name,
        "classes": json.dumps([{"name": each.name, "color": each.color} for each in spec.classes]),
        "configuration": json.dumps({key: str(value) for key, value in asdict(options).items()}),
        "model_toml": msgspec.json.encode(spec).decode(),
        "versions": json.dumps(versions),
        "made_by": json.dumps({"user": _user(), "host": socket.gethostname(), "machine": platform.machine(), "device": device.name()}),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _map_span(comm: Comm, pulse: Pulse, settled: Settled, options: Options, writer: Writer, progress: Progress) -> RankReport:
    """The tile loop of one rank: everything in it is independent of other ranks."""
    grids = [layout.grid for layout in settled.layouts]
    tasks = [(scene, int(tile)) for scene, tiles in settled.plan.of_rank(comm.rank) for tile in tiles]
    set_block_cache(block_cache_bytes([settled.scenes[scene] for scene in {scene for scene, _ in tasks}], settled.recipe.edge))
    where = device.choose()
    engine = make_engine(settled.recipe, grids, where, options.threads)
    source = Source(settled.scenes, grids, settled.values, CellCache(options.cache))
    stream = Stream(source, tasks, engine, count_readers(options, where), pulse.stop)
    report = RankReport(comm.rank, socket.gethostname())
    ground = Ground(settled)
    for item in stream:
        writer.write(item)
        core = grids[item.scene].core_window(item.tile)
        report.tiles += 1
        report.empty += item.state == "empty"
        if item.state == "ready":
            report.mapped_px += core.height * core.width
            report.mapped_m2 += core.height * core.width * ground.of(item.scene, item.tile)
        if item.state == "failed":
            report.failed.append((settled.scenes[item.scene].name, str(core), item.reason))
            if options.strict:
                raise ReadError(f"{item.reason} (--strict)")
        pulse.step_tile()
        progress.show(pulse.total_tiles)
    report.seconds = asdict(stream.seconds) | {"decode": source.cache.seconds}
    report.allocation, report.peak_memory_mb = writer.allocation, device.peak_memory() / 1e6
    return report


def count_readers(options: Options, where: torch.device) -> int:
    """Reader threads of a rank. A GPU outruns one; on a CPU the engine's threads need the cores."""
    return options.readers or (max(1, options.threads - 1) if where.type == "cuda" else 1)


def block_cache_bytes(scenes: list[Scene], rows: int) -> int:
    """GDAL's own cache: enough for the strips under one row of windows, at most 512 MB; blocks are read once each otherwise."""
    strips = [rows * s.width * len(s.bands) * np.dtype(s.dtype).itemsize for s in scenes if s.striped]
    return min(512 << 20, max([32 << 20, *strips]))


class Ground:
    """Ground area of a pixel in each tile, from the ellipsoid; 0 for scenes that do not say where they lie."""

    def __init__(self, settled: Settled) -> None:
        self._settled = settled
        self._areas: dict[int, np.ndarray] = {}

    def of(self, scene: int, tile: int) -> float:
        """Square metres of one pixel of a tile."""
        if scene not in self._areas:
            grid, place = self._settled.layouts[scene].grid, self._settled.scenes[scene].place
            areas = pixel_area_m2(place, grid.height, grid.width, grid.core)
            self._areas[scene] = np.zeros(grid.size) if areas is None else np.nan_to_num(areas.ravel())
        return float(self._areas[scene][tile])


def _write_reports(options: Options, summary: Summary, entries: dict[str, Entry]) -> None:
    """run.json, and failed.csv with the scenes to try again. entries: the scenes by name."""
    _publish(options.out / "run.json", json.dumps(msgspec.to_builtins(summary) | {"exit_code": summary.exit_code}, indent=1))
    (options.out / "failed.csv").unlink(missing_ok=True)
    reasons = dict(summary.refused) | {name: f"{window}: {reason}" for name, window, reason in summary.failed}
    # Reasons that belong to no one scene, such as those of statistics, have no row.
    rows = [(entries[name], reason) for name, reason in reasons.items() if name in entries]
    if rows:
        _write_manifest(options.out / "failed.csv", rows)


def _write_manifest(path: Path, rows: list[tuple[Entry, str]]) -> None:
    """A CSV manifest of scenes and reasons, with all columns that their own manifests had."""
    columns = dict.fromkeys(column for entry, _ in rows for column in entry.columns)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ["scene", "id", "reason", *columns])
        table.writeheader()
        table.writerows({"scene": entry.source, "id": entry.name, "reason": reason, **entry.columns} for entry, reason in rows)


def _publish(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def report_lines(summary: Summary) -> list[str]:
    """The end of a run as stable `key=value unit` lines after a table of where the time went."""
    total = {key: sum(rank.seconds.get(key, 0.0) for rank in summary.ranks) for key in ("decode", "read", "forward", "write", "wait")}
    walls = [rank.seconds.get("wall", 0.0) for rank in summary.ranks]
    useful = [rank.seconds.get("forward", 0.0) for rank in summary.ranks]
    busy = sum(total[key] for key in ("read", "forward", "write", "wait")) or 1.0
    pixels, wall = sum(rank.mapped_px for rank in summary.ranks), max([*walls, 1e-9])
    stages = {"decode": total["decode"], "preprocess": max(0.0, total["read"] - total["decode"]), "forward": total["forward"],
              "write": total["write"], "wait": total["wait"]}  # fmt: skip
    shares = "  ".join(f"{name} {100 * seconds / busy:.1f} %" for name, seconds in stages.items())
    return [
        f"where the time went: {shares}",
        f"scenes={summary.scenes}",
        f"tiles={sum(rank.tiles for rank in summary.ranks)} of {summary.planned_tiles}",
        f"empty_tiles={sum(rank.empty for rank in summary.ranks)}",
        f"failed_tiles={len(summary.failed)}",
        f"refused_scenes={len(summary.refused)}",
        f"precision={summary.precision}",
        f"wall={summary.wall:.2f} s",
        f"mapping={wall:.2f} s",
        f"allocation={max(rank.allocation for rank in summary.ranks):.2f} s",
        f"throughput={pixels / wall / 1e6:.3f} Mpx/s",
        f"ground={sum(rank.mapped_m2 for rank in summary.ranks) / wall / 1e6:.3f} km2/s",
        f"load_balance={np.mean(useful) / max(max(useful), 1e-9):.3f}",
        f"imbalance={summary.imbalance:.4f}",
    ]
