"""The networks of a gallery that a rank has in memory: loaded when a cell needs them, within a budget, shared by all threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hpcseg.errors import UsageError
from hpcseg.gallery.members import Member
from hpcseg.inference.engine import Recipe
from hpcseg.models.optimise import for_inference

_COPIES = 3
_MB = 1_000_000


@dataclass
class Prepared:
    """A network ready to run. recipe: its own; without weights. nbytes: what it takes. users: threads that run it now."""

    run: Callable[[Tensor], Tensor]
    recipe: Recipe
    nbytes: int
    users: int = 0


class Networks:
    """Networks by number. budget: bytes that weights and prepared copies take at most, those of a network that is being loaded included.

    loads: how often one was loaded. swaps: how often one was dropped to make room. peak: most bytes at once. Raises UsageError if the
    budget is too small for the largest network.
    """

    def __init__(self, members: Sequence[Member], recipe: Recipe, where: torch.device, budget: int) -> None:
        check_budget(members, budget)
        self._members, self._recipe, self._where, self._budget = members, recipe, where, budget
        self._loaded: OrderedDict[int, Prepared] = OrderedDict()
        self._changed = threading.Condition()
        # The recipe holds the mono model's weights for as long as the run lasts.
        self._nbytes = self.peak = members[0].nbytes
        self.loads = self.swaps = 0

    @property
    def fit_together(self) -> bool:
        """Whether all networks stay in memory once they are loaded."""
        return need_of(self._members) + sum(each.nbytes for each in self._members) <= self._budget

    @contextmanager
    def use(self, number: int) -> Iterator[Prepared]:
        """A network, kept in memory meanwhile. A thread uses one at a time, so that those that wait for room get it."""
        with self._changed:
            while number not in self._loaded and not self._make_room(_COPIES * self._members[number].nbytes):
                self._changed.wait()
            if number not in self._loaded:
                self._load(number)
            self._loaded.move_to_end(number)
            network = self._loaded[number]
            network.users += 1
        try:
            yield network
        finally:
            with self._changed:
                network.users -= 1
                self._changed.notify_all()

    def _make_room(self, nbytes: int) -> bool:
        """Drop networks that nobody runs, those first that were used long ago. Returns whether there is room now."""
        for number in list(self._loaded):
            if self._nbytes + nbytes > self._budget and not self._loaded[number].users:
                self._nbytes -= self._loaded.pop(number).nbytes
                self.swaps += 1
        return self._nbytes + nbytes <= self._budget

    def _load(self, number: int) -> None:
        member = self._members[number]
        self.peak = max(self.peak, self._nbytes + _COPIES * member.nbytes)
        model = member.load()
        run = for_inference(model, self._where, self._recipe.precision, self._recipe.compile)
        nbytes = _size(run) or member.nbytes
        own = replace(model, network=nn.Identity(), halo=self._recipe.model.halo)
        self._loaded[number] = Prepared(run, replace(self._recipe, model=own), nbytes)
        self._nbytes += nbytes
        self.loads += 1


def _size(run: Callable) -> int:
    """Bytes of a prepared network of ours, 0 for others."""
    return sum(each.nbytes for each in run.state_dict().values()) if isinstance(run, nn.Module) else 0


def need_of(members: Sequence[Member]) -> int:
    """Bytes that suffice for one network at a time: the mono model's weights, and the largest while it is being loaded."""
    return members[0].nbytes + _COPIES * max(each.nbytes for each in members)


def check_budget(members: Sequence[Member], budget: int) -> None:
    """Raises UsageError if not even one network at a time has room."""
    need = need_of(members)
    if need > budget:
        largest = max(members, key=lambda each: each.nbytes)
        raise UsageError(f"--gallery-memory {budget // _MB}: {largest.folder} alone needs {-(-need // _MB)} MB")
