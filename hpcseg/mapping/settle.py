"""What all ranks agree on before the first tile: scenes, what earlier runs left, room on the disk, the plan."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcseg import store
from hpcseg.environment import mark_begun, phase
from hpcseg.errors import SceneError, StoreError, UsageError
from hpcseg.mapping.options import MapOptions, describe_entry, differences
from hpcseg.mpi import Comm, Pulse, on_root, share_out, step
from hpcseg.partition import Plan, Work, make_plan
from hpcseg.raster import Entry, Scene, Values, estimate_cost, list_scenes
from hpcseg.store import Layout
from hpcseg.tiles import Grid

_CRC_BATCH = 32


@dataclass(frozen=True)
class Settled:
    """A run, ready to start; the same on all ranks. Lists are by scene number. refused: (scene's name, reason) of the others.
    entries: every scene that was asked for, by name."""

    scenes: list[Scene]
    layouts: list[Layout]
    identities: list[dict]
    values: list[Values]
    paths: list[Path]
    plan: Plan
    refused: list[tuple[str, str]]
    entries: dict[str, Entry]
    notes: list[str]


@phase("listing")
def list_part(comm: Comm, options: MapOptions) -> list[Entry]:
    """The scenes of this run: every N-th of those asked for, from the K-th. Rank 0 reads the manifests for all. Raises UsageError."""
    number, of = options.part

    def look() -> list[Entry]:
        if of > 1:
            _check_part(options)
        return list_scenes(options.scenes, options.assets)[number - 1 :: of]

    return on_root(comm, look)


def _check_part(options: MapOptions) -> None:
    """Each job of an array expands its scenes itself: a scene that came between two starts would shift all parts. Raises UsageError."""
    for each in options.scenes:
        if Path(each).is_dir() or (glob.has_magic(each) and not Path(each).exists()):
            what = f"{each} may hold other scenes when the next part starts"
            raise UsageError(f"--part {options.part[0]}/{options.part[1]}: {what}; wanted a manifest or files by name")


@phase("scenes")
def open_scenes(
    comm: Comm, entries: Sequence[Entry], options: MapOptions, fit: Callable[[Entry, Scene], Scene] | None = None
) -> tuple[list[Scene], list[tuple[str, str]]]:
    """The scenes that fit, and (name, reason) of those that do not; ranks share out the opening. Collective.

    fit: gives the scene as it is to be mapped, or raises SceneError; None = any will do. Raises UsageError, shared by all ranks.
    """

    def look(entry: Entry) -> Scene | str | UsageError:
        try:
            scene = describe_entry(entry, options, options.resolution)
            return scene if fit is None else fit(entry, scene)
        except SceneError as error:
            return str(error)
        except UsageError as error:
            return error

    def refuse_wrong_use() -> None:
        for each in found:
            if isinstance(each, UsageError):
                raise each

    found = share_out(comm, entries, look)
    on_root(comm, refuse_wrong_use)
    scenes = [each for each in found if isinstance(each, Scene)]
    refused = [(entry.name, each) for entry, each in zip(entries, found, strict=True) if isinstance(each, str)]
    return scenes, refused


@phase("earlier")
def find_earlier(comm: Comm, out: Path, paths: Sequence[Path], overwrite: bool) -> list[store.Stored | None]:
    """What is there from an earlier run, to be continued; nothing with `overwrite`, which has `remove_earlier` remove it once all is known
    to fit. Collective. Raises UsageError for files that are not ours."""

    names = {path.stem for path in paths}

    def look() -> list[bool]:
        try:
            out.mkdir(parents=True, exist_ok=True)
            # The second kind is Open MPI's, of a rank that was killed while it opened a file.
            for left in (*out.glob(".*.part"), *out.glob("*.h5-*.lock")):
                # Jobs over other parts of the scenes may be at work in this folder.
                if left.name.lstrip(".").rpartition(".h5")[0].removesuffix(".scratch") in names:
                    left.unlink()
            return [_is_there(path) and not overwrite for path in paths]
        except OSError as error:
            raise StoreError(f"{out}: cannot be written: {error.strerror}") from error

    there = on_root(comm, look)

    def read(k: int) -> store.Stored | str | None:
        try:
            return store.read(paths[k]) if there[k] else None
        except StoreError as error:
            return str(error)

    found = share_out(comm, range(len(paths)), read)

    def refuse_broken() -> None:
        for each in found:
            if isinstance(each, str):
                raise UsageError(f"{each}; move it away or add --overwrite")

    on_root(comm, refuse_broken)
    return [each for each in found if not isinstance(each, str)]


def _is_there(path: Path) -> bool:
    step()
    return path.exists()


def remove_earlier(paths: Sequence[Path]) -> None:
    """Remove the maps of an earlier run, of which another takes the place. Raises StoreError."""
    for path in paths:
        step()
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from error
    mark_begun()


def check_identities(paths: Sequence[Path], identities: Sequence[dict], stored: Sequence[store.Stored | None]) -> None:
    """Raises UsageError naming what differs between a run and the files that it would continue."""
    for path, identity, old in zip(paths, identities, stored, strict=True):
        if old is not None and old.identity != identity:
            what = "; ".join(differences(identity, old.identity))
            raise UsageError(f"{path} is another map: {what}. Choose another --out, or --overwrite")


@phase("earlier")
def find_done(comm: Comm, pulse: Pulse, layouts: Sequence[Layout], stored: Sequence[store.Stored | None]) -> list[np.ndarray]:
    """Tiles of earlier runs whose bytes agree with their CRC, bool (ny * nx,) by scene; ranks share out the reading. Collective."""
    items = [(k, start) for k, old in enumerate(stored) if old is not None for start in range(0, layouts[k].grid.size, _CRC_BATCH)]

    def look(item: tuple[int, int]) -> np.ndarray:
        scene, start = item
        old = stored[scene]
        assert old is not None
        pulse.step()
        return store.check(old, np.arange(start, min(start + _CRC_BATCH, old.layout.grid.size)))

    done = [np.zeros(layout.grid.size, bool) for layout in layouts]
    for (scene, start), right in zip(items, share_out(comm, items, look), strict=True):
        done[scene][start : start + len(right)] = right
    return done


@phase("plan")
def plan_tiles(
    comm: Comm, scenes: Sequence[Scene], layouts: Sequence[Layout], done: Sequence[np.ndarray],
    price: Callable[[Scene, Grid, np.ndarray], np.ndarray] = lambda scene, grid, cost: cost,
) -> Plan:  # fmt: skip
    """The partition of all tiles that are not done. Collective.

    price: what a scene's tiles cost, int64 (ny * nx,) in any unit, from 1 where there seem to be data, else 0.
    """

    def look(each: tuple[Scene, Layout]) -> np.ndarray:
        scene, grid = each[0], each[1].grid
        cost = price(scene, grid, estimate_cost(scene, grid))
        # Every rank receives all: 12 million tiles of 100,000 scenes are 12 MB so, and 97 MB otherwise.
        return cost.astype(np.min_scalar_type(cost.max(initial=0)))

    costs = share_out(comm, list(zip(scenes, layouts, strict=True)), look)
    works = [Work(y.grid, scene.striped, cost, old) for scene, y, cost, old in zip(scenes, layouts, costs, done, strict=True)]
    return make_plan(works, comm.size)


def check_stripe(layouts: Sequence[Layout], stripe: int) -> None:
    """Refuse chunks that do not fit stripes of so many MB. Raises UsageError."""
    for layout in layouts:
        if not layout.fits(stripe << 20):
            chunk = f"chunks of {layout.chunk}x{layout.chunk} pixels, {layout.chunk_bytes / 2**20:.3g} MB"
            raise UsageError(f"--stripe {stripe}: {chunk}, do not fill it: a --core of 1024 or 2048 does")


def check_space(out: Path, new: Sequence[Layout], replaced: Sequence[Path] = ()) -> None:
    """Refuse a run that cannot fit on the disk. new: of files that are not there yet. replaced: files that may make room for them.
    Raises StoreError."""
    need, free = sum(layout.nbytes for layout in new), shutil.disk_usage(out).free
    free += sum(512 * path.stat().st_blocks for path in replaced if path.is_file())
    if need > free:
        raise StoreError(f"{out}: the maps need {need / 1e6:,.1f} MB, {free / 1e6:,.1f} MB are free: make room or choose another --out")
