"""How far a run is: a bar with rate and time left on a terminal, a line a minute in a log; on one rank."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

_LINE_SECONDS = 60.0


class Progress:
    """Progress of `total` things; nothing is shown where `visible` is False."""

    def __init__(self, unit: str, total: int, visible: bool) -> None:
        self._unit, self._total, self._visible = unit, total, visible and total > 0
        self._bar = tqdm(total=total, unit=unit, leave=False) if self._visible and sys.stderr.isatty() else None
        self._begin = self._shown = time.monotonic()

    def show(self, count: int) -> None:
        """Tell that `count` things are done."""
        if self._bar is not None:
            self._bar.update(count - self._bar.n)
        elif self._visible and time.monotonic() - self._shown > _LINE_SECONDS:
            self._shown = time.monotonic()
            rate = count / (self._shown - self._begin)
            left = (self._total - count) / rate / 60 if rate else float("inf")
            print(f"{count} of {self._total} {self._unit}, {rate:.2f}/s, {left:.0f} min left", flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
