"""What a run says of itself: by rank and in all, on the terminal, in run.json and in failed.csv."""

from __future__ import annotations

import csv
import getpass
import io
import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcseg import __version__
from hpcseg.errors import StoreError, UsageError
from hpcseg.progress import forget_paces, publish
from hpcseg.raster import Entry
from hpcseg.timeline import Profile

_PART = re.compile(r"(?:\.\d+of(\d+))?")
STAGES = ("features", "hash", "segment")


class RankReport(msgspec.Struct):
    """What one rank did. seconds: by stage, summed over its threads. failed: (scene, window, reason). timeline: of each pass.

    With a gallery, cells: of each bucket that the rank mapped, by its number, "mono" = too far from all. networks: loads, swaps and
    peak_mb, the most memory that they took.

    startup: seconds of each phase before the first tile, and the memory then: peak_mb, and shared_out_mb, where what n processes share
    counts as an nth.
    """

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
    cells: dict[str, int] = {}
    networks: dict[str, float] = {}
    startup: dict[str, float] = {}
    timeline: list[Profile] = []

    def add_seconds(self, more: Mapping[str, float]) -> None:
        """Add the time of other stages, or of another pass over tiles."""
        for stage, seconds in more.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def add_earlier(self, earlier: RankReport) -> None:
        """Add the time of an earlier pass over tiles."""
        self.add_seconds(earlier.seconds)
        self.timeline = [*earlier.timeline, *self.timeline]


class Summary(msgspec.Struct):
    """A whole run. stopped: a signal ended it before its end. precision: of a network. threads: of a rank that computed on its CPU, 0 =
    on a GPU. manifest: by scene, what its manifest says of it."""

    ranks: list[RankReport]
    refused: list[tuple[str, str]]
    notes: list[str]
    scenes: int
    planned_tiles: int
    imbalance: float
    wall: float
    stopped: bool
    precision: str = ""
    device: str = ""
    threads: int = 1
    manifest: dict[str, dict[str, str]] = {}

    @property
    def failed(self) -> list[tuple[str, str, str]]:
        """All tiles that could not be read."""
        return [each for rank in self.ranks for each in rank.failed]

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some scenes or tiles failed, 75 stopped."""
        return 75 if self.stopped else 3 if self.refused or self.failed else 0


def write_reports(out: Path, summary: Summary, entries: Mapping[str, Entry], part: tuple[int, int] = (1, 1)) -> None:
    """run.json, and failed.csv with the scenes to try again. entries: the scenes by name. part: (K, N) of a run over the K-th of N
    parts, which writes run.KofN.json and failed.KofN.csv; those of runs that were cut otherwise go once the runs of this cut have had all
    of their scenes. Raises StoreError."""
    name, of = part_name(part), part[1]
    record = msgspec.to_builtins(summary) | {"exit_code": summary.exit_code, "names": sorted(entries), "provenance": provenance()}
    try:
        publish(out / f"run{name}.json", json.dumps(record, indent=1).encode())
        _write_failed(out / f"failed{name}.csv", summary, entries)
        if not summary.stopped:
            _remove_replaced(out, of)
        forget_paces(out, lambda other: _count_parts(other) not in (0, of))
    except OSError as error:
        raise StoreError(f"{out}: reports cannot be written: {error.strerror}; make room, then run the same command again") from error


def _write_failed(path: Path, summary: Summary, entries: Mapping[str, Entry]) -> None:
    """The scenes to try again; without any the file goes."""
    if summary.stopped and path.exists():
        # It may be what this run maps, and the same command is to go on with it.
        return
    reasons = dict(summary.refused) | {name: f"{window}: {reason}" for name, window, reason in summary.failed}
    # Reasons that belong to no one scene, such as those of statistics, have no row.
    rows = [(entries[name], reason) for name, reason in reasons.items() if name in entries]
    if rows:
        publish(path, _manifest(rows).encode())
    else:
        path.unlink(missing_ok=True)


def _remove_replaced(out: Path, of: int) -> None:
    """Remove the reports of other cuts than into `of` parts whose scenes all stand in reports of this one."""
    reports = _find_reports(out)
    others = {name: path for name, path in reports.items() if _count_parts(name) != of}
    told = set().union(*(_names(path) for name, path in reports.items() if others and name not in others))
    for name, path in others.items():
        if _names(path) <= told:
            path.unlink(missing_ok=True)
            (out / f"failed{name}.csv").unlink(missing_ok=True)


def _find_reports(folder: Path) -> dict[str, Path]:
    """The reports of all parts, by what they have in their names."""
    found = {path.name.removeprefix("run").removesuffix(".json"): path for path in sorted(folder.glob("run*.json"))}
    return {name: path for name, path in found.items() if _count_parts(name)}


def _names(path: Path) -> set[str]:
    """The scenes of a report; of what is no report its own name, which no scene has."""
    try:
        return set(json.loads(path.read_bytes())["names"])
    except (OSError, ValueError, LookupError, TypeError):
        return {str(path)}


def _count_parts(name: str) -> int:
    """Into how many parts a run was cut whose files have this in their names; 0 = no run's have."""
    found = _PART.fullmatch(name)
    return int(found[1] or 1) if found else 0


