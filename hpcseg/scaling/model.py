"""What a study's figures say: speed-up, efficiency, serial share, balance, and a fitted model that looks past the ranks that ran.

Pure functions of numbers. Definitions: Amdahl (1967), Karp and Flatt (CACM 33(5), 1990), POP (Performance Optimisation and Productivity)
for balance and communication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from hpcseg.scaling.records import Case, Mode, Row, counted

Basis = Callable[[np.ndarray], np.ndarray]


class Spread(NamedTuple):
    """Repeats of one case."""

    median: float
    least: float
    most: float
    runs: int


class Pop(NamedTuple):
    """Shares of 1. parallel: balance * communication."""

    balance: float
    communication: float
    parallel: float


def spread_of(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    found = list(values)
    return Spread(median(found), min(found), max(found), len(found))


def group(rows: Iterable[Row]) -> dict[Case, list[Row]]:
    """The counted runs by case, in the order of the table."""
    found: dict[Case, list[Row]] = {}
    for row in counted(rows):
        found.setdefault(row.case, []).append(row)
    return found


def speed_up(base_seconds: float, seconds: float, base_ranks: int = 1) -> float:
    """S = base ranks * T_base / T_p, of the same work."""
    return base_ranks * base_seconds / seconds


def efficiency(mode: Mode, base_seconds: float, seconds: float, ranks: int, base_ranks: int = 1) -> float:
    """Strong: S / p. Weak, the work per rank being fixed: T_base / T_p."""
    return base_seconds / seconds if mode == "weak" else speed_up(base_seconds, seconds, base_ranks) / ranks


def karp_flatt(speed: float, ranks: int) -> float:
    """The serial share e = (1/S - 1/p) / (1 - 1/p) that a speed-up S on p ranks tells of; nan on one rank."""
    return (1 / speed - 1 / ranks) / (1 - 1 / ranks) if ranks > 1 else float("nan")


def comparable_seconds(rows: Sequence[Row], base: Sequence[Row]) -> list[float]:
    """Seconds of each run, as its efficiency over those of `base` is judged by. Weak: scaled to the work that a rank had there, as scenes
    that are given, and samples that a split gives, are never quite as many more as ranks."""
    share = median(row.mpx / row.ranks for row in base)
    if rows[0].mode == "strong" or not share:
        return [row.work for row in rows]
    return [row.work * share / (row.mpx / row.ranks) for row in rows]


def pop(useful: Sequence[float], seconds: float) -> Pop:
    """Load balance = mean / largest useful time of the ranks, communication efficiency = largest useful / run time; nan without any."""
    if not useful or max(useful) <= 0 or seconds <= 0:
        return Pop(float("nan"), float("nan"), float("nan"))
    balance, communication = float(np.mean(useful)) / max(useful), max(useful) / seconds
    return Pop(balance, communication, balance * communication)


def pop_of(row: Row) -> Pop:
    """Of a run: of the program's whole time, its opening and merging included; in training, of the epochs."""
    return pop(row.useful, row.work if row.stage == "train" else row.seconds)


@dataclass(frozen=True)
class Fit:
    """seconds(p) = a + b * basis(p), neither below 0. error: largest relative error in leaving one measurement out and predicting it from
    the others, nan below three; residuals: measured - fitted, in seconds, by measurement. mode: decides the basis."""

    mode: Mode
    a: float
    b: float
    residuals: tuple[float, ...]
    error: float

    def seconds(self, ranks: float) -> float:
        """Predicted seconds on so many ranks."""
        return self.a + self.b * float(basis_of(self.mode)(np.array([float(ranks)]))[0])

    @property
    def serial_share(self) -> float:
        """Amdahl's: the part of one rank's time that more ranks leave as it is."""
        return self.a / max(self.a + self.b, 1e-30) if self.mode == "strong" else float("nan")


def basis_of(mode: Mode) -> Basis:
    """What varies with ranks p. Strong: 1/p (Amdahl). Weak: log2 p, the depth of a tree of messages."""
    return np.log2 if mode == "weak" else np.reciprocal


def fit(mode: Mode, ranks: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Least squares of measurements, one for each number of ranks; a and b are kept at 0 or more."""
    p, t = np.asarray(ranks, float), np.asarray(seconds, float)
    a, b = _solve(mode, p, t)
    fitted = a + b * basis_of(mode)(p)
    return Fit(mode, a, b, tuple((t - fitted).tolist()), _left_out(mode, p, t))


def _solve(mode: Mode, p: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    (a, b), _ = nnls(np.stack([np.ones_like(p), basis_of(mode)(p)], 1), t)
    return float(a), float(b)


def _left_out(mode: Mode, p: np.ndarray, t: np.ndarray) -> float:
    """The largest relative error of leaving one out."""
    if len(p) < 3:
        return float("nan")
    errors = []
    for k in range(len(p)):
        rest = np.arange(len(p)) != k
        a, b = _solve(mode, p[rest], t[rest])
        errors.append(abs(a + b * basis_of(mode)(p[k : k + 1])[0] - t[k]) / t[k])
    return float(max(errors))
