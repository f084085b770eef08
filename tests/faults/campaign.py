"""Random faults over jobs that map and jobs that train: see run/faults.sh."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from faults.draw import draw_trials
from faults.stages import prepare
from faults.trial import Conduct, Result

_HEAD = ("trial", "stage", "ranks", "fault", "when", "code", "end s", "left", "redone", "verdict")
_WIDTHS = (5, 7, 5, 50, 4, 4, 5, 10, 7, 0)
_DISK = "8m"


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults.sh")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--stage", choices=["predict", "train", "both"], default="both")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--patience", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--mount", action="store_true", help="a small file system for disks that fill up: in a namespace of its own")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with TemporaryDirectory(prefix="faults-") as folder, small_disk(Path(folder), given.mount) as disk:
        results = carry_out(given, Path(folder), disk)
    say_figures(results)
    return int(any(result.wrong for result in results))


@contextmanager
def small_disk(folder: Path, mount: bool) -> Iterator[Path | None]:
    """A file system of a few MB, None where it cannot be had."""
    disk = folder / "disk"
    disk.mkdir()
    if not mount or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "none", disk], check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def carry_out(given: argparse.Namespace, folder: Path, disk: Path | None) -> list[Result]:
    """All trials, one after the other, each told when it is done. What is needed to look into a bad one is kept in `given.out`."""
    begin = time.monotonic()
    shared = prepare(folder)
    stages = ("predict", "train") if given.stage == "both" else (given.stage,)
    print(f"disk full: {'a file system of ' + _DISK if disk else 'a limit to the size of files stands for it: only root can mount one'}")
    print(row_of(_HEAD), flush=True)
    results = []
    for trial in draw_trials(given.faults, given.seed, stages, given.ranks):
        place = folder / f"trial-{trial.number}"
        result = Conduct(shared, trial, place, disk, given.patience).go()
        print("\n".join(map(row_of, result.rows)), flush=True)
        if result.wrong and given.out:
            keep(given.out / place.name, result, place)
        for each in filter(None, (place, disk and disk / "out")):
            shutil.rmtree(each, ignore_errors=True)
        results.append(result)
    print(f"wall={time.monotonic() - begin:.0f} s")
    return results


def row_of(cells: tuple[str, ...] | list[str]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def keep(to: Path, result: Result, place: Path) -> None:
    """What a bad trial said, and its files."""
    shutil.copytree(place, to, dirs_exist_ok=True)
    (to / "said.txt").write_text("\n----\n".join(result.said))


def say_figures(results: list[Result]) -> None:
    """The end, as key=value lines."""
    tiles, steps = (sum(each.redone for each in results if each.trial.stage == stage) for stage in ("predict", "train"))
    print(f"faults={sum(each.trial.faults for each in results)}")
    print(f"inside_run={sum(each.came for each in results)}")
    print(f"at_work={sum(each.at_work for each in results)}")
    print(f"unreadable={sum(each.unreadable for each in results)}")
    print(f"wrong_tiles={sum(each.wrong_tiles for each in results)}")
    print(f"hangs={sum(each.hangs for each in results)}")
    print(f"bad_trials={sum(bool(each.wrong) for each in results)}")
    print(f"redone_tiles={tiles}")
    print(f"redone_steps={steps}")


if __name__ == "__main__":
    sys.exit(main())
