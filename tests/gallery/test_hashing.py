"""The hashing network: its loss against plain NumPy and over shares of ranks, standardisation folded in, codes that keep clusters apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hpcseg.gallery.clusters import Standard
from hpcseg.gallery.embed import code_of, make_hasher
from hpcseg.gallery.hashing import HashSettings, fold_standard, pair_loss, reach_of, train_hasher
from hpcseg.training.averaging import Alone

LABELS = torch.tensor([0, 0, 1, 2, 1, 0, 2])
OUTPUTS = torch.tanh(torch.randn(7, 16, generator=torch.Generator().manual_seed(0))).double()
PLACES = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
SETTINGS = HashSettings(quantisation=0.3, spread=0.4)


def plain_loss(outputs, places, labels, quantisation, spread):
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    alike = 1 - spread * np.minimum(away, 2)
    signs = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    agreement = signs @ signs.T
    clusters = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    pull = np.mean([((alike - agreement)[np.ix_(a, a)] ** 2).mean() for a in clusters])
    push = np.mean([(np.maximum(agreement[np.ix_(a, b)], 0) ** 2).mean() for a in clusters for b in clusters if a is not b])
    return pull + 2 * push + quantisation * ((np.abs(outputs) - 1) ** 2).mean()


def test_loss_draws_pairs_of_a_cluster_together_others_apart_and_outputs_to_signs():
    whole = float(pair_loss(OUTPUTS, PLACES, LABELS, np.arange(7), SETTINGS))
    assert whole == pytest.approx(plain_loss(OUTPUTS.numpy(), PLACES.numpy(), LABELS.numpy(), 0.3, 0.4))
    perfect = torch.tensor([[1.0, 1, 1, 1], [-1, -1, 1, 1]])[[0, 0, 1]]
    assert float(pair_loss(perfect, PLACES[:3].float(), torch.tensor([0, 0, 1]), np.arange(3), HashSettings(spread=0))) == 0


@pytest.mark.parametrize("size", [2, 3, 9])
def test_shares_of_ranks_add_up_to_the_whole_with_their_gradients(size):
    shares = np.array_split(np.arange(7), size)
    gradients = []
    for parts in ([np.arange(7)], shares):
        x = OUTPUTS.clone().requires_grad_()
        total = sum(pair_loss(x, PLACES, LABELS, part, SETTINGS) for part in parts)
        total.backward()
        gradients.append((float(total.detach()), x.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_a_batch_of_one_cluster_has_no_pairs_to_part():
    assert torch.isfinite(pair_loss(OUTPUTS, PLACES, torch.zeros(7, dtype=int), np.arange(7), SETTINGS))


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


def test_codes_within_a_cluster_follow_its_features(alone):
    """Without that most of them have one code."""
    rng = np.random.default_rng(3)
    clusters = np.arange(120) % 3
    features = (rng.normal(0, 2, (3, 8))[clusters] + rng.normal(0, 1, (120, 8))).astype(np.float32)
    shares = []
    for spread in (0.0, 0.25):
        settings = HashSettings(bits=32, hidden=32, steps=250, batch=60, spread=spread)
        hasher, _ = train_hasher(alone, Alone(), features, clusters, settings)
        codes = np.array([code_of(hasher, row) for row in features])
        away, far = np.bitwise_count(codes[:, None] ^ codes[None]), np.linalg.norm(features[:, None] - features[None], axis=2)
        shares.append((away[clusters[:, None] == clusters[None]] > 0).mean())
    assert shares[0] < 0.5 < 0.8 < shares[1]
    for k in range(3):
        inside = np.ix_(clusters == k, clusters == k)
        assert np.corrcoef(away[inside].ravel(), far[inside].ravel())[0, 1] > 0.4


def test_the_unit_is_how_far_two_cells_of_a_cluster_are_apart():
    points, labels = torch.randn(40, 5, generator=torch.Generator().manual_seed(2)), torch.arange(40) % 2
    squares = [torch.cdist(points[labels == k], points[labels == k]) ** 2 for k in range(2)]
    assert reach_of(points, labels) == pytest.approx(float(torch.stack(squares).mean().sqrt()), rel=1e-5)
    assert reach_of(points[:2], labels[:2]) == 1e-6


def test_the_same_seed_gives_the_same_network(alone):
    features = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    one, two = (train_hasher(alone, Alone(), features, np.arange(40) % 3, HashSettings(bits=8, steps=20)) for _ in range(2))
    assert one[1] == two[1]
    for a, b in zip(one[0].parameters(), two[0].parameters(), strict=True):
        assert torch.equal(a, b)
