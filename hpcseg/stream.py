"""The stream: tiles of a rank's span flow from reader threads through an engine to the caller, in fixed buffers.

Everything hpcseg does to an archive is this stream with another engine: a network that labels (map), or an accumulator (reduce).
Memory is the number of buffers and the cells' cache, whatever the size of the scenes. All waits are short and look for a failure
of another thread, so that nothing hangs.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from hpcseg.errors import HpcsegError, ReadError
from hpcseg.raster import CellCache, Reader, Scene, Values, open_reader
from hpcseg.tiles import Grid, Window
from hpcseg.timeline import Timeline

T = TypeVar("T")
_POLL_SECONDS = 0.2
_JOIN_SECONDS = 5.0
_NICE = 5


class TileError(HpcsegError):
    """A tile whose processing failed: a fault of the program or the machine, not of the scene."""


@dataclass
class Buffer:
    """One window and its result. values: (H, W * bands) input. valid: u8 (H, W). planes: u8 (core, core) each. extra: the engine's.
    buckets: u8, one a cell of the core, (0, 0) without cells."""

    values: np.ndarray
    valid: np.ndarray
    planes: list[np.ndarray]
    extra: Any = None
    buckets: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.uint8))


@dataclass
class Item:
    """A tile on its way. state: "ready" has pixels, "empty" has none, "failed" could not be read, for `reason`."""

    scene: int
    tile: int
    buffer: Buffer
    state: Literal["ready", "empty", "failed"] = "ready"
    reason: str = ""


@dataclass
class Seconds:
    """Busy seconds of each stage, summed over its threads; wait: of engine threads without input. wall: of the whole stream.
    first: of forward, each engine thread's first window, which also touches the memory that all later ones find in place."""

    read: float = 0.0
    forward: float = 0.0
    first: float = 0.0
    write: float = 0.0
    wait: float = 0.0
    wall: float = 0.0


class Engine(Protocol):
    """What happens to a window. `threads` of them call `work`, which takes items until there are no more, each holding up to
    `depth` of them at once."""

    threads: int
    depth: int

    def make_buffer(self) -> Buffer:
        """A buffer of the engine's window size."""

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        """Process each item, then hand it to `done`, in any order."""


@dataclass(frozen=True)
class Source:
    """The scenes of a run as the readers need them, all lists by scene number. cache: shared by the reader threads.

    unreadable: (scene, tile) -> reason, of tiles that are known to fail and are not read. empty: tiles that are known to be. blind:
    nothing is read, for engines that have all they need elsewhere; what is not known to fail or to be empty is ready.
    """

    scenes: Sequence[Scene]
    grids: Sequence[Grid]
    values: Sequence[Values]
    cache: CellCache
    unreadable: Mapping[tuple[int, int], str] = field(default_factory=dict)
    empty: Set[tuple[int, int]] = frozenset()
    blind: bool = False
    _readers: dict[int, Reader] = field(default_factory=dict)

    def fill(self, item: Item) -> None:
        """Read an item's window into its buffer and set its state."""
        grid, buffer = self.grids[item.scene], item.buffer
        if (item.scene, item.tile) in self.unreadable:
            item.state, item.reason = "failed", self.unreadable[item.scene, item.tile]
        elif (item.scene, item.tile) in self.empty:
            item.state = "empty"
        if item.state != "ready" or self.blind:
            return
        reader = self._readers.get(item.scene)
        if reader is None:
            reader = self._readers[item.scene] = open_reader(self.scenes[item.scene], self.values[item.scene], self.cache)
        try:
            found = reader.read(grid.window(item.tile), grid.halo, buffer.values, buffer.valid)
        except ReadError as error:
            item.state, item.reason = "failed", str(error)
            return
        core = grid.core_window(item.tile)
        h = grid.halo
        # Row by row: the first mostly tells.
        if not found or not any(row.any() for row in buffer.valid[h : h + core.height, h : h + core.width]):
            item.state = "empty"


