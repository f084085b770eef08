"""The feed: whole batches in order, with the pixels and labels that plain NumPy gives, and threads that end."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from osgeo import gdal

from hpcseg.errors import ReadError
from hpcseg.training import feed as module
from hpcseg.training.feed import Batch, Feed, Shelf, changes, moved
from hpcseg.training.samples import share_of
from hpcseg.training.settings import Settings
from training.field import settings_of, shelf_of, write_raster

STEPS = [(0, [3, 1, 4]), (0, [1]), (1, [5, 9, 2, 6]), (1, [])]


@pytest.fixture(scope="module")
def plain(field, tmp_path_factory) -> Settings:
    return settings_of(field, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def shelf(plain) -> Shelf:
    return shelf_of(plain)


def batches(shelf: Shelf, settings: Settings, steps=STEPS) -> list[Batch]:
    return list(Feed(shelf, settings, ((epoch, np.array(numbers, int)) for epoch, numbers in steps)))


def read_plainly(shelf: Shelf, settings: Settings, epoch: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """A sample by GDAL and NumPy: pixels float32 (edge, edge, bands), labels u8 (edge, edge)."""
    rng = np.random.default_rng([settings.seed, epoch, sample, 1])
    window = moved(shelf.samples, sample, settings, rng)
    turn, flip, gain = changes(settings, 3, rng)
    area = (window.col, window.row, window.width, window.height)
    x = gdal.Open(settings.scenes[0]).ReadAsArray(*area).transpose(1, 2, 0).astype(np.float32)
    y = gdal.Open(settings.labels.files[0]).ReadAsArray(*area)
    seen = x.any(-1)
    x, y = np.where(seen[..., None], x * gain[0] + gain[1], x), np.where(seen, y, 255)
    x, y = np.rot90(x, turn), np.rot90(y, turn)
    return (x[:, ::-1], y[:, ::-1]) if flip else (x, y)


def test_batches_come_in_the_order_asked_for_with_as_many_samples(shelf, plain):
    assert [tuple(batch.x.shape) for batch in batches(shelf, plain)] == [(n, 3, 32, 32) for n in (3, 1, 4, 0)]


def test_pixels_and_labels_are_those_of_the_files_moved_brightened_turned_and_mirrored(shelf, plain):
    for (epoch, numbers), batch in zip(STEPS, batches(shelf, plain), strict=True):
        for slot, sample in enumerate(numbers):
            x, y = read_plainly(shelf, plain, epoch, sample)
            np.testing.assert_allclose(batch.x[slot].permute(1, 2, 0).numpy(), x, rtol=1e-6)
            np.testing.assert_array_equal(batch.y[slot].numpy(), y)


def test_without_changes_pixels_are_the_files_own(shelf, plain, field, tmp_path):
    still = settings_of(field, tmp_path, flips=False, rotations=False, shift=False, brightness=0.0)
    (batch,) = batches(shelf, still, [(0, [7])])
    window = shelf.samples.grids[0].core_window(int(shelf.samples.tile[7]))
    pixels = gdal.Open(still.scenes[0]).ReadAsArray(window.col, window.row, 32, 32)
    np.testing.assert_array_equal(batch.x[0].numpy(), pixels)


def test_no_data_is_not_labelled(shelf, plain):
    numbers = range(len(shelf.samples.part))
    for batch in batches(shelf, plain, [(0, numbers)]):
        dark = (batch.x == 0).all(1)
        assert dark.any()
        assert (batch.y[dark] == 255).all()


def test_labelled_pixels_are_counted(shelf, plain):
    for batch in batches(shelf, plain):
        assert batch.labelled == int((batch.y != 255).sum())


def test_a_sample_is_changed_anew_in_each_epoch_and_by_each_seed(shelf, plain, field, tmp_path):
    first, second = batches(shelf, plain, [(0, [3]), (1, [3])])
    (other,) = batches(shelf, settings_of(field, tmp_path, seed=5), [(0, [3])])
    assert not torch.equal(first.x, second.x)
    assert not torch.equal(first.x, other.x)


def test_any_number_of_threads_gives_the_same_bits(shelf, plain, field, tmp_path):
    steps = [(epoch, range(k, k + 5)) for epoch in range(2) for k in range(0, 30, 5)]
    one = batches(shelf, plain, steps)
    three = batches(shelf, settings_of(field, tmp_path, readers=3), steps)
    assert len(one) == len(three) == len(steps)
    for a, b in zip(one, three, strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_batches_of_all_ranks_are_those_of_one(shelf, plain, size):
    steps = [(0, np.arange(k, min(k + 7, 30))) for k in range(0, 30, 7)]
    whole = batches(shelf, plain, steps)
    shares = [batches(shelf, plain, [(0, share_of(numbers, rank, size)) for _, numbers in steps]) for rank in range(size)]
    for k, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[k].x for share in shares]), batch.x)
        assert torch.equal(torch.cat([share[k].y for share in shares]), batch.y)


def test_a_rank_without_samples_gets_empty_batches(shelf, plain):
    found = batches(shelf, plain, [(0, []), (0, []), (1, [2]), (1, [])])
    assert [len(batch.y) for batch in found] == [0, 0, 1, 0]


def test_no_steps_are_no_batches(shelf, plain):
    assert batches(shelf, plain, []) == []


@pytest.mark.parametrize("numbers", [[1, 2], []])
def test_steps_are_asked_for_only_a_little_ahead(shelf, plain, numbers):
    asked = []

    def steps():
        for k in range(50):
            asked.append(k)
            yield 0, np.array(numbers, int)

    with closing(iter(Feed(shelf, plain, steps()))) as feed:
        next(feed)
        time.sleep(0.3)
        assert len(asked) <= 5
        assert len([next(feed) for _ in range(20)]) == 20
        assert len(asked) <= 26


def threads_of_feeds() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed ")]


def test_closing_early_ends_the_threads(shelf, field, tmp_path):
    settings = settings_of(field, tmp_path, readers=3)
    with closing(iter(Feed(shelf, settings, ((0, np.arange(8)) for _ in range(100))))) as feed:
        next(feed)
        assert threads_of_feeds()
    assert not threads_of_feeds()


def test_the_end_ends_the_threads(shelf, plain):
    batches(shelf, plain)
    assert not threads_of_feeds()


@pytest.mark.parametrize("readers", [1, 3])
def test_what_a_thread_raises_comes_out_where_batches_are_taken(shelf, field, tmp_path, readers, monkeypatch):
    def refuse(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(module, "place", refuse)
    with pytest.raises(MemoryError, match="no room"):
        batches(shelf, settings_of(field, tmp_path, readers=readers))
    assert not threads_of_feeds()


def test_what_asking_for_steps_raises_comes_out_too(shelf, plain):
    def steps():
        yield 0, np.array([1])
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(Feed(shelf, plain, steps()))


def test_a_block_that_cannot_be_read_is_named_with_its_file_and_window(field, tmp_path):
    broken = Path(tmp_path / "field.tif")
    truth = gdal.Open(str(field / "field_labels.tif")).ReadAsArray()
    write_raster(broken, np.stack([truth] * 3))
    settings = settings_of(field, tmp_path, scenes=[str(broken)])
    shelf = shelf_of(settings)
    with broken.open("r+b") as file:
        file.truncate(broken.stat().st_size // 3)
    with pytest.raises(ReadError, match=r"field\.tif, rows \d+:\d+, cols \d+:\d+: .*training stops: leave this scene out, or repair it"):
        batches(shelf, settings, [(0, range(len(shelf.samples.part)))])


def test_time_spent_waiting_is_measured(shelf, plain, monkeypatch):
    slow = module.read_sample

    def wait(*arguments):
        time.sleep(0.05)
        return slow(*arguments)

    monkeypatch.setattr(module, "read_sample", wait)
    feed = Feed(shelf, plain, iter([(0, np.arange(4))]))
    list(feed)
    assert 0.2 <= feed.seconds < 2
