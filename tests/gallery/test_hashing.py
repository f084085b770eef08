"""The hashing network: its loss against plain NumPy and over shares of ranks, standardisation folded in, codes that keep clusters apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpcseg.gallery.clusters import Standard
from hpcseg.gallery.embed import code_of, make_hasher
from hpcseg.gallery.hashing import HashSettings, fold_standard, pair_loss, train_hasher
from hpcseg.training.averaging import Alone

LABELS = torch.tensor([0, 0, 1, 2, 1, 0, 2])
OUTPUTS = torch.tanh(torch.randn(7, 16, generator=torch.Generator().manual_seed(0))).double()


def plain_loss(outputs, labels, quantisation):
    agreement = outputs @ outputs.T / outputs.shape[1]
    clusters = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    pull = np.mean([((1 - agreement[np.ix_(a, a)]) ** 2).mean() for a in clusters])
    push = np.mean([(np.maximum(agreement[np.ix_(a, b)], 0) ** 2).mean() for a in clusters for b in clusters if a is not b])
    return pull + 2 * push + quantisation * ((np.abs(outputs) - 1) ** 2).mean()


def test_loss_draws_pairs_of_a_cluster_together_others_apart_and_outputs_to_signs():
    whole = float(pair_loss(OUTPUTS, LABELS, np.arange(7), 0.3))
    assert whole == pytest.approx(plain_loss(OUTPUTS.numpy(), LABELS.numpy(), 0.3))
    perfect = torch.tensor([[1.0, 1, 1, 1], [-1, -1, 1, 1]])[[0, 0, 1]]
    assert float(pair_loss(perfect, torch.tensor([0, 0, 1]), np.arange(3), 1.0)) == 0


@pytest.mark.parametrize("size", [2, 3, 9])
def test_shares_of_ranks_add_up_to_the_whole_with_their_gradients(size):
    shares = np.array_split(np.arange(7), size)
    gradients = []
    for parts in ([np.arange(7)], shares):
        x = OUTPUTS.clone().requires_grad_()
        total = sum(pair_loss(x, LABELS, part, 0.3) for part in parts)
        total.backward()
        gradients.append((float(total.detach()), x.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_a_batch_of_one_cluster_has_no_pairs_to_part():
    assert torch.isfinite(pair_loss(OUTPUTS, torch.zeros(7, dtype=int), np.arange(7), 0.3))


def test_standardisation_is_folded_into_the_first_layer():
    features = np.random.default_rng(0).normal(50, 9, (30, 6)).astype(np.float32)
    standard, hasher = Standard.of(features), make_hasher(6, 8, 5)
    with torch.no_grad():
        wanted = hasher(torch.from_numpy(standard.apply(features)).float())
        torch.testing.assert_close(fold_standard(hasher, standard)(torch.from_numpy(features)), wanted, rtol=1e-4, atol=1e-4)


def test_codes_of_a_cluster_are_near_and_those_of_others_far(alone):
    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 5, 200)
    features = (rng.normal(0, 5, (5, 12))[clusters] + rng.normal(0, 1, (200, 12))).astype(np.float32)
    hasher, losses = train_hasher(alone, Alone(), features, clusters, HashSettings(bits=32, hidden=32, steps=250, batch=40))
    codes = np.array([code_of(hasher, row) for row in features])
    distances = np.bitwise_count(codes[:, None] ^ codes[None])
    same = clusters[:, None] == clusters[None]
    assert np.percentile(distances[same], 95) < np.percentile(distances[~same], 5)
    assert losses[-1] < losses[0] / 3
    assert (codes < 2**32).all()


def test_the_same_seed_gives_the_same_network(alone):
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    one, two = (train_hasher(alone, Alone(), features, np.arange(40) % 3, HashSettings(bits=8, steps=20)) for _ in range(2))
    assert one[1] == two[1]
    for a, b in zip(one[0].parameters(), two[0].parameters(), strict=True):
        assert torch.equal(a, b)
