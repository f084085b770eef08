"""Losses against plain formulas in float64, and as sums of pieces."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hpcseg.training.losses import Loss, labelled_weight, two_sided
from hpcseg.training.settings import Settings
from training.field import settings_of

TERMS = [["cross-entropy"], ["focal"], ["dice"], ["cross-entropy", "dice"], ["focal", "dice"]]


def settings(terms: list[str], **changes: Any) -> Settings:
    return settings_of(Path(), Path(), loss=terms, **changes)


def example(classes: int, n: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (n, classes, 6, 5) that ask for gradients, labels with 255, weights."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(n, classes, 6, 5)) * 2, dtype=torch.float32, requires_grad=True)
    y = torch.tensor(rng.choice([*range(max(classes, 2)), 255], (n, 6, 5)), dtype=torch.uint8)
    y[0] = 255
    y[0, 0, 0] = 1
    return logits, y, torch.tensor(rng.uniform(0.2, 3, max(classes, 2)), dtype=torch.float32)


def evaluate(terms: list[str], pieces: list[tuple[Tensor, Tensor]], weights: Tensor, **changes: Any) -> Tensor:
    """The loss of pieces of a batch, put together as ranks and parts do it; gradients are added to the logits."""
    loss = Loss(settings(terms, **changes), weights)
    total = sum(labelled_weight(y, weights) for _, y in pieces)
    overlaps = sum((loss.overlaps(logits.detach(), y) for logits, y in pieces), loss.no_overlaps())
    value = loss.dice(overlaps) if loss.has_dice else torch.zeros(())
    for logits, y in pieces:
        part = loss(logits, y, total, overlaps)
        part.backward()
        value = value + part.detach()
    return value


def formula(terms: list[str], logits: Tensor, y: Tensor, weights: Tensor, gamma: float = 2.0) -> Tensor:
    """The same loss, written down pixel by pixel in float64."""
    z = logits.double()
    z = torch.cat([torch.zeros_like(z), z], 1) if z.shape[1] == 1 else z
    p = (z.exp() / z.exp().sum(1, keepdim=True)).movedim(1, -1)[y != 255]
    own, w = y[y != 255].long(), weights.double()
    picked = p[torch.arange(len(own)), own]
    value = torch.zeros((), dtype=torch.float64)
    for term in terms:
        if term == "dice":
            g = torch.eye(p.shape[1], dtype=torch.float64)[own]
            value = value + 1 - ((2 * (p * g).sum(0) + 1) / (p.sum(0) + g.sum(0) + 1)).mean()
        else:
            focus = (1 - picked) ** gamma if term == "focal" else 1
            value = value - (w[own] * focus * picked.log()).sum() / w[own].sum()
    return value


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_value_and_gradient_are_those_of_the_formula(terms, classes):
    logits, y, weights = example(classes)
    value = evaluate(terms, [(logits, y)], weights)
    other = logits.detach().clone().requires_grad_()
    wanted = formula(terms, other, y, weights)
    wanted.backward()
    assert float(value) == pytest.approx(float(wanted.detach()), rel=1e-5)
    torch.testing.assert_close(logits.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_cross_entropy_is_the_weighted_one_of_torch():
    logits, y, weights = example(4)
    wanted = torch.nn.functional.cross_entropy(logits.detach(), y.long(), weights, ignore_index=255)
    assert float(evaluate(["cross-entropy"], [(logits, y)], weights)) == pytest.approx(float(wanted), rel=1e-5)


def test_focal_with_gamma_0_is_cross_entropy():
    logits, y, weights = example(3)
    focal, plain = (float(evaluate([term], [(logits, y)], weights, gamma=0.0)) for term in ("focal", "cross-entropy"))
    assert focal == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_one_logit_stands_for_two(terms):
    one, y, weights = example(1)
    two = two_sided(one.detach()).requires_grad_()
    assert float(evaluate(terms, [(one, y)], weights)) == pytest.approx(float(evaluate(terms, [(two, y)], weights)), rel=1e-6)
    torch.testing.assert_close(one.grad[:, 0], two.grad[:, 1])


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_pieces_add_up_to_the_whole_however_unequal_their_labels(terms, cuts):
    logits, y, weights = example(2)
    value = evaluate(terms, [(logits, y)], weights)
    pieces = [(logits.detach()[a:b].requires_grad_(), y[a:b]) for a, b in itertools.pairwise([0, *cuts, 4])]
    assert float(evaluate(terms, pieces, weights)) == pytest.approx(float(value), rel=1e-5)
    torch.testing.assert_close(torch.cat([piece.grad for piece, _ in pieces]), logits.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_pixels_without_a_label_have_no_gradient(terms):
    logits, y, weights = example(3)
    evaluate(terms, [(logits, y)], weights)
    assert (logits.grad.movedim(1, -1)[y == 255] == 0).all()
    assert (logits.grad.movedim(1, -1)[y != 255] != 0).any()


@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_a_batch_without_labels_pulls_nowhere(terms):
    logits, y, weights = example(2)
    y[:] = 255
    value = evaluate(terms, [(logits, y)], weights)
    assert float(value) == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("terms", TERMS, ids="+".join)
def test_large_logits_stay_finite(terms):
    logits, y, weights = example(2)
    big = (logits.detach() * 1e4).requires_grad_()
    assert torch.isfinite(evaluate(terms, [(big, y)], weights))
    assert torch.isfinite(big.grad).all()


def test_a_pixel_that_is_not_a_number_shows_in_the_loss_even_without_a_label():
    logits, y, weights = example(2)
    with torch.no_grad():
        logits[0, 0, 0, 1] = float("nan")
    y[0, 0, 1] = 255
    assert not torch.isfinite(evaluate(["cross-entropy"], [(logits, y)], weights))


def test_labelled_weight_adds_the_weights_of_labelled_pixels():
    y = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    assert labelled_weight(y, torch.tensor([0.5, 2.0])) == 4.5
