"""Rectangles of cells: each cell in one of its own network's, none over a cell of another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpcseg.gallery.cells import NO_NETWORK, rectangles
from hpcseg.tiles import Window

_ = NO_NETWORK


@given(arrays(np.int16, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(NO_NETWORK, 2)))
def test_each_cell_is_covered_once_by_its_own_network(networks):
    covered = np.zeros(networks.shape, int)
    for number, place in rectangles(networks):
        inside = networks[place.slices]
        assert set(np.unique(inside)) <= {number, NO_NETWORK}
        covered[place.slices] += inside == number
    np.testing.assert_array_equal(covered, networks != NO_NETWORK)


@pytest.mark.parametrize(
    ("networks", "wanted"),
    [
        ([[1, 1], [1, 1]], [(1, Window(0, 0, 2, 2))]),
        ([[1, _], [_, 1]], [(1, Window(0, 0, 2, 2))]),
        ([[_, 1], [_, 1]], [(1, Window(0, 1, 2, 1))]),
        ([[0, 1], [1, 0]], [(0, Window(0, 0, 1, 1)), (0, Window(1, 1, 1, 1)), (1, Window(0, 1, 1, 1)), (1, Window(1, 0, 1, 1))]),
        ([[0, 0], [0, 2]], [(0, Window(0, 0, 1, 2)), (0, Window(1, 0, 1, 1)), (2, Window(1, 1, 1, 1))]),
        ([[_, _]], []),
    ],
    ids=["one", "gaps", "bounding box", "board", "corner", "nothing"],
)
def test_the_largest_goes_first_and_may_reach_over_cells_without_data(networks, wanted):
    assert rectangles(np.array(networks)) == wanted
