"""How far a run is: a bar with rate and time left on a terminal, a line a minute in a log, a small file for others; on one rank."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from tqdm import tqdm

_LINE_SECONDS = 60.0
_FILE_SECONDS = 2.0
_FILE = ".progress{}.json"


class Pace(msgspec.Struct):
    """How far a run was at a time. done: of the `total` things that it had to do. seconds: since it began with them. at: of the clock."""

    done: int
    total: int
    seconds: float
    at: float

    @property
    def rate(self) -> float:
        """Things a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds to the end at this rate."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


def read_paces(folder: Path) -> list[Pace]:
    """Those of all runs that write to a folder, or that ended there without a word."""
    found = []
    for path in sorted(folder.glob(_FILE.format("*"))):
        with suppress(OSError, msgspec.MsgspecError):  # a run that ends removes its file
            found.append(msgspec.json.decode(path.read_bytes(), type=Pace))
    return found


def forget_paces(folder: Path, others: Callable[[str], bool]) -> None:
    """Remove what runs left whose names fit, such as killed ones: a run that goes on tells anew."""
    before, after = _FILE.split("{}")
    for path in folder.glob(_FILE.format("*")):
        if others(path.name.removeprefix(before).removesuffix(after)):
            path.unlink(missing_ok=True)


def publish(path: Path, content: bytes) -> None:
    """Write a file that others may read at any time: it is there whole, or as it was."""
    part = path.with_name(f".{path.name.lstrip('.')}.part")
    part.write_bytes(content)
    os.replace(part, path)


class Progress:
    """Progress of `total` things; nothing is shown where `visible` is False. folder: where `read_paces` finds it, under this name."""

    def __init__(self, unit: str, total: int, visible: bool, folder: Path | None = None, name: str = "") -> None:
        self._unit, self._total, self._visible = unit, total, visible and total > 0
        self._bar = tqdm(total=total, unit=unit, leave=False) if self._visible and sys.stderr.isatty() else None
        self._begin = self._shown = self._told = time.monotonic()
        self._file = folder / _FILE.format(name) if visible and folder is not None else None
        self._tell(0)

    def show(self, count: int) -> None:
        """Tell that `count` things are done."""
        if time.monotonic() - self._told > _FILE_SECONDS:
            self._tell(count)
        if self._bar is not None:
            self._bar.update(count - self._bar.n)
        elif self._visible and time.monotonic() - self._shown > _LINE_SECONDS:
            self._shown = time.monotonic()
            rate = count / (self._shown - self._begin)
            left = (self._total - count) / rate / 60 if rate else float("inf")
            print(f"{count} of {self._total} {self._unit}, {rate:.2f}/s, {left:.0f} min left", flush=True)

    def _tell(self, count: int) -> None:
        self._told = time.monotonic()
        if self._file is not None and self._total:
            with suppress(OSError):  # a run does not end because it cannot say how far it is
                publish(self._file, msgspec.json.encode(Pace(count, self._total, self._told - self._begin, time.time())))

    def close(self) -> None:
        """Remove the bar and the file, also one that a killed run left where nothing is left to do."""
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            self._file.unlink(missing_ok=True)
