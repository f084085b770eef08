"""The search for peaks over maps: each is found once, wherever tiles lie, as in the whole map at once."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg import store
from hpcseg.environment import stop_requested
from hpcseg.georeference import Georeference
from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.mpi import Pulse
from hpcseg.objects.peaks import HeatMap, find_all
from hpcseg.tiles import Grid, Window


@pytest.fixture
def write(tmp_path, alone):
    """write(name, planes) makes a map of heat and gives what it says of itself."""

    def make(name, planes):
        layout = store.Layout(Grid(*planes.shape[1:], 64, 0), 64, store.heat_planes(len(planes)))
        store.create(tmp_path / name, layout, {"core": 64, "halo": 0}, {}, Georeference())
        file = store.Prediction(tmp_path / name, layout, alone)
        for tile in range(layout.grid.size):
            file.write(tile, list(planes[(slice(None), *layout.grid.core_window(tile).slices)]))
        file.close()
        return store.read(tmp_path / name)

    return make


@pytest.fixture
def search(alone):
    """search(maps, tile, threads) gives the peaks of each."""

    def run(maps, tile=50, threads=1):
        with Pulse(alone, 60.0, stop_requested) as pulse:
            return find_all(alone, pulse, maps, threads, tile)

    return run


def whole(planes, steps, level):
    """The same from all of a map: (row, col, kind, score), sorted."""
    every = [find_peaks(plane, Window(0, 0, *plane.shape), steps, level).tolist() for plane in planes]
    return sorted((row, col, k, score) for k, found in enumerate(every) for row, col, score in found)


@pytest.mark.parametrize("tile", [32, 50, 1024])
def test_points_on_tile_corners_and_edges_are_each_found_once(write, search, tile):
    planes = np.zeros((1, 200, 230), np.uint8)
    at = [(r, c) for r in (0, 31, 64, 99, 127, 160, 199) for c in (0, 32, 63, 100, 128, 149, 191, 229)]
    planes[(0, *np.transpose(at))] = 200
    # An object as large as the distance, of one score, whose middle is the corner of four tiles.
    planes[0, 49:51, 49:51] = 90
    points = search([HeatMap(write("a.h5", planes), neighbours(3.0), 127)], tile)[0].points
    assert [tuple(point) for point in points[:, :2]] == at
    points = search([HeatMap(write("b.h5", planes), neighbours(3.0), 80)], tile)[0].points
    assert [tuple(point) for point in points[:, :2]] == sorted([*at, (49, 49)])


@pytest.mark.parametrize(("tile", "threads"), [(24, 1), (64, 2), (1024, 1)])
def test_maps_in_tiles_have_the_peaks_of_whole_maps(write, search, tile, threads):
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 255, (2, 130, 90), np.uint8), rng.integers(0, 20, (2, 40, 200), np.uint8)
    first[:, 20:60, 30:40] = 255
    steps = neighbours(4.5)
    found = search([HeatMap(write("a.h5", first), steps, 100), HeatMap(write("b.h5", second), steps, 15)], tile, threads)
    for planes, level, each in zip((first, second), (100, 15), found, strict=True):
        assert [tuple(point) for point in each.points] == whole(planes, steps, level)
        scores = np.zeros((2, 255), np.int64)
        np.add.at(scores, tuple(np.array([(k, score) for _, _, k, score in whole(planes, steps, 13)]).T), 1)
        np.testing.assert_array_equal(each.scores, scores)


@pytest.mark.parametrize("tile", [32, 1024])
@pytest.mark.parametrize("cell", [1.0, 7.3, 40.0, 500.0])
def test_cells_with_data_are_those_of_the_whole_map(write, search, tile, cell):
    planes = np.full((1, 100, 130), 255, np.uint8)
    planes[0, 30:47, 60:100] = 0
    seen = search([HeatMap(write("a.h5", planes), neighbours(2.0), 100, cell)], tile)[0].seen
    rows, cols = (np.floor((np.nonzero(planes[0] != 255)[axis] + 0.5) / cell).astype(int) for axis in (0, 1))
    wanted = np.zeros_like(seen)
    wanted[rows, cols] = True
    np.testing.assert_array_equal(seen, wanted)
    assert seen.shape == tuple(int(np.floor((size - 0.5) / cell)) + 1 for size in (100, 130))


def test_a_map_that_cannot_be_read_is_named(write, search):
    stored = write("a.h5", np.zeros((1, 40, 40), np.uint8))
    stored.path.unlink()
    with pytest.raises(Exception, match=r"a\.h5"):
        search([HeatMap(stored, neighbours(2.0), 100)])
