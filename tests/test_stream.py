"""The stream: every tile once, whatever the threads, and an end whatever happens."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from hpcseg.errors import ReadError
from hpcseg.raster import CellCache, SceneReader, Values, describe
from hpcseg.stream import Buffer, ReduceEngine, Source, Stream, TileError
from hpcseg.tiles import Grid

HALO, CORE = 4, 32


class Total:
    """A reducer: the sum and number of valid values."""

    def __init__(self):
        self.sum = self.count = 0

    def add(self, values, valid):
        self.sum += int(values[valid == 1].sum(dtype=np.float64))
        self.count += int(valid.sum())

    def merge(self, other):
        both = Total()
        both.sum, both.count = self.sum + other.sum, self.count + other.count
        return both


class Mapper:
    """An engine that writes the tile's mean into its plane, and whatever `act` does."""

    def __init__(self, threads=1, act=lambda item: None, depth=1):
        self.threads, self.depth, self.act, self.made = threads, depth, act, 0

    def make_buffer(self):
        self.made += 1
        edge = CORE + 2 * HALO
        return Buffer(np.zeros((edge, edge), np.float32), np.zeros((edge, edge), np.uint8), [np.zeros((CORE, CORE), np.uint8)])

    def work(self, items, done):
        for item in items:
            self.act(item)
            item.buffer.planes[0][...] = item.buffer.values.mean()
            done(item)


@pytest.fixture(scope="module")
def source_of(make_scene, tmp_path_factory):
    """source_of() gives two scenes, 4x5 and 3x3 tiles; the first has no data in its upper 32 rows."""
    folder = tmp_path_factory.mktemp("stream")
    pixels = np.random.default_rng(0).integers(1, 200, (1, 120, 150))
    pixels[:, :32] = 0
    paths = [make_scene(folder / "a.tif", 120, 150, 1, pixels=pixels, nodata=0), make_scene(folder / "b.tif", 96, 90, 1, nodata=0)]

    def make():
        scenes = [describe(str(path), path.stem) for path in paths]
        grids = [Grid(scene.height, scene.width, CORE, HALO) for scene in scenes]
        return Source(scenes, grids, [Values((1.0,), (0.0,))] * 2, CellCache(1 << 24))

    return make


TASKS = [(0, k) for k in range(20)] + [(1, k) for k in range(9)]


@pytest.fixture(autouse=True)
def _all_threads_end():
    """After each test no thread that it started is left."""
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + 3
    while left := [thread.name for thread in threading.enumerate() if thread not in before]:
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.02)


def collect(stream):
    return sorted((item.scene, item.tile, item.state, item.reason, int(item.buffer.planes[0][0, 0])) for item in stream)


@pytest.mark.parametrize(("readers", "threads"), [(1, 1), (1, 4), (4, 1), (3, 3)])
def test_every_tile_comes_once_whatever_the_threads(source_of, readers, threads):
    one = collect(Stream(source_of(), TASKS, Mapper()))
    assert [(scene, tile) for scene, tile, *_ in one] == TASKS
    several = collect(Stream(source_of(), TASKS, Mapper(threads), readers))
    assert [each for each in several if each[2] == "ready"] == [each for each in one if each[2] == "ready"]
    assert [each[:4] for each in several] == [each[:4] for each in one]


def test_a_tile_without_valid_pixels_in_its_core_is_empty(source_of):
    states = {(scene, tile): state for scene, tile, state, *_ in collect(Stream(source_of(), TASKS, Mapper()))}
    assert [tile for (scene, tile), state in states.items() if state == "empty"] == list(range(5))


def test_no_tasks_are_no_items(source_of):
    assert collect(Stream(source_of(), [], Mapper(3), readers=2)) == []


def test_memory_is_a_few_buffers(source_of):
    engine = Mapper(threads=2)
    collect(Stream(source_of(), TASKS, engine, readers=2))
    assert engine.made == 2 * 1 + 2 + 2


