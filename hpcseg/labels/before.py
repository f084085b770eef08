"""Pairs of scenes, one before and one after: which belong together, and how they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpcseg.errors import UsageError
from hpcseg.mpi import Comm, on_root
from hpcseg.raster import Entry, list_scenes

COLUMN = "before"


def any_before(comm: Comm, scenes: Sequence[str], assets: Sequence[str]) -> bool:
    """Whether a manifest among the scenes names scenes before them. Collective. Raises UsageError."""
    return on_root(comm, lambda: any(COLUMN in entry.columns for entry in list_scenes(scenes, assets)))


def with_before(entries: Sequence[Entry], before: str) -> list[Entry]:
    """Each scene stacked with the one before it: that of its column before, else that of its name among `before` (a file, glob, folder
    or manifest; "" = none), else the only one there is for the only scene.

    Two grids are refused, or warped with --align, as in any stack. Raises UsageError naming the scenes that have none before them.
    """
    found = list_scenes((before,)) if before else []
    named = {entry.name: entry for entry in found}
    only = found[0] if len(found) == len(entries) == 1 else None
    pairs, alone = [], []
    for entry in entries:
        told = entry.columns.get(COLUMN, "")
        other = list_scenes((told,))[0] if told else named.get(entry.name, only)
        if other is None:
            alone.append(entry.name)
        else:
            pairs.append(replace(entry, parts=(*entry.parts, *other.parts)))
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise UsageError(f"no scene before {', '.join(alone[:3])}{more}: wanted one of its name in --before, or a manifest's column before")
    return pairs
