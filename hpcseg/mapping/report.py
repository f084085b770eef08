"""What a run says of itself: by rank and in all, on the terminal, in run.json and in failed.csv."""

from __future__ import annotations

import csv
import getpass
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
from hpcseg.errors import UsageError
from hpcseg.progress import publish
from hpcseg.raster import Entry
from hpcseg.timeline import Profile

_REPORT = re.compile(r"run(\.\d+of(\d+))?\.json")
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
    """A whole run. stopped: a signal ended it before its end. precision: of a network. manifest: by scene, what its manifest says of it."""

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
    parts, which writes run.KofN.json and failed.KofN.csv; reports of runs that were not cut into N go."""
    name, of = part_name(part), part[1]
    failed = out / f"failed{name}.csv"
    record = msgspec.to_builtins(summary) | {"exit_code": summary.exit_code, "provenance": provenance()}
    publish(out / f"run{name}.json", json.dumps(record, indent=1).encode())
    for path in out.glob("run*.json"):
        found = _REPORT.fullmatch(path.name)
        if found and int(found[2] or 1) != of:
            path.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    reasons = dict(summary.refused) | {name: f"{window}: {reason}" for name, window, reason in summary.failed}
    # Reasons that belong to no one scene, such as those of statistics, have no row.
    rows = [(entries[name], reason) for name, reason in reasons.items() if name in entries]
    if rows:
        _write_manifest(failed, rows)


def part_name(part: tuple[int, int]) -> str:
    """What a part's files have in their names, "" for all of the scenes."""
    return "" if part[1] == 1 else f".{part[0]}of{part[1]}"


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder as it is written, those of all parts together: counts summed, times the longest, lists and tables joined.
    {} where there is none. Raises UsageError for a file that is not one."""
    found = [path for path in sorted(folder.glob("run*.json")) if _REPORT.fullmatch(path.name)]
    try:
        records = [json.loads(path.read_bytes()) for path in found]
        return {key: _together(key, [record[key] for record in records]) for key in (records[0].keys() if records else ())}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder}/run.json: no report of a run: {error}") from error


def _together(key: str, values: list[Any]) -> Any:
    """One entry of a record, of all parts of a run."""
    first = values[0]
    if isinstance(first, dict):
        return {name: value for each in values for name, value in each.items()}
    if isinstance(first, list):
        return [item for each in values for item in each]
    if first is None or isinstance(first, str):
        return first
    return max(values) if key == "exit_code" or isinstance(first, (bool, float)) else sum(values)


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


def _write_manifest(path: Path, rows: list[tuple[Entry, str]]) -> None:
    """A CSV manifest of scenes and reasons, with all columns that their own manifests had."""
    columns = dict.fromkeys(column for entry, _ in rows for column in entry.columns)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ["scene", "id", "reason", *columns])
        table.writeheader()
        table.writerows({"scene": entry.source, "id": entry.name, "reason": reason, **entry.columns} for entry, reason in rows)


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