def test_an_engine_that_holds_several_items_gets_enough_buffers(source_of):
    class Batches(Mapper):
        def work(self, items, done):
            held = []
            for item in items:
                held.append(item)
                if len(held) == self.depth:
                    for each in held:
                        done(each)
                    held = []
            for each in held:
                done(each)

    assert len(list(Stream(source_of(), TASKS, Batches(depth=6)))) == len(TASKS)


@pytest.mark.parametrize(("readers", "threads"), [(1, 1), (3, 3)])
def test_an_engine_that_raises_names_scene_and_window(source_of, readers, threads):
    def act(item):
        if (item.scene, item.tile) == (1, 4):
            raise ValueError("no such operator")

    with pytest.raises(TileError, match=r"b\.tif, rows 32:64, cols 32:64: ValueError: no such operator") as caught:
        collect(Stream(source_of(), TASKS, Mapper(threads, act), readers))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_reader_that_raises_names_scene_and_window(source_of, monkeypatch):
    def read(self, window, *rest):
        raise MemoryError("no room")

    monkeypatch.setattr(SceneReader, "read", read)
    with pytest.raises(TileError, match=r"a\.tif, rows 0:32, cols 0:32: MemoryError: no room"):
        collect(Stream(source_of(), TASKS, Mapper(2), readers=2))


def test_a_block_that_cannot_be_read_fails_its_tiles_alone(source_of, monkeypatch):
    read = SceneReader.read

    def broken(self, window, *rest):
        if window.row < 40 and "b.tif" in self.scene.path:
            raise ReadError("block 1 is gone")
        return read(self, window, *rest)

    monkeypatch.setattr(SceneReader, "read", broken)
    items = collect(Stream(source_of(), TASKS, Mapper(2), readers=2))
    failed = [(scene, tile, reason) for scene, tile, state, reason, _ in items if state == "failed"]
    assert failed == [(1, tile, "block 1 is gone") for tile in range(6)]
    assert len(items) == len(TASKS)


def test_a_stop_lets_the_tiles_in_hand_finish_and_takes_no_more(source_of):
    stop, seen = threading.Event(), []
    for item in Stream(source_of(), TASKS, Mapper(2), stop=stop):
        seen.append((item.scene, item.tile))
        stop.set()
    # Five buffers, and one task that the reader took while it waited for one.
    assert 1 <= len(seen) <= 6
    assert len(set(seen)) == len(seen)


def test_a_stop_before_the_start_does_nothing(source_of):
    stop = threading.Event()
    stop.set()
    assert collect(Stream(source_of(), TASKS, Mapper(2), stop=stop)) == []


def test_a_consumer_that_gives_up_leaves_no_thread_behind(source_of):
    stream = iter(Stream(source_of(), TASKS, Mapper(2), readers=2))
    next(stream)
    stream.close()


def test_busy_seconds_of_each_stage_are_told(source_of):
    stream = Stream(source_of(), TASKS, Mapper(1, act=lambda item: time.sleep(0.002)))
    for _ in stream:
        time.sleep(0.001)
    seconds = stream.seconds
    assert seconds.forward >= 24 * 0.002
    assert seconds.write >= 29 * 0.001
    assert min(seconds.read, seconds.wait) > 0
    assert 0 < seconds.first < seconds.forward
    assert seconds.wall >= seconds.write


@pytest.mark.parametrize(("readers", "threads"), [(1, 1), (2, 3)])
def test_a_reduce_takes_each_core_once(source_of, readers, threads):
    source = source_of()
    engine = ReduceEngine(lambda scene: Total(), source.grids, 1, threads)
    assert len(list(Stream(source, TASKS, engine, readers))) == len(TASKS)
    for scene, total in engine.results().items():
        reader, s = SceneReader(source.scenes[scene], Values((1.0,), (0.0,)), CellCache(1 << 24)), source.scenes[scene]
        out, valid = np.zeros((s.height, s.width), np.float32), np.zeros((s.height, s.width), np.uint8)
        reader.read(source.grids[scene].extent, 0, out, valid)
        assert (total.sum, total.count) == (int(out.sum(dtype=np.float64)), int(valid.sum()))
