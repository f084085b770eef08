"""Simulated against measured: rates from one rank and one size of tile, then all other runs of the table foretold."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from hpcseg.errors import UsageError
from hpcseg.scaling.costs import Kind, Rates, calibrate, kinds
from hpcseg.scaling.model import group
from hpcseg.scaling.records import Case, Row
from hpcseg.scaling.simulate import Archive, simulate

_SEEDS = range(51)


class Check(NamedTuple):
    """Seconds of the tile loops of one case: the median of the measured runs, and of as many simulated ones as there are seeds, so that of
    ranks whose paces differ the slowest counts in both. error: simulated / measured - 1."""

    kind: Kind
    mode: str
    ranks: int
    tile: int
    runs: int
    measured: float
    simulated: float
    error: float


def validate(rows: Iterable[Row], tile: int) -> list[Check]:
    """All cases of each kind in a table that has rows of 1 rank and this tile to calibrate its rates. Raises UsageError if none has."""
    checks = []
    for kind, own in kinds(rows).items():
        if not any(row.ranks == 1 and row.tile == tile for row in own):
            continue
        rates = calibrate(own, tile)
        checks += [_check(kind, case, runs, rates) for case, runs in group(own).items()]
    if not checks:
        wanted = f"predict over synthetic scenes on 1 rank with tiles of {tile} px"
        raise UsageError(f"no runs of {wanted}: run hpcseg scaling strong predict with them first")
    return checks


def _check(kind: Kind, case: Case, runs: list[Row], rates: Rates) -> Check:
    archive = Archive(case.scenes, case.size, case.size, case.tile, runs[0].halo, by_rows=case.partition == "rows")
    measured = median(row.work for row in runs)
    simulated = median(simulate(archive, rates, case.ranks, seed=seed).loops for seed in _SEEDS)
    return Check(kind, case.mode, case.ranks, case.tile, len(runs), measured, simulated, simulated / measured - 1)


def check_lines(checks: Iterable[Check]) -> list[str]:
    """A line for each case, then the largest error."""
    checks = list(checks)
    lines = [
        f"mode={each.mode}  model={each.kind.model}  precision={each.kind.precision}  partition={each.kind.partition}  ranks={each.ranks}  "
        f"tile={each.tile} px  runs={each.runs}  measured={each.measured:.3f} s  simulated={each.simulated:.3f} s  "
        f"error={100 * each.error:+.2f} %"
        for each in checks
    ]
    return [*lines, f"largest_error={100 * max(abs(each.error) for each in checks):.2f} %"]
