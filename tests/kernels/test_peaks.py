"""Peaks of heat, against SciPy's maximum filter and by their rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from hpcseg.kernels.peaks import find_peaks, neighbours
from hpcseg.tiles import Grid, Window

DISTANCES = st.sampled_from([0.5, 1.0, 1.5, 2.3, 4.0])


def planes(least=1, most=24):
    """Heat with many equal values and some no data."""
    sizes = st.tuples(st.integers(least, most), st.integers(least, most))
    return sizes.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 12, 13, 14, 60, 60, 254, 255])))


def by_scipy(heat, steps, level):
    """The peaks in a plane: no higher pixel and no equal one before it under the footprint."""
    values = np.where(heat == 255, -1, heat.astype(int))
    reach = np.abs(steps).max(initial=0)
    around, before = (np.zeros((2 * reach + 1,) * 2, bool) for _ in range(2))
    for down, right in steps:
        around[reach + down, reach + right] = True
        before[reach + down, reach + right] = (down, right) < (0, 0)

    def highest(footprint):
        if not footprint.any():
            return np.full(values.shape, -2)
        return ndimage.maximum_filter(values, footprint=footprint, mode="constant", cval=-2)

    peak = (values >= level) & (values >= highest(around)) & (values > highest(before))
    return [(i, j, heat[i, j]) for i, j in zip(*np.nonzero(peak), strict=True)]


def found(heat, steps, level, core=None, find=find_peaks):
    return [tuple(each) for each in find(heat, core or Window(0, 0, *heat.shape), steps, level)]


@given(planes(), DISTANCES, st.sampled_from([1, 13, 60]))
def test_peaks_are_those_of_the_maximum_filter(heat, distance, level):
    steps = neighbours(distance)
    assert found(heat, steps, level) == by_scipy(heat, steps, level)


@given(planes(most=9), DISTANCES)
def test_the_kernel_does_the_same_jitted_and_not(heat, distance):
    steps = neighbours(distance)
    assert found(heat, steps, 13, find=find_peaks.py_func) == found(heat, steps, 13)


@given(planes(), DISTANCES, st.sampled_from([4, 7, 16]))
def test_cores_with_a_halo_share_the_peaks_out(heat, distance, core):
    steps = neighbours(distance)
    grid = Grid(*heat.shape, core, int(np.abs(steps).max(initial=0)))
    parts = []
    for tile in range(grid.size):
        window = grid.window(tile).intersect(grid.extent)
        inner = grid.core_window(tile).relative_to(window)
        parts += [(i + window.row, j + window.col, s) for i, j, s in found(heat[window.slices], steps, 13, inner)]
    assert sorted(parts) == found(heat, steps, 13)


@given(planes(), st.sampled_from([1.0, 2.3, 4.0]))
def test_peaks_are_further_apart_than_the_distance(heat, distance):
    points = np.array(found(heat, neighbours(distance), 1)).reshape(-1, 3)[:, :2]
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    assert (gaps[~np.eye(len(points), dtype=bool)] > distance).all()


def test_a_plateau_within_the_distance_is_one_peak():
    heat = np.zeros((9, 9), np.uint8)
    heat[3:6, 3:6] = 200
    assert found(heat, neighbours(5.0), 13) == [(3, 3, 200)]


def test_more_peaks_than_there_was_room_for_are_all_found():
    heat = np.zeros((100, 100), np.uint8)
    heat[::2, ::2] = 100
    assert len(found(heat, neighbours(1.0), 13)) == 2500


@pytest.mark.parametrize(("pixel", "wanted"), [((1, 1), 13 - 1), ((2, 1), 7 - 1), ((3, 3), 0), ((0.5, 0.5), 49 - 1)])
def test_the_distance_is_on_the_ground(pixel, wanted):
    steps = neighbours(2.0, pixel)
    lengths = np.hypot(steps[:, 0] * pixel[0], steps[:, 1] * pixel[1])
    assert (len(steps), list(lengths)) == (wanted, sorted(lengths))
