"""What was used last stays at hand, and the rest is let go: bounded caches for threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from osgeo import gdal

T = TypeVar("T")
_WAIT_SECONDS = 3600.0


class Recent(Generic[T]):
    """Least recently used things up to a total weight of `capacity`. Threads that want the same one wait for the one that loads it.

    What is let go ends when its last user ends. loads, seconds: what loading took so far.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.weight, self.loads, self.seconds = capacity, 0, 0, 0.0
        self._entries: OrderedDict[Any, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def weigh(self, thing: T) -> int:
        """What a thing counts: 1."""
        return 1

    def get(self, key: Any, load: Callable[[], T]) -> T:
        """The thing of that key, loaded if need be. Whatever `load` raises reaches all who wait for it."""
        with self._lock:
            entry = self._entries.get(key)
            mine = entry is None
            if entry is None:
                entry = self._entries[key] = Future()
            self._entries.move_to_end(key)
        if mine:
            self._fill(key, entry, load)
        return entry.result(timeout=_WAIT_SECONDS)

    def _fill(self, key: Any, entry: Future[T], load: Callable[[], T]) -> None:
        start = time.perf_counter()
        try:
            thing = load()
        except BaseException as error:
            with self._lock:
                del self._entries[key]
            entry.set_exception(error)
            return
        entry.set_result(thing)
        with self._lock:
            self.loads += 1
            self.seconds += time.perf_counter() - start
            self.weight += self.weigh(thing)
            while self.weight > self.capacity and len(self._entries) > 1:
                oldest = next(iter(self._entries))
                if not self._entries[oldest].done():
                    break
                self.weight -= self.weigh(self._entries.pop(oldest).result())


class Datasets(threading.local):
    """The GDAL datasets that each thread used last, at most `capacity` a thread."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._open: OrderedDict[str, gdal.Dataset] = OrderedDict()

    def get(self, path: str) -> gdal.Dataset:
        """This thread's own dataset of a path. Raises RuntimeError with GDAL's reason."""
        if path not in self._open:
            self._open[path] = gdal.Open(path)
        self._open.move_to_end(path)
        if len(self._open) > self._capacity:
            self._open.popitem(last=False)
        return self._open[path]
