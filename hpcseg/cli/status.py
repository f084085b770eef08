"""hpcseg status: how far a run is, without MPI."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hpcseg import store
from hpcseg.cli import prediction_files
from hpcseg.progress import Pace, read_paces

_NAMED = 20


@click.command("status")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def command(comm: Any, directory: Path) -> int:
    """Print the tiles of each prediction file in DIRECTORY by status (of many: of those that are not complete), and of all together;
    of a run that goes on its rate and the time left."""
    paces = read_paces(directory)
    # A run that has only begun has no files yet.
    paths = sorted(directory.glob("[!.]*.h5")) if paces else prediction_files(directory)
    counts = {path.stem: store.read_counts(path) for path in paths}
    total = {name: sum(each[name] for each in counts.values()) for name in store.STATUS_NAMES}
    ready = sum(total.values()) - _left(total)
    # Files appear when their first tile comes: of those to come only the run itself knows.
    left = max(_left(total), sum(pace.total - pace.done for pace in paces))
    print("\n".join(_scenes(counts)))
    print("\n".join(f"{name.replace(' ', '_')}_tiles={count}" for name, count in total.items()))
    print(f"complete={100 * ready / max(1, ready + left):.2f} %")
    if paces:
        print("\n".join(_pace(paces)))
    return 0


def _left(counts: Mapping[str, int]) -> int:
    return counts["missing"] + counts["failed"]


def _scenes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each scene; of many, the first that are not complete and how many more there are."""
    chosen = counts if len(counts) <= _NAMED else {scene: each for scene, each in counts.items() if _left(each)}
    lines = [f"{scene}: " + ", ".join(f"{count} {name}" for name, count in each.items()) for scene, each in chosen.items()]
    more = [f"and {len(lines) - _NAMED} more that are not complete"] if len(lines) > _NAMED else []
    done = [f"{len(counts) - len(chosen)} scenes are complete"] if len(chosen) < len(counts) else []
    return [*lines[:_NAMED], *more, *done]


def _pace(paces: list[Pace]) -> list[str]:
    """How far the runs that write here are: tiles of this start of theirs alone. Jobs over parts of the scenes go on side by side."""
    rate, left = sum(pace.rate for pace in paces), max(pace.left for pace in paces)
    return [
        f"run={sum(pace.done for pace in paces)} of {sum(pace.total for pace in paces)} tiles",
        f"rate={rate:.2f} tiles/s",
        f"time_left={left / 60:.1f} min",
        f"last_word={max(0.0, time.time() - max(pace.at for pace in paces)):.0f} s ago",
    ]
