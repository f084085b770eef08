"""What a tile costs a rank: rates that runs on one rank with one size of tile tell, and what follows for any other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError
from hpcseg.scaling.records import Row, counted

_TYPICAL = ("decode", "prepare", "forward", "write", "touch", "stored", "start")


@dataclass(frozen=True)
class Rates:
    """Seconds of one rank for a pixel: decode: of what is read from a file; prepare, forward: of a window, halos included; write: of what
    is kept; touch: of the first window of each thread, beyond forward. Bytes for a pixel: stored: of the scene's file; kept: of the map.

    shared: the stages of a rank share its cores, so their times add up; else they run beside each other and the slowest counts.
    start, start_log: seconds of a run besides its tiles, on p ranks start + start_log * log2 p. spread, tile_spread: deviation of the
    logarithm of the pace of ranks, and of tiles.
    """

    decode: float
    prepare: float
    forward: float
    write: float
    touch: float = 0.0
    stored: float = 3.0
    kept: float = 1.0
    shared: bool = True
    start: float = 0.0
    start_log: float = 0.0
    spread: float = 0.0
    tile_spread: float = 0.0

    def seconds(self, tiles: np.ndarray, window: float, core: np.ndarray, read: np.ndarray) -> np.ndarray:
        """Seconds of tile loops without their first touch. tiles: forward passes, of `window` pixels each. core, read: pixels kept and
        read from files."""
        stages = (self.decode * read + self.prepare * window * tiles, self.forward * window * tiles, self.write * core)
        return np.sum(stages, axis=0) if self.shared else np.max(stages, axis=0)


class Kind(NamedTuple):
    """What rates depend on, besides the machine."""

    model: str
    precision: str
    partition: str
    threads: int
    extra: str

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items() if value)


def kinds(rows: Iterable[Row]) -> dict[Kind, list[Row]]:
    """The counted runs of predict over synthetic scenes, whose size is known, by kind."""
    found: dict[Kind, list[Row]] = {}
    for row in counted(rows):
        if row.stage == "predict" and row.size:
            found.setdefault(Kind(*(getattr(row, name) for name in Kind._fields)), []).append(row)
    return found


def the_kind(rows: Iterable[Row], **wanted: object) -> tuple[Kind, list[Row]]:
    """The only kind in a table, or the only one with fields of those values, "" and 0 = any. Raises UsageError."""
    chosen = {name: value for name, value in wanted.items() if value}
    found = {kind: own for kind, own in kinds(rows).items() if all(getattr(kind, name) == value for name, value in chosen.items())}
    if len(found) != 1:
        what = "; ".join(map(str, found)) or "none"
        raise UsageError(f"runs of predict over synthetic scenes of one kind are wanted, here are: {what}. --{', --'.join(wanted)} choose")
    return next(iter(found.items()))


def calibrate(rows: Iterable[Row], tile: int) -> Rates:
    """Rates from the runs of one kind on one rank with one size of tile: medians over the runs. Raises UsageError."""
    chosen = [row for row in rows if row.ranks == 1 and row.tile == tile]
    if not chosen:
        raise UsageError(f"no runs on 1 rank with tiles of {tile} px to calibrate on: run hpcseg scaling strong predict with them first")
    each = [rates_of(row) for row in chosen]
    typical = {name: median(getattr(rates, name) for rates in each) for name in _TYPICAL}
    return replace(each[0], **typical, spread=float(np.std(np.log([row.work / row.computed_mpx for row in chosen]))))


def rates_of(row: Row) -> Rates:
    """What one run on one rank tells.

    Where stages share a rank's cores, their clocks run on while others have the core: reading and writing come first there and are
    believed, the rest of the tile loop is the network's. A GPU takes windows in batches, in which there is no first one, and has a reader
    for each thread but one, whose seconds are side by side.
    """
    shared, readers = not row.gpu, 1 if not row.gpu else max(1, row.threads - 1)
    computed, kept = row.computed_mpx * 1e6, row.mpx * 1e6
    excess = first_excess(row) if shared else 0.0
    forward = row.work - row.decode - row.preprocess - row.write - excess if shared else row.forward
    return Rates(
        decode=row.decode / readers / kept, prepare=row.preprocess / readers / computed, forward=max(0.0, forward) / computed,
        write=row.write / kept, touch=excess * row.tiles / computed, stored=row.input_mb * 1e6 / kept, shared=shared,
        start=row.wall - row.work,
    )  # fmt: skip


def first_excess(row: Row) -> float:
    """Seconds by which the first window of a thread took longer than its others, the mean over threads; 0 where there are no others."""
    threads = min(row.threads, row.tiles)
    if row.tiles == threads:
        return 0.0
    return max(0.0, row.first / threads - (row.forward - row.first) / (row.tiles - threads))
