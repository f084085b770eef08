"""`hpcseg evaluate`: maps against truth, counted in integers, the same for any number of ranks; figures follow from the sums alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcseg import store
from hpcseg.config import Class, LabelSpec
from hpcseg.errors import HpcsegError, UsageError
from hpcseg.metrics import figures
from hpcseg.mpi import Comm, Pulse, on_root, share_out
from hpcseg.products.cog import legend, publishing, text
from hpcseg.products.comparison import Comparison, read_image, write_comparison
from hpcseg.raster import CellCache, Entry, Scene, pair_labels
from hpcseg.scorecard import describe, judge
from hpcseg.tally import Case, Settings, Tally, open_labels, picture_step, reduce

_BLOCK = 256
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Judged:
    """A scene's counts. table: int64 (n, n). unmapped: int64 (n,), labelled in truth, 255 in the map. blocks: int64 (u, n, n)."""

    case: Case
    table: np.ndarray
    unmapped: np.ndarray
    blocks: np.ndarray
    picture: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """All that was counted. block: edge of the blocks, 0 = scenes. refused: (map, reason). failed: (map, window, reason)."""

    classes: list[Class]
    border: int
    block: int
    scenes: list[Judged]
    refused: list[tuple[str, str]]
    failed: list[tuple[str, str, str]]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        """0 all judged, 3 some maps or tiles were not."""
        return 3 if self.refused or self.failed else 0

    def report(self) -> dict[str, Any]:
        """All integers and figures, for a JSON file; nothing in it depends on ranks or threads."""
        names = [each.name for each in self.classes]
        tables = np.stack([each.table for each in self.scenes])
        units = np.concatenate([each.blocks for each in self.scenes]) if self.block else tables
        return {
            "classes": names,
            "border_px": self.border,
            "resampled": "blocks" if self.block else "scenes",
            "block_px": self.block or None,
            **judge(names, tables, units[units.any((1, 2))]),
            "scenes": [self._scene(names, each) for each in self.scenes],
            "refused": [{"name": name, "reason": reason} for name, reason in self.refused],
            "failed_tiles": [{"name": name, "window": window, "reason": reason} for name, window, reason in self.failed],
        }

    @staticmethod
    def _scene(names: list[str], each: Judged) -> dict[str, Any]:
        counts = each.case.stored.counts()
        return {
            "name": each.case.scene.name,
            "labels": each.case.label,
            "judged_px": int(each.table.sum()),
            "confusion": each.table.tolist(),
            "unmapped": each.unmapped.tolist(),
            "missing_tiles": counts["missing"] + counts["failed"],
            "figures": describe(names, figures(each.table)),
        }


def evaluate(comm: Comm, pulse: Pulse, maps: Sequence[Path], labels: Sequence[str], settings: Settings) -> Evaluation | None:
    """Judge maps; the result on rank 0, None on others. Collective.

    maps: prediction files of different names. labels: files, globs or folders, () = the column label of the maps' manifest.
    settings: its block 0 means scenes, or blocks of `default_block` where there is one scene alone.
    Raises UsageError if no map can be judged, StoppedError if a signal ended it early.
    """
    cases, refused, notes = _open_cases(comm, maps, labels, settings)
    block = settings.block or (default_block(cases[0].scene, len(cases[0].classes)) if len(cases) == 1 else 0)
    found = reduce(comm, pulse, cases, replace(settings, block=block))
    refused = sorted(refused + [(cases[k].scene.name, reason) for k, reason in found.broken.items()])
    left = [k for k in range(len(cases)) if k not in found.broken]
    on_root(comm, lambda: _need(left, refused))
    if comm.rank:
        return None
    scenes = [_judged(cases[k], found.tallies.get(k, Tally.of(cases[k], k < settings.pictures))) for k in left]
    names = {cases[k].scene.name for k in left}
    failed = [each for each in found.failed if each[0] in names]
    return Evaluation(cases[0].classes, settings.border, block, scenes, refused, failed, notes)


def default_block(scene: Scene, classes: int) -> int:
    """Edge of the blocks of one scene alone: 256 pixels, doubled until all their tables take at most 64 MiB."""
    block = _BLOCK
    while math.ceil(scene.height / block) * math.ceil(scene.width / block) * classes * (classes + 1) * 8 > _BLOCK_BYTES:
        block *= 2
    return block


def _need(left: Collection[Any], refused: Sequence[tuple[str, str]]) -> None:
    if not left:
        more = f" ({len(refused) - 1} more maps cannot be judged either)" if len(refused) > 1 else ""
        raise UsageError(f"{refused[0][0]}: {refused[0][1]}{more}")


