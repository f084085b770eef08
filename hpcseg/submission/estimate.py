"""How long a stage takes on so many ranks, how many nodes it wants, and why it does not fit: plain numbers, nothing is measured here."""

from __future__ import annotations

import math
from typing import NamedTuple

from hpcseg.errors import UsageError

MARGIN = 1.5
START = 420.0
"""Seconds that a job may take before its first tile and after its last, and of its warning before the end of time."""


class Demand(NamedTuple):
    """What a stage takes. units: of work, of which each takes one rank `seconds` (0 = not known). most: more ranks have nothing to do;
    0 = a rank a unit. memory: bytes of a rank, 0 = not known. told: lines on where all this comes from."""

    units: float = 0.0
    seconds: float = 0.0
    most: int = 0
    memory: float = 0.0
    told: tuple[str, ...] = ()

    @property
    def busy(self) -> int:
        """The most ranks that have something to do."""
        return self.most or max(1, math.ceil(self.units))


class Ask(NamedTuple):
    """What the user wants. nodes: 0 = as many as it takes. ranks: of a node. time: seconds that are asked for without an estimate.
    limit: of one job in seconds. memory: bytes of a node. repeats: how often the job may go on after its limit. 0 = not said."""

    nodes: int = 0
    ranks: int = 1
    time: int = 0
    limit: int = 0
    memory: float = 0.0
    repeats: int = 0

    @property
    def budget(self) -> float:
        """Seconds that all jobs together have; each repeat starts anew."""
        return self.limit + self.repeats * (self.limit - START) if self.limit else math.inf


class Fit(NamedTuple):
    """How the stage is run. seconds: asked of each job. told: lines for people."""

    nodes: int
    seconds: int
    told: tuple[str, ...]


def seconds_on(demand: Demand, ranks: int) -> float:
    """An upper estimate: the rank that has most to do has at most one unit more than the mean of those that have anything."""
    return START + MARGIN * demand.seconds * (demand.units / min(ranks, demand.busy) + 1)


def fewest_ranks(demand: Demand, budget: float) -> int:
    """The fewest ranks that are done within `budget` seconds, 0 if not even one rank a unit is."""
    room = (budget - START) / (MARGIN * demand.seconds) - 1
    ranks = max(1, math.ceil(demand.units / room)) if room > 0 else demand.busy + 1
    return ranks if ranks <= demand.busy else 0


def fit(demand: Demand, ask: Ask) -> Fit:
    """Nodes and time of a stage. Raises UsageError with the reason where it cannot fit."""
    _check_memory(demand, ask)
    if ask.time or not demand.seconds:
        return _as_said(demand, ask)
    nodes = ask.nodes or _choose_nodes(demand, ask)
    seconds = seconds_on(demand, nodes * ask.ranks)
    if seconds > ask.budget:
        raise UsageError(_too_long(demand, ask, nodes, seconds))
    jobs = f", in up to {ask.repeats + 1} jobs of {clock(ask.limit)} that resume one another" if seconds > (ask.limit or math.inf) else ""
    told = (*demand.told, f"estimate: {demand.units:,.0f} x {demand.seconds:.3g} s on {nodes * ask.ranks} ranks, x{MARGIN:g},"
            f" and {START / 60:.0f} minutes to start and end: {clock(seconds)}{jobs}", *_idle(demand, nodes * ask.ranks))  # fmt: skip
    return Fit(nodes, round(min(seconds, ask.limit or math.inf)), told)


def _as_said(demand: Demand, ask: Ask) -> Fit:
    """Nodes and time as they were asked for."""
    if not ask.time:
        raise UsageError("how long this takes is not known: say it with --time H:MM:SS")
    if ask.limit and ask.time > ask.limit:
        raise UsageError(f"--time {clock(ask.time)} is more than --time-limit {clock(ask.limit)}")
    nodes = ask.nodes or 1
    return Fit(nodes, ask.time, (*demand.told, f"time: {clock(ask.time)}, as given", *_idle(demand, nodes * ask.ranks)))


def _check_memory(demand: Demand, ask: Ask) -> None:
    need = demand.memory * ask.ranks
    if 0 < ask.memory < need:
        raise UsageError(
            f"{ask.ranks} ranks of {demand.memory / 1e9:.1f} GB are {need / 1e9:.1f} GB a node, --memory-per-node is {ask.memory / 1e9:g}:"
            f" at most {int(ask.memory // demand.memory)} fit (--ranks-per-node), or choose a smaller --core or fewer --threads"
        )


def _choose_nodes(demand: Demand, ask: Ask) -> int:
    ranks = fewest_ranks(demand, ask.budget)
    if not ranks:
        raise UsageError(_too_long(demand, ask, -(-demand.busy // ask.ranks), seconds_on(demand, demand.busy)))
    return -(-ranks // ask.ranks)


def _too_long(demand: Demand, ask: Ask, nodes: int, seconds: float) -> str:
    ways = []
    if ranks := fewest_ranks(demand, ask.budget):
        ways.append(f"--nodes {-(-ranks // ask.ranks)} would do")
    if ask.limit > START:
        repeats = math.ceil((seconds - ask.limit) / (ask.limit - START))
        ways.append(f"with --repeats {repeats} the job resumes until it is done")
    return (
        f"estimated {clock(seconds)} on {nodes} nodes with {ask.ranks} ranks each, --time-limit is {clock(ask.limit)}"
        f"{f', {ask.repeats} times again' if ask.repeats else ''}: {', or '.join(ways) or 'allow more'}"
    )


def _idle(demand: Demand, ranks: int) -> tuple[str, ...]:
    """A warning where ranks have nothing to do."""
    return (f"warning: {ranks} ranks, but work for {demand.busy} only",) if demand.units and demand.busy < ranks else ()


def clock(seconds: float) -> str:
    """H:MM:SS, rounded up to a minute."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02}:00"
