"""Samples: dealt out by block, ordered by epoch, shared out over ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.errors import UsageError
from hpcseg.tiles import Grid
from hpcseg.training.feed import moved
from hpcseg.training.samples import PARTS, Samples, Shares, class_weights, deal, epoch_order, share_of
from training.field import settings_of

NAMES = ["a", "b", "c"]


def tables(grids: list[Grid], seed: int = 0, empty: float = 0.2) -> list[np.ndarray]:
    """Labelled pixels of each tile, int64 (tiles, 2); a share of the tiles has none."""
    rng = np.random.default_rng(seed)
    found = [rng.integers(1, 100, (grid.size, 2)) for grid in grids]
    return [counts * (rng.random((len(counts), 1)) > empty) for counts in found]


def dealt(edge: int = 64, seed: int = 0, fixed: dict[str, str] | None = None, shares: tuple[float, float] = (0.2, 0.2)) -> Samples:
    grids = [Grid(300, 410, 32, 0), Grid(256, 200, 32, 0), Grid(90, 700, 32, 0)]
    return deal(NAMES, grids, tables(grids, seed), Shares(edge, *shares, seed, fixed or {}))


def test_some_of_the_samples_keep_their_part_and_stay_in_their_cell(field, tmp_path):
    """A cell of 96 pixels in blocks of 64: neither is left."""
    samples = dealt(64)
    keep = np.arange(len(samples.part)) % 3 == 1
    some = samples.only(keep, 96)
    assert some.part.tolist() == samples.part[keep].tolist()
    np.testing.assert_array_equal(some.class_counts("train"), samples.counts[keep & (samples.part == 0)].sum(0))
    assert some.digest() != samples.digest()
    assert samples.only(np.ones(len(keep), bool), 0).digest() == samples.digest()
    settings, rng = settings_of(field, tmp_path), np.random.default_rng(0)
    for k in range(len(some.part)):
        grid = some.grids[some.scene[k]]
        core = grid.core_window(int(some.tile[k]))
        inside = moved(some, k, settings, rng).intersect(grid.extent)
        for edge in (64, 96):
            assert (core.row // edge, core.col // edge) == (inside.row // edge, inside.col // edge)
            assert ((inside.stop[0] - 1) // edge, (inside.stop[1] - 1) // edge) == (core.row // edge, core.col // edge)


# The split.


@pytest.mark.parametrize("edge", [0, 32, 64, 128])
@pytest.mark.parametrize("seed", range(3))
def test_no_block_and_so_no_pixel_is_in_two_parts(edge, seed):
    samples = dealt(edge, seed)
    places = [(block.scene, block.row, block.col) for block in samples.blocks]
    assert len(set(places)) == len(places)
    assert all(samples.blocks[samples.block[k]].part == PARTS[samples.part[k]] for k in range(len(samples.part)))
    assert {part: len(samples.of(part)) > 0 for part in PARTS} == dict.fromkeys(PARTS, True)


def test_every_sample_lies_in_its_block():
    samples = dealt(64)
    for k in range(len(samples.part)):
        core = samples.grids[samples.scene[k]].core_window(int(samples.tile[k]))
        assert core.intersect(samples.limits(k)) == core
        assert NAMES[samples.scene[k]] == samples.blocks[samples.block[k]].scene


def test_tiles_without_a_label_are_no_samples_and_all_others_are():
    samples = dealt(64)
    counts = tables(samples.grids)
    wanted = {(s, int(t)) for s in range(3) for t in np.flatnonzero(counts[s].sum(1))}
    assert set(zip(samples.scene.tolist(), samples.tile.tolist(), strict=True)) == wanted
    assert len(samples.part) == len(wanted)


@pytest.mark.parametrize("seed", range(5))
def test_parts_get_about_their_share_of_the_labelled_pixels(seed):
    samples = dealt(32, seed)
    total = samples.counts.sum()
    for part in ("validation", "test"):
        assert samples.class_counts(part).sum() / total == pytest.approx(0.2, abs=0.02)


def test_the_split_seed_alone_deals_the_blocks():
    assert dealt(64, 1).blocks == dealt(64, 1).blocks
    assert [block.part for block in dealt(64, 1).blocks] != [block.part for block in dealt(64, 2).blocks]
    assert dealt(64, 1).digest() == dealt(64, 1).digest() != dealt(64, 2).digest()


@pytest.mark.parametrize("edge", [0, 64])
def test_the_split_column_of_a_manifest_is_obeyed(edge):
    samples = dealt(edge, fixed={"a": "test", "b": "train", "c": "validation"})
    assert {(block.scene, block.part) for block in samples.blocks} == {("a", "test"), ("b", "train"), ("c", "validation")}


def test_scenes_that_the_column_leaves_open_are_dealt_out():
    samples = dealt(32, fixed={"a": "test"})
    assert {block.part for block in samples.blocks if block.scene == "a"} == {"test"}
    assert {block.part for block in samples.blocks if block.scene != "a"} == set(PARTS)


def test_whole_scenes_are_dealt_out_where_blocks_have_no_edge():
    samples = dealt(0)
    assert sorted(block.scene for block in samples.blocks) == NAMES
    assert sorted(block.part for block in samples.blocks) == sorted(PARTS)
    assert samples.limits(0) == samples.grids[0].extent


def test_shares_of_zero_leave_all_to_training():
    samples = dealt(64, shares=(0.0, 0.0))
    assert {block.part for block in samples.blocks} == {"train"}


def test_parts_that_stay_empty_are_refused_with_what_to_do():
    with pytest.raises(UsageError, match=r"leaves validation and test empty: only 3 scenes.*or set that share to 0"):
        dealt(0, fixed=dict.fromkeys(NAMES, "train"))


def test_a_training_part_that_stays_empty_is_refused():
    with pytest.raises(UsageError, match="leaves train empty"):
        dealt(0, fixed={"a": "test", "b": "validation", "c": "test"})


def test_one_block_cannot_be_split():
    grid = Grid(64, 64, 32, 0)
    with pytest.raises(UsageError, match=r"leaves validation and test empty: only 1 blocks of 64 pixels.*make block smaller"):
        deal(["a"], [grid], tables([grid], empty=0), Shares(64, 0.1, 0.1, 0))


def test_labels_that_are_nowhere_are_refused():
    grid = Grid(64, 64, 32, 0)
    with pytest.raises(UsageError, match="no sample has a labelled pixel or an object: do the labels lie on the scenes"):
        deal(["a"], [grid], [np.zeros((grid.size, 2), np.int64)], Shares(64, 0.1, 0.1, 0))


def test_windows_that_move_stay_in_their_block_and_do_move(field, tmp_path):
    settings, samples = settings_of(field, tmp_path), dealt(64)
    rng = np.random.default_rng(0)
    offsets = set()
    for k in list(range(len(samples.part))) * 3:
        window, limits = moved(samples, k, settings, rng), samples.limits(k)
        inside = window.intersect(samples.grids[samples.scene[k]].extent)
        assert inside.intersect(limits) == inside
        home = samples.grids[samples.scene[k]].full_core(int(samples.tile[k]))
        if home == samples.grids[samples.scene[k]].core_window(int(samples.tile[k])):
            assert max(abs(window.row - home.row), abs(window.col - home.col)) <= 16
            offsets.add((window.row - home.row, window.col - home.col))
    assert len(offsets) > 50


def test_windows_stay_where_they_are_unless_shift_is_on(field, tmp_path):
    settings, samples = settings_of(field, tmp_path, shift=False), dealt(64)
    for k in range(len(samples.part)):
        assert moved(samples, k, settings, np.random.default_rng(k)) == samples.grids[samples.scene[k]].full_core(int(samples.tile[k]))


# The order.


@given(epoch=st.integers(0, 5), seed=st.integers(0, 99))
def test_every_train_sample_comes_exactly_once_an_epoch(epoch, seed):
    samples = dealt(64)
    np.testing.assert_array_equal(np.sort(epoch_order(samples, epoch, seed, False)), samples.of("train"))


def test_each_epoch_and_each_seed_has_an_order_of_its_own():
    samples = dealt(64)
    orders = [tuple(epoch_order(samples, epoch, seed, False)) for epoch in range(3) for seed in range(3)]
    assert len(set(orders)) == 9
    assert orders[0] == tuple(epoch_order(samples, 0, 0, False))


def test_balanced_sampling_draws_rare_classes_more_often():
    grid = Grid(32, 32 * 200, 32, 0)
    rare = np.arange(200) % 10 == 0
    counts = np.stack([np.where(rare, 24, 1024), np.where(rare, 1000, 0)], 1)
    samples = deal(["a"], [grid], [counts], Shares(32, 0.0, 0.0, 0))
    drawn = np.concatenate([epoch_order(samples, epoch, 0, True) for epoch in range(20)])
    assert len(drawn) == 20 * 200
    share = rare[drawn].mean()
    # A tenth of the samples holds the rare class: drawn so that both classes are seen about equally often.
    assert 0.45 < share < 0.55
    assert set(drawn) <= set(samples.of("train").tolist())


# Shares of ranks.


@given(n=st.integers(0, 40), size=st.integers(1, 9))
def test_the_shares_of_all_ranks_are_the_batch_in_order(n, size):
    batch = np.random.default_rng(n).permutation(100)[:n]
    shares = [share_of(batch, rank, size) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(batch=st.integers(1, 20), size=st.integers(1, 6))
def test_an_epoch_shared_out_is_each_train_sample_once_for_any_ranks(batch, size):
    samples = dealt(64)
    order = epoch_order(samples, 1, 7, False)
    taken = [share_of(order[k : k + batch], rank, size) for k in range(0, len(order), batch) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(taken), order)


# Weights.


def test_class_weights_are_inverse_shares_with_mean_one():
    weights = class_weights(np.array([900, 100, 0]))
    assert weights[1] / weights[0] == pytest.approx(9)
    assert weights[:2].mean() == pytest.approx(1)
    assert weights[2] == 0