class Stream:
    """One pass over tiles. Iterating gives finished items; an item's buffer is used again once the next is asked for."""

    def __init__(
        self,
        source: Source,
        tasks: Sequence[tuple[int, int]],
        engine: Engine,
        readers: int = 1,
        stop: threading.Event | None = None,
    ) -> None:
        self.seconds, self.timeline = Seconds(), Timeline()
        self._source, self._engine = source, engine
        self._tasks, self._lock = iter(tasks), threading.Lock()
        self._stop = stop or threading.Event()
        self._broken = threading.Event()
        self._error: BaseException | None = None
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._count = min(len(tasks), engine.threads * engine.depth + readers + 2)
        workers = [(f"reader {k}", self._read) for k in range(readers)] + [
            (f"engine {k}", self._work) for k in range(engine.threads)
        ]
        self._threads = [threading.Thread(target=self._guard, args=(body,), name=name, daemon=True) for name, body in workers]
        self._reading = readers
        self._working = engine.threads

    def __iter__(self) -> Iterator[Item]:
        begin = time.perf_counter()
        for _ in range(self._count):
            self._free.put(self._engine.make_buffer())
        for thread in self._threads:
            thread.start()
        try:
            while (item := self._take(self._results)) is not None:
                start = time.perf_counter()
                yield item
                self._add(write=time.perf_counter() - start)
                self._free.put(item.buffer)
        except BaseException:
            self._broken.set()
            raise
        finally:
            for thread in self._threads:
                thread.join(timeout=_JOIN_SECONDS)
        self.seconds.wall += time.perf_counter() - begin

    def _guard(self, body: Callable[[], None]) -> None:
        """Run a thread; what it raises is raised again by the iteration."""
        try:
            body()
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._broken.set()

    def _take(self, source: queue.SimpleQueue[T]) -> T:
        """The next element; None marks the end of a queue. Raises what broke another thread."""
        while True:
            with suppress(queue.Empty):
                return source.get(timeout=_POLL_SECONDS)
            if self._broken.is_set():
                raise self._error or RuntimeError("the stream was stopped")

    def _next_task(self) -> tuple[int, int] | None:
        with self._lock:
            return None if self._stop.is_set() or self._broken.is_set() else next(self._tasks, None)

    def _read(self) -> None:
        while (task := self._next_task()) is not None:
            item = Item(*task, self._take(self._free))
            start = time.perf_counter()
            try:
                self._source.fill(item)
            except Exception as error:
                raise explain(self._source, item, error) from error
            self._add(read=time.perf_counter() - start)
            (self._ready if item.state == "ready" else self._results).put(item)
        with self._lock:
            self._reading -= 1
            last = self._reading == 0
        if last:
            self._ready.put(None)

    def _work(self) -> None:
        taken: list[Item] = []
        _yield_to_readers()
        try:
            self._engine.work(self._items(taken), self._results.put)
        except Exception as error:
            raise (explain(self._source, taken[-1], error) if taken else error) from error
        with self._lock:
            self._working -= 1
            last = self._working == 0
        if last:
            self._results.put(None)

    def _items(self, taken: list[Item]) -> Iterator[Item]:
        """The ready items for one engine thread, the latest kept in `taken`; until it asks for the next is its forward time."""
        while True:
            start = time.perf_counter()
            item = self._take(self._ready)
            begin = time.perf_counter()
            self._add(wait=begin - start)
            if item is None:
                self._ready.put(None)
                return
            first = not taken
            taken[:] = [item]
            yield item
            spent = time.perf_counter() - begin
            self._add(forward=spent)
            if first:
                with self._lock:
                    self.seconds.first += spent

    def _add(self, **seconds: float) -> None:
        with self._lock:
            for name, value in seconds.items():
                setattr(self.seconds, name, getattr(self.seconds, name) + value)
                self.timeline.add(name, value)


def _yield_to_readers() -> None:
    """Let the scheduler prefer readers and the writer to this thread: they have little to do, and engines wait for it."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICE)


def explain(source: Source, item: Item, error: BaseException) -> TileError:
    """An error with the scene and the window it came from."""
    where = f"{source.scenes[item.scene].sources}, {source.grids[item.scene].core_window(item.tile)}"
    return TileError(f"{where}: {type(error).__name__}: {error}")


class Reducer(Protocol):
    """An accumulator over windows, exact: `merge` of any split of the tiles, in any order, gives the same."""

    def add(self, values: np.ndarray, valid: np.ndarray) -> None:
        """Take in a core: values float32 (h, w, bands), valid u8 (h, w)."""

    def merge(self, other: Any) -> Any:
        """Both together."""


class ReduceEngine:
    """Each thread feeds its own accumulators, one per scene, made by `make(scene)`; `results` merges them. dtype: of the windows."""

    dtype: type[np.generic] = np.float32

    def __init__(self, make: Callable[[int], Any], grids: Sequence[Grid], bands: int, threads: int) -> None:
        self.threads, self.depth, self._make, self._grids, self._bands = threads, 1, make, grids, bands
        self._edge = max((g.core + 2 * g.halo for g in grids), default=1)
        self._parts: list[dict[int, Any]] = []

    def make_buffer(self) -> Buffer:
        return Buffer(
            np.empty((self._edge, self._edge * self._bands), self.dtype), np.empty((self._edge, self._edge), np.uint8), []
        )

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        mine: dict[int, Any] = {}
        for item in items:
            if item.scene not in mine:
                mine[item.scene] = self._make(item.scene)
            self.feed(mine[item.scene], item.buffer, *place_of(self._grids[item.scene], item.tile))
            done(item)
        self._parts.append(mine)

    def feed(self, total: Any, buffer: Buffer, core: Window, inside: Window) -> None:
        """Add a window to an accumulator. core, inside: its core and what of it lies in the scene."""
        total.add(buffer.values.reshape(self._edge, self._edge, self._bands)[core.slices], buffer.valid[core.slices])

    def results(self) -> dict[int, Any]:
        """The accumulators by scene, over all threads."""
        return merge_parts(self._parts)


def place_of(grid: Grid, tile: int) -> tuple[Window, Window]:
    """Within a tile's window: its core, and what of the window lies in the scene."""
    window = grid.window(tile)
    return grid.core_window(tile).relative_to(window), window.intersect(grid.extent).relative_to(window)


def merge_parts(parts: Sequence[Mapping[int, Reducer]]) -> dict[int, Reducer]:
    """Accumulators by scene, merged over several holders of some, such as threads."""
    total: dict[int, Reducer] = {}
    for part in parts:
        for scene, reducer in part.items():
            total[scene] = total[scene].merge(reducer) if scene in total else reducer
    return total
