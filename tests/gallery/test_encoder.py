"""The encoder's training: views of one cell become alike, textures come apart, and a run can be repeated."""

import math

import numpy as np
import pytest
import torch

from hpcseg.errors import UsageError
from hpcseg.gallery.embed import encode, pool_features
from hpcseg.gallery.encoder import EncoderSettings, contrast, make_views, train_encoder
from hpcseg.training.averaging import Alone

SMALL, BRIEF = EncoderSettings(epochs=20, batch=16), EncoderSettings(epochs=1, batch=16)


def textures(n, edge=32, seed=0):
    """Cells of fine and of coarse squares, in turn, in any colours: float32 (n, 3, edge, edge)."""
    rng = np.random.default_rng(seed)
    cells = []
    for k in range(n):
        size = (2, 8)[k % 2]
        squares = np.kron(rng.random((edge // size, edge // size)) < 0.5, np.ones((size, size)))
        cells.append(rng.uniform(0, 0.5, (3, 1, 1)) + squares * rng.uniform(0.3, 0.5, (3, 1, 1)))
    return np.array(cells, np.float32)


@torch.inference_mode()
def features_of(network, cells):
    return pool_features(encode(network, torch.from_numpy(cells))).numpy()


@pytest.fixture(scope="module")
def trained(alone):
    return train_encoder(alone, Alone(), textures(64), SMALL)


def test_the_loss_falls_below_that_of_chance(trained):
    _, losses = trained
    assert len(losses) == SMALL.epochs
    assert losses[-1] < 0.9 * math.log(2 * SMALL.batch - 1)


def test_textures_it_never_saw_come_apart_whatever_their_colours(trained):
    features = features_of(trained[0], textures(40, seed=1))
    features -= features.mean(0)
    fine, coarse = features[::2], features[1::2]
    middle, axis = (fine.mean(0) + coarse.mean(0)) / 2, fine.mean(0) - coarse.mean(0)
    assert ((fine - middle) @ axis > 0).mean() > 0.9
    assert ((coarse - middle) @ axis < 0).mean() > 0.9


def test_it_can_be_repeated_and_hangs_on_the_seed(alone):
    settings = BRIEF, BRIEF, EncoderSettings(epochs=1, batch=16, seed=1)
    networks = (train_encoder(alone, Alone(), textures(64), each)[0] for each in settings)
    first, again, other = (network.state_dict()["encoder.4.0.weight"] for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_step_tells_that_it_is_alive(alone):
    steps = []
    train_encoder(alone, Alone(), textures(64), BRIEF, lambda: steps.append(1))
    assert len(steps) == 4


def test_one_cell_teaches_nothing(alone):
    with pytest.raises(UsageError, match="1 cells"):
        train_encoder(alone, Alone(), textures(1), SMALL)


class OtherRank(Alone):
    """Averaging with a rank whose cells of each step are as many as its weight, with gradients of that sum."""

    def __init__(self, weight):
        self.weight = weight

    def add_up(self, flat, sizes):
        assert sum(sizes) == len(flat)
        return flat + self.weight


def test_a_rank_counts_by_its_cells_and_one_without_any_changes_nothing(alone):
    ways = Alone(), OtherRank(0.0), OtherRank(5.0)
    networks = (train_encoder(alone, way, textures(64), BRIEF)[0] for way in ways)
    first, without, other = (network.state_dict()["encoder.0.0.weight"] for network in networks)
    assert torch.equal(first, without)
    assert not torch.equal(first, other)


def test_contrast_is_the_mean_cross_entropy_of_finding_the_other_view():
    outputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    unit = (outputs / outputs.norm(dim=1, keepdim=True)).double().numpy()
    expected = []
    for i in range(6):
        likeness = {j: math.exp(unit[i] @ unit[j] / 0.2) for j in range(6) if j != i}
        expected.append(-math.log(likeness[(i + 3) % 6] / sum(likeness.values())))
    assert float(contrast(outputs, 0.2)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_views_are_squares_of_their_cell_in_other_colours():
    cells = torch.from_numpy(textures(12))
    plain = make_views(cells, 16, 0.0, np.random.default_rng(2))
    assert plain.shape == (12, 3, 16, 16)
    for cell, view in zip(cells, plain, strict=True):
        parts = {cell[:, r : r + 16, c : c + 16].sum(dtype=torch.float64).item() for r in range(17) for c in range(17)}
        assert min(abs(view.sum(dtype=torch.float64).item() - each) for each in parts) < 1e-3
    coloured = make_views(cells, 16, 0.3, np.random.default_rng(2))
    ratio = (coloured - coloured.mean((2, 3), keepdim=True)) / (plain - plain.mean((2, 3), keepdim=True))
    for view in ratio.flatten(2).numpy():
        for band in view:
            assert np.nanstd(band) < 1e-3 * abs(np.nanmean(band)), "a band keeps its texture, up to a factor"
    assert 0.49 - 1e-4 <= np.nanmin(ratio) < np.nanmax(ratio) <= 1.69 + 1e-4
