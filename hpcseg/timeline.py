"""When a rank did what: busy seconds of each stage in equal bins of time, few enough for any length of run."""

from __future__ import annotations

import time

import msgspec

BINS = 64
_WIDTH = 0.05


class Profile(msgspec.Struct):
    """One pass of a rank over its tiles. begin: seconds since 1970, by the clock of its node. width: of a bin, in seconds.

    busy: by stage, what its threads together spent in each bin, in percent of the bin: whole numbers between blanks, which
    keeps run.json small for a thousand ranks.
    """

    begin: float
    width: float
    busy: dict[str, str]

    def percents(self) -> dict[str, list[int]]:
        """By stage, of each bin."""
        return {stage: [int(word) for word in text.split()] for stage, text in self.busy.items()}


class Timeline:
    """Takes in intervals as they end. Where they outrun the last bin, all bins become twice as wide. Not safe for several threads."""

    def __init__(self) -> None:
        self.width = _WIDTH
        self._begin, self._origin = time.time(), time.perf_counter()
        self._busy: dict[str, list[float]] = {}

    def add(self, stage: str, seconds: float) -> None:
        """A stage was busy for `seconds` until now."""
        end = time.perf_counter() - self._origin
        self.add_interval(stage, max(0.0, end - seconds), end)

    def add_interval(self, stage: str, start: float, end: float) -> None:
        """A stage was busy from `start` to `end`, in seconds since the timeline was made."""
        while end >= BINS * self.width:
            self._widen()
        bins = self._busy.setdefault(stage, [0.0] * BINS)
        for k in range(int(start / self.width), int(end / self.width) + 1):
            bins[k] += max(0.0, min(end, (k + 1) * self.width) - max(start, k * self.width))

    def _widen(self) -> None:
        self.width *= 2
        for bins in self._busy.values():
            bins[:] = [a + b for a, b in zip(bins[::2], bins[1::2], strict=True)] + [0.0] * (BINS // 2)

    def profile(self) -> Profile:
        """What came together so far, without the bins after the last that is not empty."""
        used = max((k + 1 for bins in self._busy.values() for k in range(BINS) if bins[k]), default=0)
        percents = {stage: [round(100 * each / self.width) for each in bins[:used]] for stage, bins in self._busy.items()}
        return Profile(round(self._begin, 3), self.width, {stage: " ".join(map(str, each)) for stage, each in percents.items()})
