"""Faults put into ranks from outside: Python imports this file at start where its folder is on PYTHONPATH.

HPCSEG_TEST_FAULT="PLACE:RANK:CALL[,...]" raises RuntimeError at that call of that place (from 1) on that rank ("*": on each).
HPCSEG_TEST_FAULT_FILE takes the time of the first raise. HPCSEG_TEST_SLOW="SECONDS" makes every forward pass that much longer,
and every step of training. HPCSEG_TEST_TALLY=FILE gets a byte for each of them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.util
import itertools
import os
import sys
import time

PLACES = {  # module, class if it is a method, function
    "reader": ("hpcseg.raster.cells", "SceneReader", "_decode"),
    "kernel": ("hpcseg.inference.engine", "CpuEngine", "logits"),
    "writer": ("hpcseg.store", "Prediction", "write"),
    "creation": ("hpcseg.store", "", "create"),
    "opening": ("hpcseg.raster.scene", "", "describe"),
    "step": ("hpcseg.training.loop", "Trainer", "step"),
}


def faults() -> dict[str, int]:
    """By place, the call at which this rank raises."""
    found = {}
    for each in filter(None, os.environ.get("HPCSEG_TEST_FAULT", "").split(",")):
        place, rank, call = each.split(":")
        if rank in ("*", os.environ.get("OMPI_COMM_WORLD_RANK", "0")):
            found[place] = int(call)
    return found


def raise_fault(place: str) -> None:
    """Note the time, then raise."""
    path = os.environ.get("HPCSEG_TEST_FAULT_FILE")
    if path and not os.path.exists(path):
        with open(path, "w") as file:
            file.write(repr(time.time()))
    raise RuntimeError(f"fault put into {place}")


def count() -> None:
    """A byte more in the tally; on a disk that is full nobody counts."""
    path = os.environ.get("HPCSEG_TEST_TALLY")
    if path:
        with contextlib.suppress(OSError), open(path, "ab") as file:
            file.write(b".")


def patch(module: object, place: str, at: int, delay: float) -> None:
    """Wrap the place's function: it sleeps for `delay` and raises at call `at` (0: never)."""
    _, owner, name = PLACES[place]
    holder = getattr(module, owner) if owner else module
    inner, calls = getattr(holder, name), itertools.count(1)

    @functools.wraps(inner)
    def outer(*args, **kwargs):
        if next(calls) == at:
            raise_fault(place)
        if delay:
            time.sleep(delay)
            count()
        return inner(*args, **kwargs)

    setattr(holder, name, outer)


class Patcher(importlib.abc.MetaPathFinder):
    """Finds the modules of the places as everybody does, and patches them once they have run."""

    def __init__(self, places: dict[str, tuple[int, float]]) -> None:
        self._places = places

    def find_spec(self, name, path=None, target=None):
        mine = [place for place in self._places if PLACES[place][0] == name]
        if not mine:
            return None
        finders = [each for each in sys.meta_path if each is not self]
        spec = next(filter(None, (each.find_spec(name, path, target) for each in finders)), None)
        run = spec.loader.exec_module

        def run_and_patch(module):
            run(module)
            for place in mine:
                patch(module, place, *self._places[place])

        spec.loader.exec_module = run_and_patch
        return spec


delay = float(os.environ.get("HPCSEG_TEST_SLOW", "0"))
wanted = {place: (at, 0.0) for place, at in faults().items()}
if delay:
    wanted |= {place: (wanted.get(place, (0, 0.0))[0], delay) for place in ("kernel", "step")}
if wanted:
    sys.meta_path.insert(0, Patcher(wanted))
