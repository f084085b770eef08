"""The sample: decided by seed and scenes alone, cells that are valid enough, blocks held back whole."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from gallery.archive import CELL, options_of, write_archive

from hpcseg.gallery import sample as module
from hpcseg.gallery.archive import Archive, measure
from hpcseg.gallery.assign import open_archive
from hpcseg.gallery.embed import Encoder
from hpcseg.gallery.sample import Sample, draw_sample, hold_back
from hpcseg.models import load_model
from hpcseg.mpi import Pulse
from hpcseg.raster import describe, read_array


@pytest.fixture
def draw(alone, archive, encoder, tmp_path):
    """draw(wanted, seed, threads) gives a sample and what it was drawn from."""

    def make(wanted, seed=0, threads=1, scenes=archive):
        options = options_of(scenes, encoder, tmp_path, threads=threads)
        with Pulse(alone, 60.0, threading.Event()) as pulse:
            opened = open_archive(alone, options)
            found = measure(alone, pulse, opened.scenes, CELL, options)
            return draw_sample(alone, pulse, found, Encoder(load_model(str(encoder)), CELL), options, wanted, seed), found

    return make


def whole_cells(archive):
    """(scene, tile) of the cells at least half of which is valid, by NumPy."""
    found = set()
    for k, scene in enumerate(archive.scenes):
        valid = (read_array(scene.path, archive.grids(CELL)[k].extent) != 0).any(0)
        ny, nx = archive.grids(CELL)[k].shape
        for tile in range(ny * nx):
            row, col = divmod(tile, nx)
            if valid[row * CELL : (row + 1) * CELL, col * CELL : (col + 1) * CELL].sum() >= CELL**2 / 2:
                found.add((k, tile))
    return found


def test_all_cells_that_are_valid_enough_are_drawn_where_there_are_fewer_than_wanted(draw):
    sample, archive = draw(10_000)
    keys = list(zip(sample.scene.tolist(), sample.tile.tolist(), strict=True))
    assert len(keys) == len(set(keys))
    assert set(keys) == whole_cells(archive)
    assert sample.mine.tolist() == list(range(len(keys)))


def test_a_sample_takes_no_more_memory_than_it_may(draw, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 20 * 4 * 3 * CELL**2 + 1)
    sample, _ = draw(50)
    assert len(sample.tile) == 20
    assert sample.pixels.nbytes <= module._MOST_BYTES


def test_a_small_sample_is_the_first_of_a_large_one_of_its_seed(draw):
    large, small, other = draw(10_000)[0], draw(37, threads=3)[0], draw(37, seed=1)[0]
    assert len(small.tile) == 37
    np.testing.assert_array_equal(small.tile, large.tile[:37])
    np.testing.assert_array_equal(small.scene, large.scene[:37])
    np.testing.assert_array_equal(small.pixels, large.pixels[:37])
    assert not np.array_equal(small.tile, other.tile)


def test_pixels_are_normalised_by_the_scenes_percentiles_and_0_without_data(draw):
    sample, archive = draw(10_000)
    scene = archive.scenes[1]
    pixels = read_array(scene.path, archive.grids(CELL)[1].extent).astype(np.float64)
    valid = (pixels != 0).any(0)
    ordered = np.sort(pixels[:, valid], axis=1)
    low, high = (ordered[:, -(-ordered.shape[1] * p // 100) - 1][:, None, None] for p in (2, 98))
    wanted = np.where(valid, (pixels - low) / (high - low), 0)
    nx = archive.grids(CELL)[1].shape[1]
    partly = 0
    for k in np.flatnonzero(sample.scene == 1):
        row, col = (CELL * each for each in divmod(int(sample.tile[k]), nx))
        part = wanted[:, row : row + CELL, col : col + CELL]
        np.testing.assert_allclose(sample.pixels[k][:, : part.shape[1], : part.shape[2]], part, atol=1e-5)
        partly += (part == 0).any()
    assert partly


def fake_sample(archive, count=400):
    rng = np.random.default_rng(0)
    scene = rng.integers(0, len(archive.scenes), count)
    sizes = np.array([grid.size for grid in archive.grids(CELL)])
    return Sample(scene, rng.integers(0, sizes[scene]), np.arange(0), np.empty(0))


@pytest.fixture
def many(make_scene, tmp_path):
    folder = write_archive(tmp_path, make_scene, 1)
    scene = describe(str(folder / "scene_0.tif"), "scene_0")
    return lambda count: Archive([scene] * count, [], CELL)


def test_blocks_of_cells_are_held_back_whole_and_hold_about_their_share(many):
    archive = many(4)
    sample = fake_sample(archive)
    held = hold_back(sample, archive, 0.2, 0)
    across = archive.grids(CELL)[0].shape[1]
    blocks = [*zip(sample.scene, sample.tile // across // 4, sample.tile % across // 4, strict=True)]
    assert not {b for b, h in zip(blocks, held, strict=True) if h} & {b for b, h in zip(blocks, held, strict=True) if not h}
    assert 0.1 < held.mean() < 0.35
    assert not np.array_equal(held, hold_back(sample, archive, 0.2, 1))


def test_of_many_scenes_whole_ones_are_held_back(many):
    archive = many(20)
    sample = fake_sample(archive)
    held = hold_back(sample, archive, 0.2, 0)
    assert 0.1 < held.mean() < 0.35
    assert not set(sample.scene[held]) & set(sample.scene[~held])


def test_no_share_and_a_single_block_hold_nothing_back(many):
    archive = many(1)
    assert not hold_back(fake_sample(archive), archive, 0.0, 0).any()
    one = Sample(np.zeros(3, int), np.array([0, 1, 10]), np.arange(0), np.empty(0))
    assert not hold_back(one, archive, 0.5, 0).any()
