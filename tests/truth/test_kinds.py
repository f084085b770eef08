"""The same labels as a raster, a prediction file and polygons: the same classes in any window, few files open."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from truth.labelled import CLASSES, HEIGHT, WIDTH, cut, numbers, opened, read, write_patches, write_prediction

from hpcseg.config import LabelSpec
from hpcseg.errors import ReadError
from hpcseg.raster import CellCache
from hpcseg.tiles import Grid, Window
from hpcseg.truth import count_tile, open_truth

WINDOWS = st.tuples(st.integers(-150, 350), st.integers(-150, 500), st.integers(1, 180), st.integers(1, 180)).map(lambda w: Window(*w))


@pytest.fixture(scope="module")
def kinds(scene, make_scene, tmp_path_factory):
    """The same labels as a raster, a prediction file and polygons."""
    folder = tmp_path_factory.mktemp("kinds")
    pixels = numbers()
    paths = [make_scene(folder / "labels.tif", HEIGHT, WIDTH, 1, pixels=pixels[None], block=64, compress="DEFLATE")]
    paths += [write_prediction(folder / "labels.h5", pixels), write_patches(folder / "labels.gpkg", pixels)]
    return [opened(path, scene, LabelSpec(field="kind")) for path in paths]


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["raster", "prediction", "polygons"])
@given(window=WINDOWS)
def test_any_window_of_any_kind_is_a_cut_of_the_whole(kind, window, kinds):
    np.testing.assert_array_equal(read(kinds[kind], window), cut(numbers(), window))


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["raster", "prediction", "polygons"])
def test_threads_read_at_once(kind, kinds):
    windows = [Window(row, col, 90, 110) for row in range(-40, 300, 37) for col in range(-40, 420, 41)]
    with ThreadPoolExecutor(4) as pool:
        for window, found in zip(windows, pool.map(lambda w: read(kinds[kind], w), windows), strict=True):
            np.testing.assert_array_equal(found, cut(numbers(), window))


def files_open(folder):
    """How many files of a folder this process has open."""
    names = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    return sum(os.readlink(name).startswith(str(folder)) for name in names if os.path.islink(name))


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".gpkg"])
def test_of_many_truths_only_the_last_are_open(suffix, scene, make_labels, tmp_path, monkeypatch):
    monkeypatch.setattr("hpcseg.raster.cells._FILES", 2)
    monkeypatch.setattr("hpcseg.raster.cells._DATASETS", 3)
    write = {".tif": make_labels, ".h5": lambda p: write_prediction(tmp_path / "labels.h5", p),
             ".gpkg": lambda p: write_patches(tmp_path / "labels.gpkg", p)}[suffix]  # fmt: skip
    first = write(numbers())
    paths = [shutil.copy(first, tmp_path / f"{k}{suffix}") for k in range(6)]
    cache, spec = CellCache(1), LabelSpec(field="kind" if suffix == ".gpkg" else "")
    truths = [open_truth(path, scene, spec, CLASSES, cache) for path in paths]
    assert files_open(tmp_path) == 0
    for truth in truths * 2:
        np.testing.assert_array_equal(read(truth), numbers())
        assert files_open(tmp_path) <= 3
        assert cache.opened.weight <= 2
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(read, truths * 4):
            np.testing.assert_array_equal(found, numbers())
    os.remove(paths[0])
    with pytest.raises(ReadError, match=f"/0{suffix}"):
        read(truths[0])


def test_classes_are_counted_tile_by_tile(kinds):
    grid = Grid(HEIGHT, WIDTH, 128, 0)
    counts = np.stack([count_tile(kinds[0], grid.core_window(tile)) for tile in range(grid.size)])
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts.sum(0), np.bincount(numbers().ravel()))
    np.testing.assert_array_equal(count_tile(kinds[0], Window(-9, -9, 9, 9)), np.zeros(3))
