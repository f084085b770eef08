"""Truth and map counted together: blocks, pictures and merges fit without gaps or doubles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.tally import Tally, _sample, blocks_of, picture_step
from hpcseg.tiles import Grid


@given(height=st.integers(1, 90), width=st.integers(1, 90), core=st.integers(1, 40), edge=st.integers(0, 50))
def test_every_pixel_is_in_one_block_whatever_the_tiles(height, width, core, edge):
    grid = Grid(height, width, core, 0)
    owner = np.full((height, width), -1)
    for tile in range(grid.size):
        for number, window in blocks_of(grid, edge, grid.core_window(tile)):
            assert (owner[window.slices] == -1).all()
            owner[window.slices] = number
    rows, cols = np.indices((height, width))
    wanted = rows // edge * -(-width // edge) + cols // edge if edge else np.zeros((height, width))
    np.testing.assert_array_equal(owner, wanted)


@given(height=st.integers(1, 70), width=st.integers(1, 70), core=st.integers(1, 40), step=st.integers(1, 9))
def test_a_picture_is_every_few_pixels_of_the_scene_whatever_the_tiles(height, width, core, step):
    planes = np.random.default_rng(height).integers(0, 255, (3, height, width)).astype(np.uint8)
    grid = Grid(height, width, core, 0)
    parts = []
    for tile in range(grid.size):
        window = grid.core_window(tile)
        parts.append(np.full((3, -(-height // step), -(-width // step)), 255, np.uint8))
        buffer = np.full((3, core, core), 7, np.uint8)
        buffer[:, : window.height, : window.width] = planes[(slice(None), *window.slices)]
        _sample(parts[-1], window, buffer, step)
    np.testing.assert_array_equal(np.min(parts, axis=0), planes[:, ::step, ::step])


@pytest.mark.parametrize(("size", "step"), [((1, 1), 1), ((1200, 900), 1), ((1201, 5), 2), ((18000, 36000), 30)])
def test_a_picture_is_bounded(size, step):
    assert picture_step(*size) == step


def random_tally(seed):
    rng = np.random.default_rng(seed)
    blocks = {int(k): rng.integers(0, 99, (3, 4)) for k in rng.choice(9, 4, replace=False)}
    return Tally(3, blocks, rng.integers(0, 256, (3, 5, 6)).astype(np.uint8))


def same(one, other):
    assert one.blocks.keys() == other.blocks.keys()
    for k in one.blocks:
        np.testing.assert_array_equal(one.blocks[k], other.blocks[k])
    np.testing.assert_array_equal(one.picture, other.picture)


def test_merging_in_any_order_gives_the_same_and_changes_no_part():
    a, b, c = (random_tally(k) for k in range(3))
    total = sum(int(table.sum()) for part in (a, b, c) for table in part.blocks.values())
    first = a.merge(b).merge(c)
    for other in (c.merge(a.merge(b)), b.merge(c).merge(a)):
        same(first, other)
    assert sum(int(table.sum()) for table in first.blocks.values()) == total
    same(a, random_tally(0))
