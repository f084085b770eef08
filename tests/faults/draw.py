"""Random faults, drawn by a seed alone: what happens to which job, when, and on how many ranks the work goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

Stage = Literal["predict", "train"]
KINDS = {  # kind: how often, of 24
    "SIGKILL rank": 5,
    "SIGTERM rank": 2,
    "SIGUSR1 rank": 2,
    "SIGTERM mpirun": 2,
    "SIGUSR1 mpirun": 2,
    "SIGSTOP short": 2,
    "SIGSTOP long": 1,
    "disk full": 4,
    "scene vanishes": 2,
    "scene truncated": 2,
}
_TWO_AT_ONCE, _AGAIN = 0.15, 0.2


@dataclass(frozen=True)
class Fault:
    """when: share of the undisturbed job's time. victim: which rank, or scene, as a share of all. amount: how much, from 0 to 1: of a
    stop's length, of the room that is left on the disk, of what is left of a scene."""

    kind: str
    when: float
    victim: float
    amount: float


@dataclass(frozen=True)
class Run:
    """A job on so many ranks, and what happens to it, all at once."""

    ranks: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Trial:
    """Jobs one after the other in one folder, each disturbed, and the ranks that bring the work to its end. away: they first find a
    scene still as the fault left it."""

    number: int
    stage: Stage
    runs: tuple[Run, ...]
    heirs: int
    away: bool

    @property
    def faults(self) -> int:
        return sum(len(run.faults) for run in self.runs)


def draw_trials(faults: int, seed: int, stages: tuple[Stage, ...], most_ranks: int) -> Iterator[Trial]:
    """Trials that hold so many faults in all; each hangs on the seed and its number alone."""
    number = 0
    while faults > 0:
        trial = _draw(number, seed, stages[number % len(stages)], most_ranks, faults)
        faults -= trial.faults
        number += 1
        yield trial


def _draw(number: int, seed: int, stage: Stage, most_ranks: int, most_faults: int) -> Trial:
    rng = np.random.default_rng([seed, number])
    ranks = int(rng.integers(1, most_ranks + 1))
    # Training is the same bit by bit on the same number of ranks, a map on any.
    heirs = ranks if stage == "train" else int(rng.choice([n for n in range(1, most_ranks + 1) if n != ranks] or [1]))
    two, again, away = rng.random() < _TWO_AT_ONCE, rng.random() < _AGAIN, rng.random() < 0.5
    runs = [Run(ranks, _draw_faults(rng, min(1 + two, most_faults)))]
    if again and most_faults > len(runs[0].faults):
        runs.append(Run(heirs, _draw_faults(rng, 1)))
    return Trial(number, stage, tuple(runs), heirs, bool(away))


def _draw_faults(rng: np.random.Generator, count: int) -> tuple[Fault, ...]:
    """Different faults at one time."""
    odds = np.array(list(KINDS.values()), float)
    when = rng.uniform()
    kinds = rng.choice(list(KINDS), count, replace=False, p=odds / odds.sum())
    return tuple(Fault(str(kind), when, rng.uniform(), rng.uniform()) for kind in kinds)
