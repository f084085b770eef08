"""Windows, the tile grid and the order of tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.errors import UsageError
from hpcseg.tiles import Grid, Window, hilbert_order, row_order

windows = st.builds(Window, st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 60), st.integers(0, 60))
grids = st.builds(Grid, st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 30))


def pixels(window):
    """The window as a set of pixels."""
    return {(row, col) for row in range(window.row, window.stop[0]) for col in range(window.col, window.stop[1])}


@given(windows, windows)
def test_an_intersection_holds_the_common_pixels(a, b):
    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)


@given(windows, windows)
def test_relative_windows_keep_their_size_and_distance(a, origin):
    relative = a.relative_to(origin)
    assert relative[2:] == a[2:]
    assert (relative.row + origin.row, relative.col + origin.col) == (a.row, a.col)


def test_a_window_grows_on_each_side():
    assert Window(3, 5, 10, 20).grow(4) == Window(-1, 1, 18, 28)


def test_slices_pick_the_window_from_an_array():
    array = np.arange(60).reshape(6, 10)
    np.testing.assert_array_equal(array[Window(2, 3, 3, 4).slices], array[2:5, 3:7])


def test_a_window_prints_as_rows_and_columns():
    assert str(Window(2, 3, 4, 5)) == "rows 2:6, cols 3:8"


@given(grids)
def test_every_pixel_lies_in_exactly_one_core(grid):
    count = np.zeros((grid.height, grid.width), int)
    for tile in range(grid.size):
        count[grid.core_window(tile).slices] += 1
    assert (count == 1).all()


@given(grids)
def test_every_window_has_one_size_and_holds_its_core_and_halo(grid):
    for tile in range(grid.size):
        window, core = grid.window(tile), grid.core_window(tile)
        assert window[2:] == (grid.core + 2 * grid.halo,) * 2
        assert (window.row + grid.halo, window.col + grid.halo) == (core.row, core.col)


@given(grids)
def test_a_core_starts_at_a_multiple_of_its_size_and_is_not_empty(grid):
    for tile in range(grid.size):
        core = grid.core_window(tile)
        assert core.row % grid.core == core.col % grid.core == 0
        assert min(core.height, core.width) >= 1
        assert core == grid.full_core(tile).intersect(grid.extent)


@pytest.mark.parametrize("numbers", [(0, 5, 4, 1), (5, 0, 4, 1), (5, 5, 0, 1), (5, 5, 4, -1)])
def test_a_grid_without_tiles_is_refused(numbers):
    with pytest.raises(UsageError, match="has no tiles"):
        Grid(*numbers)


@given(st.integers(1, 40), st.integers(1, 40))
def test_both_orders_are_permutations(ny, nx):
    for order in (hilbert_order(ny, nx), row_order(ny, nx)):
        assert order.dtype == np.int64
        np.testing.assert_array_equal(np.sort(order), np.arange(ny * nx))


@pytest.mark.parametrize("k", range(7))
def test_a_hilbert_curve_on_a_square_goes_in_unit_steps(k):
    rows, cols = np.divmod(hilbert_order(2**k, 2**k), 2**k)
    assert (np.abs(np.diff(rows)) + np.abs(np.diff(cols)) == 1).all()


@given(st.integers(1, 33), st.integers(1, 33))
def test_a_hilbert_curve_on_any_grid_is_that_of_the_enclosing_square(ny, nx):
    side = 1 << max(ny - 1, nx - 1, 0).bit_length()
    rows, cols = np.divmod(hilbert_order(side, side), side)
    inside = (rows < ny) & (cols < nx)
    np.testing.assert_array_equal(hilbert_order(ny, nx), rows[inside] * nx + cols[inside])


def test_a_quarter_of_a_hilbert_curve_is_compact():
    quarter = hilbert_order(32, 32)[:256]
    rows, cols = np.divmod(quarter, 32)
    assert (np.ptp(rows), np.ptp(cols)) == (15, 15)


def test_row_order_goes_row_by_row():
    np.testing.assert_array_equal(row_order(2, 3), np.arange(6))
