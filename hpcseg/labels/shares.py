"""Shares of classes, and of cloud and shadow, in finished maps: pixels and square metres, exact for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from hpcseg import store
from hpcseg.area import BLOCK, class_areas_m2, pixel_area_m2
from hpcseg.config import Class
from hpcseg.mapping.report import Summary
from hpcseg.mapping.settle import Settled
from hpcseg.mpi import Comm, Pulse, share_out
from hpcseg.store import PlaneReader
from hpcseg.tiles import Window

# Blocks are read so many at once, in either direction, as make up the largest chunk.
_SPAN = 4 * BLOCK


class Share(msgspec.Struct):
    """A part of a scene's valid pixels. percent: of them. m2: on the ellipsoid, None where the scene does not say where it lies."""

    px: int
    percent: float
    m2: float | None


class SceneShares(msgspec.Struct):
    """px: valid pixels. classes: by name. mask: cloud and shadow, None without such a plane."""

    px: int
    classes: dict[str, Share]
    mask: Share | None = None


class LabelSummary(Summary, kw_only=True):
    """A whole run of a teacher. fits: what its steps found, by scene. shares: by scene; empty for a run that was stopped."""

    teacher: str
    fits: dict[str, dict[str, Any]]
    shares: dict[str, SceneShares]


def count_shares(comm: Comm, pulse: Pulse, settled: Settled, classes: Sequence[Class]) -> dict[str, SceneShares]:
    """The shares of each scene that has a map, by name; ranks share out the reading. Collective."""
    rows = [(k, row) for k, y in enumerate(settled.layouts) for row in range(0, y.grid.height, _SPAN)]

    def count(item: tuple[int, int]) -> np.ndarray | None:
        pulse.step()
        return _count_rows(settled, *item, len(classes)) if settled.paths[item[0]].exists() else None

    counted: dict[int, list[np.ndarray]] = {}
    for (k, _), found in zip(rows, share_out(comm, rows, count), strict=True):
        if found is not None:
            counted.setdefault(k, []).append(found)
    if comm.rank:
        return {}
    return {settled.scenes[k].name: _shares(settled, k, np.concatenate(parts), classes) for k, parts in counted.items()}


def _count_rows(settled: Settled, scene: int, row: int, classes: int) -> np.ndarray:
    """Pixels of each class and of the mask, in each block of some rows of blocks: int64 (ny, nx, classes + 1)."""
    stored, extent = store.read(settled.paths[scene]), settled.layouts[scene].grid.extent
    planes = ["labels", *({"mask"} & set(settled.layouts[scene].planes))]
    readers = [PlaneReader(stored, plane) for plane in planes]
    parts = []
    for col in range(0, extent.width, _SPAN):
        window = Window(row, col, _SPAN, _SPAN).intersect(extent)
        labels, mask = np.zeros((2, window.height, window.width), np.uint8)
        for reader, out in zip(readers, (labels, mask), strict=False):
            reader.read(window, out)
        found = [*(labels == k for k in range(classes)), mask == 1]
        parts.append(np.stack([_count_blocks(each) for each in found], -1))
    for reader in readers:
        reader.close()
    return np.concatenate(parts, axis=1)


def _count_blocks(found: np.ndarray) -> np.ndarray:
    """How many pixels of each block are True: int64 (ny, nx)."""
    down, across = (range(0, size, BLOCK) for size in found.shape)
    return np.array([[np.count_nonzero(found[i : i + BLOCK, j : j + BLOCK]) for j in across] for i in down])


def _shares(settled: Settled, scene: int, counts: np.ndarray, classes: Sequence[Class]) -> SceneShares:
    """counts: int64 (ny, nx, classes + 1), per block."""
    grid = settled.layouts[scene].grid
    area = pixel_area_m2(settled.scenes[scene].place, grid.height, grid.width)
    px = [int(n) for n in counts.sum((0, 1))]
    m2 = [None] * len(px) if area is None else [float(a) if np.isfinite(a) else None for a in class_areas_m2(counts, area)]
    valid = sum(px[:-1])
    every = [Share(n, 100 * n / max(1, valid), a) for n, a in zip(px, m2, strict=True)]
    named = {each.name: share for each, share in zip(classes, every, strict=False)}
    return SceneShares(valid, named, every[-1] if "mask" in settled.layouts[scene].planes else None)


def share_lines(summary: LabelSummary) -> list[str]:
    """What each scene shows, a line each."""
    lines = []
    for name, found in summary.shares.items():
        parts = [_phrase(each, share) for each, share in found.classes.items()]
        parts += [_phrase("cloud and shadow", found.mask)] if found.mask is not None else []
        note = summary.fits.get(name, {}).get("note", "")
        text = ", ".join(parts) if found.px else "no valid pixels"
        lines.append(f"{name}: {text}" + (f"; {note}" if note else ""))
    return lines


def _phrase(name: str, share: Share) -> str:
    ground = "" if share.m2 is None else f", {share.m2 / 1e6:.6g} km2"
    return f"{name} {share.percent:.2f} % ({share.px} px{ground})"
