"""`hpcseg gallery assign`: the code and the bucket of each cell of scenes, into the image gallery.

Scenes go in rounds, as many at a time as bound the memory: each is published whole, so that a run that is killed or stopped is resumed
by the same command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from hpcseg.errors import SceneError, UsageError
from hpcseg.gallery.archive import Archive, Cell, CellEngine, advising, measure, visit
from hpcseg.gallery.embed import Embedder
from hpcseg.gallery.images import new_round, publish_round, scene_table, stored_digests, write_part
from hpcseg.gallery.spec import MONO_BUCKET
from hpcseg.kernels.codes import nearest
from hpcseg.kernels.warm import compile_reading
from hpcseg.mapping.options import MapOptions
from hpcseg.mapping.report import RankReport
from hpcseg.mapping.settle import open_scenes
from hpcseg.mpi import Comm, Pulse, first_on_node, on_root
from hpcseg.progress import Progress
from hpcseg.raster import Entry, Scene, Values, list_scenes
from hpcseg.tiles import Window
from hpcseg.training.together import together

_ROUND = 1 << 16
_CORE = 512


@dataclass(frozen=True)
class AssignOptions(MapOptions):
    """core: edge of what is read at once, a multiple of the cell; 0 = about 512. overwrite: scenes that the gallery holds are replaced,
    each when its new cells are written, but those of which not all tiles can be read."""

    _: KW_ONLY
    gallery: Path


class Assigned(msgspec.Struct):
    """What came of assigning scenes. buckets: cells of each, those of the mono model last. there: scenes that the gallery held already.
    refused: (scene, reason). failed: (scene, window, reason) of tiles that could not be read: their cells have no row. kept: scenes with
    such tiles whose earlier rows stay as they are; they are not in `scenes` and `buckets`."""

    buckets: list[int]
    scenes: int = 0
    there: int = 0
    refused: list[tuple[str, str]] = []
    failed: list[tuple[str, str, str]] = []
    kept: list[str] = []
    pixels: int = 0
    wall: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some scenes or tiles failed."""
        return 3 if self.refused or self.failed else 0


@dataclass(frozen=True)
class Opened:
    """Scenes that are to be assigned. entries: of all that were asked for, by name. refused: (scene, reason) of those that do not fit."""

    scenes: Sequence[Scene]
    entries: Mapping[str, Entry]
    refused: Sequence[tuple[str, str]]


def open_archive(comm: Comm, options: MapOptions, bands: int = 0) -> Opened:
    """Open the scenes of an archive, and print those that cannot be. bands: how many each must give, 0 = any. Collective."""

    def fit(entry: Entry, scene: Scene) -> Scene:
        if bands and len(scene.bands) != bands:
            raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, the gallery takes {bands}: choose them with --bands")
        return scene

    entries = on_root(comm, lambda: list_scenes(options.scenes, options.assets))
    scenes, refused = open_scenes(comm, entries, options, fit)
    for name, reason in refused if comm.rank == 0 else ():
        print(f"skipped {name}: {reason}", flush=True)
    first_on_node(comm, lambda: _compile({scene.dtype for scene in scenes}))
    return Opened(scenes, {entry.name: entry for entry in entries}, refused)


