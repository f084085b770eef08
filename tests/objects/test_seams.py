"""Components of tiles become those of the whole image, whatever the tiles, their order and who merges them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.kernels.components import Place, label_window, make_space
from hpcseg.objects.seams import Seams, seam_lines
from hpcseg.tiles import Grid

NONE = np.empty((0, 0), np.uint8)
EVERY = np.arange(256) < 255
SPACE = make_space(64)


def labelled(labels, reach, origin=(0, 0), lines=(-1, -1, -1, -1)):
    labels, place = np.ascontiguousarray(labels), Place(*origin, *labels.shape, lines)
    ground = np.tile(np.arange(labels.shape[1] + 1), (2, 1))
    inner, border, runs = label_window(labels, NONE, EVERY, reach, ground, place, SPACE)
    return SPACE.components[:inner].copy(), SPACE.border[:border].copy(), SPACE.seams[:runs].copy()


def whole(labels, reach):
    return labelled(labels, reach)[0]


def by_tiles(labels, reach, core, holders, settle):
    """The components by tiles. holders: for each tile which of several accumulators takes it, in any order; they merge at the end.

    settle: whether accumulators let go of what is finished after each tile.
    """
    grid = Grid(*labels.shape, core, 0)
    parts = {holder: Seams.start(grid, reach) for _, holder in holders}
    done = []
    for tile, holder in holders:
        core_window = grid.core_window(tile)
        inner, *rest = labelled(labels[core_window.slices], reach, core_window[:2], seam_lines(grid, tile))
        done.append(inner)
        parts[holder].add(tile, *rest)
        if settle:
            done.append(parts[holder].settle())
    total, *others = parts.values()
    for other in others:
        total = total.merge(other)
    done.append(total.settle())
    assert len(total.components) == len(total.runs) == 0, "all tiles were seen, yet something waits"
    return np.sort(np.concatenate(done), order=("top", "first"))


@st.composite
def cases(draw):
    """An image, the edge of its tiles, and who takes which tile when."""
    height, width, core = draw(st.integers(1, 30)), draw(st.integers(1, 30)), draw(st.integers(2, 12))
    seed, kinds = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 3))
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, kinds, 3 * 7 + height * width), [255] * 9)
    labels = rng.choice(labels, (height, width)).astype(np.uint8)
    labels[rng.random(labels.shape) < draw(st.sampled_from([0.0, 0.1, 0.4, 0.6]))] = 255
    tiles = rng.permutation(Grid(height, width, core, 0).size)
    return labels, core, [(int(tile), int(rng.integers(0, 4))) for tile in tiles]


@given(cases(), st.integers(0, 1), st.booleans())
def test_any_split_and_order_of_tiles_gives_the_components_of_the_whole(case, reach, settle):
    labels, core, holders = case
    np.testing.assert_array_equal(by_tiles(labels, reach, core, holders, settle), whole(labels, reach))


def serpent(edge):
    """One object of 1 pixel's width through every tile, again and again."""
    out = np.full((edge, edge), 255, np.uint8)
    out[::2] = 1
    out[1::4, -1] = out[3::4, 0] = 1
    return out


SHAPES = {
    "serpent": serpent(61),
    "checkerboard": np.where(np.indices((33, 47)).sum(0) % 2, 1, 255).astype(np.uint8),
    "two checkerboards": (np.indices((33, 47)).sum(0) % 2).astype(np.uint8),
    "comb": np.where((np.indices((40, 40))[1] % 2 == 0) | (np.indices((40, 40))[0] == 39), 1, 255).astype(np.uint8),
    "diagonal": np.where(np.eye(50, dtype=bool), 1, 255).astype(np.uint8),
    "other diagonal": np.where(np.eye(50, dtype=bool)[::-1], 1, 255).astype(np.uint8),
}
# By reach.
COUNTS = {
    "serpent": (1, 1), "checkerboard": (775, 1), "two checkerboards": (1551, 2), "comb": (1, 1), "diagonal": (50, 1),
    "other diagonal": (50, 1),
}  # fmt: skip


@pytest.mark.parametrize("reach", [0, 1])
@pytest.mark.parametrize("core", [2, 5, 50])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_cross_every_tile(name, core, reach):
    labels = SHAPES[name]
    tiles = range(Grid(*labels.shape, core, 0).size)
    found = by_tiles(labels, reach, core, [(tile, tile % 3) for tile in tiles], settle=False)
    np.testing.assert_array_equal(found, whole(labels, reach))
    assert len(found) == COUNTS[name][reach]


def test_what_was_merged_earlier_need_not_wait():
    """Tiles row by row: an accumulator holds what touches the frontier alone, not all that ever touched a border."""
    labels = np.random.default_rng(0).choice(np.array([1, 255], np.uint8), (512, 64), p=(0.3, 0.7))
    grid, held, touching = Grid(512, 64, 32, 0), 0, 0
    seams = Seams.start(grid, 0)
    for tile in range(grid.size):
        window = grid.core_window(tile)
        _, border, runs = labelled(labels[window.slices], 0, window[:2], seam_lines(grid, tile))
        seams.add(tile, border, runs)
        touching += len(border)
        seams.settle()
        held = max(held, len(seams.components))
    assert held < touching / 10