def part_name(part: tuple[int, int]) -> str:
    """What a part's files have in their names, "" for all of the scenes."""
    return "" if part[1] == 1 else f".{part[0]}of{part[1]}"


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder as it is written, those of all parts together: counts summed, times the longest, lists and tables joined, of
    scenes that were tried again what was found last. {} where there is none. Raises UsageError for a file that is not one."""
    try:
        paths = sorted(_find_reports(folder).values(), key=lambda path: path.stat().st_mtime_ns)
        records = [json.loads(path.read_bytes()) for path in paths]
        if len(records) > 1:
            _forget_retried(records)
        return {key: _together(key, [record[key] for record in records]) for key in (records[0].keys() if records else ())}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder}/run.json: no report of a run: {error}") from error


def count_reports(folder: Path) -> tuple[int, int]:
    """Of the finest cut of the scenes that a report in a folder is of: how many of its parts have reported, and how many there are."""
    cuts = [_count_parts(name) for name in _find_reports(folder)]
    return cuts.count(max(cuts, default=1)), max(cuts, default=1)


def _forget_retried(records: list[dict[str, Any]]) -> None:
    """Take out of each record the scenes that a later one tells of too, but what they cost. records: the oldest first."""
    told: set[str] = set()
    for record in reversed(records):
        names, refused = set(record["names"]), {name for name, *_ in record["refused"]}
        again = told & names
        told |= names
        record["scenes"] -= len(again - refused)
        record["names"] = sorted(names - again)
        record["refused"] = [each for each in record["refused"] if each[0] not in again]
        for rank in record["ranks"]:
            rank["failed"] = [each for each in rank["failed"] if each[0] not in again]
        if again and record["exit_code"] == 3 and not record["refused"] and not any(rank["failed"] for rank in record["ranks"]):
            record["exit_code"] = 0


def _together(key: str, values: list[Any]) -> Any:
    """One entry of a record, of all parts of a run."""
    first = values[0]
    if isinstance(first, dict):
        return {name: value for each in values for name, value in each.items()}
    if isinstance(first, list):
        return [item for each in values for item in each]
    if first is None or isinstance(first, str):
        return first
    return max(values) if key in ("exit_code", "threads") or isinstance(first, (bool, float)) else sum(values)


def provenance() -> dict[str, str]:
    """Who did what, where and when: the command without its launcher, the time of its end in UTC."""
    return {
        "command": shlex.join(["hpcseg", *sys.argv[1:]]),
        "user": user(),
        "host": socket.gethostname(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "hpcseg": __version__,
    }


def user() -> str:
    """The name of who runs this, or their number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _manifest(rows: list[tuple[Entry, str]]) -> str:
    """A CSV manifest of scenes and reasons, with all columns that their own manifests had."""
    columns = dict.fromkeys(column for entry, _ in rows for column in entry.columns)
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, ["scene", "id", "reason", *columns])
    table.writeheader()
    table.writerows({"scene": entry.source, "id": entry.name, "reason": reason, **entry.columns} for entry, reason in rows)
    return file.getvalue()


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
        *([f"precision={summary.precision}"] if summary.precision else []),
        f"wall={summary.wall:.2f} s",
        f"mapping={wall:.2f} s",
        f"allocation={max(rank.allocation for rank in summary.ranks):.2f} s",
        f"throughput={pixels / wall / 1e6:.3f} Mpx/s",
        f"ground={sum(rank.mapped_m2 for rank in summary.ranks) / wall / 1e6:.3f} km2/s",
        f"load_balance={np.mean(useful) / max(max(useful), 1e-9):.3f}",
        f"imbalance={summary.imbalance:.4f}",
        *_gallery_lines(summary.ranks),
    ]


def _gallery_lines(ranks: Sequence[RankReport]) -> list[str]:
    """What the forward passes of a gallery consist of, how many cells each bucket has, and what its networks took."""
    told = [rank.networks for rank in ranks if rank.networks]
    if not told:
        return []
    seconds = {key: sum(rank.seconds.get(key, 0.0) for rank in ranks) for key in STAGES}
    cells: dict[str, int] = {}
    for rank in ranks:
        for bucket, count in rank.cells.items():
            cells[bucket] = cells.get(bucket, 0) + count
    return [
        *(f"{key}={value:.2f} s" for key, value in seconds.items()),
        f"cells={sum(cells.values())}",
        *(f"cells_{bucket}={cells[bucket]}" for bucket in sorted(cells, key=lambda name: (len(name), name))),
        f"network_loads={sum(int(each['loads']) for each in told)}",
        f"network_swaps={sum(int(each['swaps']) for each in told)}",
        f"network_memory={max(each['peak_mb'] for each in told):.1f} MB",
    ]
