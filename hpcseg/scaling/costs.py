"""What a tile costs a rank: rates that runs on one rank with one size of tile tell, and what follows for any other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from hpcseg.errors import UsageError
from hpcseg.scaling.records import Row, counted


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


def the_kind(rows: Iterable[Row], precision: str = "") -> tuple[Kind, list[Row]]:
    """The only kind in a table, or the only one of a precision. Raises UsageError."""
    found = {kind: own for kind, own in kinds(rows).items() if precision in ("", kind.precision)}
    if len(found) != 1:
        what = "; ".join(map(str, found)) or "none"
        raise UsageError(f"runs of predict over synthetic scenes of one kind are wanted, here are: {what}. --precision chooses")
    return next(iter(found.items()))


def calibrate(rows: Iterable[Row], tile: int) -> Rates:
    """Rates from the runs of one kind on one rank with one size of tile, of which medians are taken. Raises UsageError.

    Where stages share a rank's cores, their clocks run on while others have the core: reading and writing come first there and are
    believed, the rest of the tile loop is the network's. A GPU takes windows in batches, in which there is no first one.
    """
    chosen = [row for row in rows if row.ranks == 1 and row.tile == tile]
    if not chosen:
        raise UsageError(f"no runs on 1 rank with tiles of {tile} px to calibrate on: run hpcseg scaling strong predict with them first")
    first = chosen[0]

    def typical(value: str) -> float:
        return median(getattr(row, value) for row in chosen)

    shared = not first.gpu
    computed, kept = typical("computed_mpx") * 1e6, typical("mpx") * 1e6
    busy = typical("decode") + typical("preprocess") + typical("write") + typical("wait")
    excess = median(map(first_excess, chosen)) if shared else 0.0
    forward = typical("work") - busy - excess if shared else typical("forward")
    logs = np.log([row.work for row in chosen])
    return Rates(
        decode=typical("decode") / kept, prepare=typical("preprocess") / computed, forward=max(0.0, forward) / computed,
        write=typical("write") / kept, touch=excess * first.tiles / computed, stored=typical("input_mb") * 1e6 / kept, shared=shared,
        start=median(row.wall - row.work for row in chosen), spread=float(np.std(logs)),
    )  # fmt: skip


def first_excess(row: Row) -> float:
    """Seconds by which the first window of a thread took longer than its others, the mean over threads; 0 where there are no others."""
    threads = min(row.threads, row.tiles)
    if row.tiles == threads:
        return 0.0
    return max(0.0, row.first / threads - (row.forward - row.first) / (row.tiles - threads))
