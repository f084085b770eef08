"""Which labels belong to which scene: by the manifest's column label, else by id, else by stem."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcseg.errors import UsageError
from hpcseg.raster.burn import VECTOR_SUFFIXES
from hpcseg.raster.listing import RASTERS, Entry, stem

# A table names its scenes, or holds places on the ground, as a vector file does.
_OF_MANY = (*VECTOR_SUFFIXES, ".csv")
LABEL_SUFFIXES = (*RASTERS, *VECTOR_SUFFIXES, ".h5")
POINT_SUFFIXES = (*_OF_MANY, ".xml")
_SUFFIX = re.compile(r"[_.-](masks?|labels?|truth|gt)$", re.IGNORECASE)
_NOTHING = re.compile(r"$")
_NAMED = 5
# What runs write beside their maps, which are labels too: run.json, run.KofN.json, .progress.json.
_REPORTS = re.compile(r"(run(\.\d+of\d+)?|\..*)\.json")


class Pair(NamedTuple):
    """A scene and the path of its labels: a raster, a prediction file, or a vector file."""

    entry: Entry
    label: str


def pair_labels(
    entries: Sequence[Entry], labels: Sequence[str] = (), suffixes: Sequence[str] = LABEL_SUFFIXES
) -> tuple[list[Pair], list[str]]:
    """Find the labels of each scene: its column label; else that of `labels` (files, globs, folders) whose stem is its id or the
    stem of its first file, alone or followed by _mask, _label(s), _truth or _gt. A single file that fits no scene by its name
    labels the only scene, or every scene if it is a vector file or a table of points. suffixes: of the files that are taken
    from a folder.

    Returns the pairs in the order of the scenes, and a phrase for each scene without labels and each of `labels` without a scene.
    Raises UsageError: nothing fits, several labels fit a scene, one label fits several, `labels` names what is not there.
    """
    files = _list_labels(labels, suffixes, {os.path.abspath(part) for entry in entries for part in entry.parts})
    found = _find(entries, files)
    pairs = [Pair(entry, label) for entry, label in zip(entries, found, strict=True) if _is_there(label)]
    unpaired = [_phrase(entry, label) for entry, label in zip(entries, found, strict=True) if not _is_there(label)]
    used = set(found)
    unpaired += [f"labels {file}: no scene" for file in files if file not in used]
    if not pairs:
        more = f" and {len(unpaired) - _NAMED} more" if len(unpaired) > _NAMED else ""
        wanted = "give files of the scenes' stems, perhaps with _mask or _labels, or a manifest with a column label"
        raise UsageError(f"no scene has labels: {'; '.join(unpaired[:_NAMED])}{more}; {wanted}")
    return pairs, unpaired


def _find(entries: Sequence[Entry], files: Sequence[str]) -> list[str]:
    """The labels of each scene, "" where there are none."""
    stems, bare = _by_stem(files, _NOTHING), _by_stem(files, _SUFFIX)
    told = [entry.columns.get("label", "") for entry in entries]
    named = [label or _match(entry, stems, bare) for entry, label in zip(entries, told, strict=True)]
    if len(files) == 1 and files[0] not in named and (len(entries) == 1 or Path(files[0]).suffix.lower() in _OF_MANY):
        return [label or files[0] for label in named]
    counts = Counter(label for label, column in zip(named, told, strict=True) if label and not column)
    for label, count in counts.items():
        if count > 1:
            names = ", ".join(entry.name for entry, each in zip(entries, named, strict=True) if each == label)
            raise UsageError(f"{label} fits {count} scenes, {names}: name labels by the scenes' ids or give a column label")
    return named


def _phrase(entry: Entry, label: str) -> str:
    return f"scene {entry.name}: its labels {label} do not exist" if label else f"scene {entry.name}: no labels"


def _list_labels(arguments: Sequence[str], suffixes: Sequence[str], scenes: Collection[str]) -> list[str]:
    """The label files that arguments name, each once; the scenes' own files are none. Raises UsageError."""
    found: dict[str, str] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            here = sorted(str(each) for each in path.iterdir() if each.suffix.lower() in suffixes and not _REPORTS.fullmatch(each.name))
        elif glob.has_magic(argument) and not path.exists():
            here = sorted(glob.glob(argument, recursive=True))
        else:
            here = [argument] if _is_there(argument) else []
        if not here:
            raise UsageError(f"no labels at {argument}: wanted files, globs, or folders of {', '.join(suffixes)}")
        found |= {os.path.abspath(each): each for each in here if os.path.abspath(each) not in scenes}
    return list(found.values())


def _by_stem(files: Sequence[str], ending: re.Pattern[str]) -> dict[str, list[str]]:
    """Files by their stem less an ending."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(ending.sub("", stem(file)), []).append(file)
    return found


def _match(entry: Entry, stems: dict[str, list[str]], bare: dict[str, list[str]]) -> str:
    """The file named as a scene is, "" if there is none. Raises UsageError if there are several."""
    for name in (entry.name, stem(entry.parts[0])):
        for table in (stems, bare):
            hits = table.get(name, [])
            if len(hits) > 1:
                raise UsageError(f"scene {entry.name} has {len(hits)} labels, {' and '.join(hits[:2])}: choose by a glob or a column label")
            if hits:
                return hits[0]
    return ""


def _is_there(path: str) -> bool:
    """Whether a file exists, as far as one can tell: GDAL's own paths are tried when they are opened."""
    return bool(path) and (os.path.exists(path) or path.startswith("/vsi") or ":" in path)