def _compile(dtypes: set[str]) -> None:
    compile_reading(sorted(dtypes), "float32")
    nearest(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def assign(comm: Comm, options: AssignOptions, stop: threading.Event) -> Assigned:
    """Assign the scenes of a command; collective. stop: when set, on any rank, all finish the tile in hand and raise StoppedError."""
    with Pulse(comm, options.stall, stop) as pulse, advising("run the same command again: scenes that the gallery holds are kept"):
        embedder = together(comm, lambda: Embedder(options.gallery))
        options = replace(options, **on_root(comm, lambda: embedder.spec.reading.settle(options)))
        opened = open_archive(comm, options, embedder.spec.bands)
        return Assigner(comm, pulse, options.gallery, embedder, options).run(opened)


def choose_core(options: MapOptions, cell: int) -> int:
    """The edge of a tile: whole cells. Raises UsageError."""
    core = options.core or max(1, _CORE // cell) * cell
    if core % cell:
        raise UsageError(f"--core {core} is no multiple of the gallery's cell, {cell}")
    return core


@dataclass
class Assigner:
    """Assigns scenes to a gallery; its methods are collective. total: what came of it so far, the same on every rank."""

    comm: Comm
    pulse: Pulse
    folder: Path
    embedder: Embedder
    options: MapOptions

    def __post_init__(self) -> None:
        self.cell = self.embedder.spec.cell
        self.core = on_root(self.comm, lambda: choose_core(self.options, self.cell))
        self.total = Assigned(buckets=[0] * (len(self.embedder.spec.buckets) + 1))

    def run(self, opened: Opened, known: Mapping[str, Values] | None = None) -> Assigned:
        """Assign the scenes that the gallery does not hold, or all if options say overwrite. known: how scenes are normalised, by
        digest, where it is known already. Raises StoppedError, shared by all ranks."""
        begin = time.perf_counter()
        held = on_root(self.comm, lambda: stored_digests(self.folder))
        kept = set() if self.options.overwrite else held
        new = {scene.digest: scene for scene in reversed(opened.scenes) if scene.digest not in kept}
        self.total.scenes, self.total.there = len(new), len(opened.scenes) - len(new)
        self.total.refused += opened.refused
        tiles = sum(-(-scene.height // self.core) * -(-scene.width // self.core) for scene in new.values())
        self._progress = Progress("tiles", tiles, self.comm.rank == 0)
        for scenes in rounds(list(reversed(new.values())), self.cell, _ROUND * self.comm.size):
            archive = measure(self.comm, self.pulse, scenes, self.cell, self.options, known)
            self.total.refused += [("statistics", text) for text in archive.unread]
            self._round(archive, opened.entries, held)
        self._progress.close()
        self.total.wall = time.perf_counter() - begin
        return self.total

    def _round(self, archive: Archive, entries: Mapping[str, Entry], held: set[str]) -> None:
        """Assign some scenes and publish them, in place of what the gallery holds of them."""
        engine = CellEngine(archive, self.core, self.options.threads, self._look)
        report = visit(self.comm, self.pulse, archive, engine, self.options, progress=self._progress)
        failed = [each for part in self.comm.allgather(report.failed) for each in part]
        torn = {name for name, _, _ in failed}
        # What was read whole before is worth more than what can be read of it now.
        kept = {scene.digest: scene.name for scene in archive.scenes if scene.digest in held and scene.name in torn}
        found = [each for each in engine.found if archive.scenes[each[0]].digest not in kept]
        codes = np.array([each[3] for each in found], np.uint64)
        buckets, distances = self.embedder.buckets(codes)
        folder = on_root(self.comm, lambda: new_round(self.folder))
        part = folder / f"{self.comm.rank:05d}.parquet"
        together(self.comm, lambda: write_part(part, _tables(archive, entries, found, (codes, buckets, distances))))
        on_root(self.comm, lambda: publish_round(folder, held & {scene.digest for scene in archive.scenes} - kept.keys()))
        self.total.failed += failed
        self.total.kept += kept.values()
        self.total.scenes -= len(kept)
        self._add(report, buckets)

    def _look(self, cell: Cell) -> tuple[int, Window, float, np.uint64]:
        code = self.embedder.code(self.embedder.features(cell.pixels, (cell.place.height, cell.place.width)))
        return cell.scene, cell.place, np.count_nonzero(cell.valid) / cell.valid.size, code

    def _add(self, report: RankReport, buckets: np.ndarray) -> None:
        total, mono = self.total, len(self.total.buckets) - 1
        counts = np.bincount(np.where(buckets == MONO_BUCKET, mono, buckets), minlength=mono + 1)
        total.buckets = (np.array(total.buckets) + self.comm.allreduce(counts)).tolist()
        total.pixels += self.comm.allreduce(report.mapped_px)


def rounds(scenes: Sequence[Scene], cell: int, cells: int) -> Iterator[list[Scene]]:
    """Scenes in lists of about so many cells, in order."""
    taken: list[Scene] = []
    count = 0
    for scene in scenes:
        taken.append(scene)
        count += -(-scene.height // cell) * -(-scene.width // cell)
        if count >= cells:
            yield taken
            taken, count = [], 0
    if taken:
        yield taken


def _tables(
    archive: Archive, entries: Mapping[str, Entry], found: Sequence[tuple], codes: tuple[np.ndarray, ...]
) -> Iterator[pa.Table]:
    """The rows of each scene, in order of row and column."""
    scenes = np.array([each[0] for each in found], int)
    places = np.array([each[1] for each in found], np.int32).reshape(-1, 4)
    valid = np.array([each[2] for each in found], np.float32)
    order = np.lexsort((places[:, 1], places[:, 0], scenes))
    for k in np.unique(scenes):
        some = order[scenes[order] == k]
        scene = archive.scenes[k]
        yield scene_table(scene, entries[scene.name], places[some], valid[some], tuple(column[some] for column in codes))


def report_lines(total: Assigned) -> list[str]:
    """The end of a run as stable `key=value unit` lines."""
    *buckets, mono = total.buckets
    failed = [f"failed {name} {window}: {reason}" for name, window, reason in total.failed]
    kept = [f"kept {name}: its earlier cells stay, for not all of its tiles could be read now" for name in total.kept]
    advice = "cells in failed tiles have no code, but in kept scenes; once they can be read: the same scenes with --overwrite"
    return [
        *failed,
        *kept,
        *([advice] if failed else []),
        *(f"bucket_{k}={count} cells" for k, count in enumerate(buckets)),
        f"mono={mono} cells",
        f"assigned={sum(total.buckets)} cells",
        f"assigned_scenes={total.scenes}",
        f"scenes_there={total.there}",
        f"kept_scenes={len(total.kept)}",
        f"failed_tiles={len(total.failed)}",
        f"refused_scenes={len(total.refused)}",
        f"assigning={total.wall:.2f} s",
        f"throughput={total.pixels / max(total.wall, 1e-9) / 1e6:.3f} Mpx/s",
    ]