def _open_cases(
    comm: Comm, paths: Sequence[Path], labels: Sequence[str], settings: Settings
) -> tuple[list[Case], list[tuple[str, str]], list[str]]:
    """The maps that can be judged, (name, reason) of the others, and labels without a map; ranks share out the opening. Collective."""
    stored = share_out(comm, paths, _read)
    refused = [(path.stem, each) for path, each in zip(paths, stored, strict=True) if isinstance(each, str)]
    maps = {each.path.stem: each for each in stored if isinstance(each, store.Stored)}
    on_root(comm, lambda: _need(maps, refused))
    pairs, unpaired = on_root(comm, lambda: pair_labels([_entry(each, not labels) for each in maps.values()], labels))
    refused += [(name, "no labels") for name in maps.keys() - {pair.entry.name for pair in pairs}]
    cache = CellCache(settings.cache)
    found = share_out(comm, pairs, lambda pair: _open_case(maps[pair.entry.name], pair.label, settings.spec, cache))
    refused += [(pair.entry.name, each) for pair, each in zip(pairs, found, strict=True) if isinstance(each, str)]
    cases, others = _agreeing([each for each in found if isinstance(each, Case)])
    refused = sorted(refused + others)
    on_root(comm, lambda: _need(cases, refused))
    return cases, refused, [each for each in unpaired if each.startswith("labels ")]


def _read(path: Path) -> store.Stored | str:
    try:
        return store.read(path)
    except HpcsegError as error:
        return str(error)


def _entry(stored: store.Stored, told: bool) -> Entry:
    """A map as a scene to find labels for. told: by its manifest, which the map has kept."""
    columns = json.loads(text(stored.attributes.get("manifest", "{}"))) if told else {}
    return Entry(stored.path.stem, (str(stored.path),), columns)


def _open_case(stored: store.Stored, label: str, spec: LabelSpec, cache: CellCache) -> Case | str:
    """A map with its truth, which is only tried, or why it cannot be judged."""
    try:
        case = Case(stored, label, scene_of(stored), legend(stored))
        open_labels(case, spec, cache)
        return case
    except HpcsegError as error:
        return str(error)


def scene_of(stored: store.Stored) -> Scene:
    """A map as the scene that its labels must fit."""
    grid, chunk = stored.layout.grid, stored.layout.chunk
    return Scene(
        name=stored.path.stem, path=str(stored.path), height=grid.height, width=grid.width, bands=(1,), count=1, dtype="uint8",
        block=(chunk, chunk), nodata=(float(store.NODATA),), scale=(1.0,), offset=(0.0,), mask=False, overviews=(),
        place=stored.place, digest="",
    )  # fmt: skip


def _agreeing(cases: list[Case]) -> tuple[list[Case], list[tuple[str, str]]]:
    """The maps whose classes are those of the first, and (name, reason) of the others."""
    names = [", ".join(each.name for each in case.classes) for case in cases]
    good = [case for case, each in zip(cases, names, strict=True) if each == names[0]]
    others = [
        (case.scene.name, f"has the classes {each}, {cases[0].scene.name} has {names[0]}")
        for case, each in zip(cases, names, strict=True)
        if each != names[0]
    ]
    return good, others


def _judged(case: Case, tally: Tally) -> Judged:
    n = len(case.classes)
    blocks = [tally.blocks[number] for number in sorted(tally.blocks)]
    stack = np.stack(blocks) if blocks else np.zeros((0, n, n + 1), np.int64)
    total = stack.sum(0)
    return Judged(case, total[:, :n], total[:, n], stack[:, :, :n], tally.picture)


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write a report; it appears whole or not at all. Raises UsageError if it cannot be written."""
    with publishing(path) as part:
        part.write_text(json.dumps(report, indent=1) + "\n")


def write_pictures(found: Evaluation, folder: Path, images: Mapping[str, Path], step: Callable[[], None]) -> list[str]:
    """Draw the scenes that kept a picture, <map>_evaluation.png each. images: their rasters by name. step: called after each.

    Returns what the user should know: where they lie, and images that could not be shown.
    """
    notes = []
    for each in found.scenes:
        if not each.picture.size:
            continue
        name, image = each.case.scene.name, None
        try:
            image = read_image(images[name], each.case.stored, each.picture) if name in images else None
        except HpcsegError as error:
            notes.append(f"{name} is drawn without its scene: {error}")
        out = folder / f"{name}_evaluation.png"
        write_comparison(out, Comparison(name, _subtitle(found, each), found.classes, each.picture, _step(each.case.scene), image))
        notes.append(f"wrote {out}")
        step()
    return notes


def _step(scene: Scene) -> int:
    return picture_step(scene.height, scene.width)


def _subtitle(found: Evaluation, each: Judged) -> str:
    values = figures(each.table)[:, -1]
    shares = [f"{name} {value:.3f}" for name, value in zip(("mean IoU", "mean F1"), values, strict=False) if np.isfinite(value)]
    border = [f"borders of {found.border} px not judged"] if found.border else []
    return "  ·  ".join([*shares, f"{int(each.table.sum()):,} of {each.case.scene.height * each.case.scene.width:,} px judged", *border])
