"""Steps of the optimiser on one rank: parts of a batch, clipping, steps that are not finite; and the learning rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hpcseg.models import build
from hpcseg.training.averaging import Alone
from hpcseg.training.checkpoint import running_statistics
from hpcseg.training.feed import Batch
from hpcseg.training.loop import DivergedError, Trainer, make_optimizer, rate_at
from training.field import settings_of

NORMED = {"network": "unet-light", "options": {"down": [4, 8], "up": [4]}}


@pytest.fixture
def make(field, tmp_path, alone):
    """make(**settings) gives a trainer with weights drawn by the seed."""

    def trainer(**changes):
        settings = settings_of(field, tmp_path, **changes)
        torch.manual_seed(settings.seed)
        network = build(settings.network, 3, 2, settings.options)
        return Trainer(alone, settings, network, make_optimizer(settings, network), Alone(), torch.ones(2), torch.device("cpu"))

    return trainer


def batch_of(n: int = 6, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    y = rng.choice(np.array([0, 1, 255], np.uint8), (n, 16, 16))
    y[: n // 2][rng.random((n // 2, 16, 16)) < 0.9] = 255
    x = rng.normal(size=(n, 3, 16, 16)) + (y == 1)[:, None]
    return Batch(torch.tensor(x, dtype=torch.float32), torch.tensor(y), 0)


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.parameters])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("loss", ["cross-entropy", "focal", "dice"])
def test_steps_lower_the_loss(make, loss, optimizer):
    trainer, rate = make(loss=[loss], optimizer=optimizer), 0.3 if optimizer == "sgd" else 0.02
    losses = [trainer.step(batch_of(), k, rate) for k in range(20)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("loss", [["cross-entropy"], ["focal", "dice"], ["dice"]])
@pytest.mark.parametrize("parts", [2, 4, 7])
def test_parts_that_pass_one_after_the_other_are_the_same_step(make, loss, parts):
    """Also where there are more parts than samples."""
    whole, cut = make(loss=loss, optimizer="sgd"), make(loss=loss, optimizer="sgd", accumulate=parts)
    for k in range(3):
        assert cut.step(batch_of(), k, 0.1) == pytest.approx(whole.step(batch_of(), k, 0.1), rel=1e-5)
    torch.testing.assert_close(weights_of(cut), weights_of(whole), rtol=1e-4, atol=1e-6)


def test_dice_in_parts_counts_each_batch_once_in_batch_norm(make):
    """Its sums need a pass ahead: that must not show in the statistics."""
    plain, dice = (make(**NORMED, loss=[loss], accumulate=2, rate=1e-9) for loss in ("cross-entropy", "dice"))
    for trainer in (plain, dice):
        trainer.step(batch_of(), 0, 0.0)
    for a, b in zip(running_statistics(plain.network), running_statistics(dice.network), strict=True):
        assert torch.equal(a, b)


def test_dropout_hangs_on_seed_and_step_alone(make):
    dropped = {"options": {"widths": [8, 16], "dropout": [0.3, 0.3]}}
    one, same, other = make(**dropped), make(**dropped), make(**dropped)
    torch.rand(5)
    losses = [one.step(batch_of(), 4, 0.01), same.step(batch_of(), 4, 0.01), other.step(batch_of(), 5, 0.01)]
    assert losses[0] == losses[1] != losses[2]


def test_a_batch_without_labels_has_loss_0_and_pulls_nowhere(make):
    trainer = make(optimizer="sgd", decay=0.0)
    batch, before = batch_of(), weights_of(trainer)
    batch.y[:] = 255
    assert trainer.step(batch, 0, 0.1) == 0
    assert torch.equal(weights_of(trainer), before)


def test_an_empty_share_takes_part(make):
    trainer = make(loss=["cross-entropy", "dice"])
    assert trainer.step(Batch(torch.empty(0, 3, 16, 16), torch.empty((0, 16, 16), dtype=torch.uint8), 0), 0, 0.1) == 0


def test_the_gradient_is_clipped_to_its_largest_norm(make):
    free, clipped = make(optimizer="sgd", momentum=0.0, decay=0.0), make(optimizer="sgd", momentum=0.0, decay=0.0, clip=0.01)
    before = weights_of(free)
    for trainer in (free, clipped):
        trainer.step(batch_of(), 0, 1.0)
    steps = [weights_of(trainer) - before for trainer in (free, clipped)]
    assert float(steps[0].norm()) > 0.01
    assert float(steps[1].norm()) == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(steps[0] / steps[0].norm(), steps[1] / steps[1].norm(), rtol=1e-3, atol=1e-5)


def poisoned() -> Batch:
    batch = batch_of()
    batch.x[0, 0, 0, 0] = math.inf
    return batch


def test_a_loss_that_is_not_finite_stops_and_says_what_to_do(make):
    with pytest.raises(DivergedError, match=r'step 7: loss nan.*lower --rate, add clip = 1.0, or say on_nan = "skip"') as caught:
        make().step(poisoned(), 7, 0.1)
    assert caught.value.shared
    assert caught.value.exit_code == 1


def test_a_skipped_step_leaves_no_trace(make):
    trainer, clean = make(**NORMED, on_nan="skip"), make(**NORMED)
    assert math.isnan(trainer.step(poisoned(), 0, 0.1))
    for k in range(2):
        assert trainer.step(batch_of(), k, 0.1) == clean.step(batch_of(), k, 0.1)
    assert torch.equal(weights_of(trainer), weights_of(clean))
    for a, b in zip(running_statistics(trainer.network), running_statistics(clean.network), strict=True):
        assert torch.equal(a, b)


def test_classes_weigh_as_told(field, tmp_path, alone):
    settings = settings_of(field, tmp_path)
    network = build(settings.network, 3, 2, settings.options)
    batch = batch_of()
    batch.y[:, 1:] = 1
    batch.y[:, 0] = 0
    losses = []
    for weights in ([1.0, 1.0], [2.0, 2.0], [0.0, 1.0]):
        trainer = Trainer(alone, settings, network, make_optimizer(settings, network), Alone(), torch.tensor(weights), torch.device("cpu"))
        losses.append(trainer.step(batch, 0, 0.0))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert abs(losses[2] - losses[0]) > 1e-3


def test_bfloat16_follows_float32(make):
    full, half = make(), make(precision="bf16")
    for k in range(5):
        assert half.step(batch_of(), k, 0.01) == pytest.approx(full.step(batch_of(), k, 0.01), rel=0.05)


# The rate.


def rates(settings, size: int = 1, per_epoch: int = 10) -> np.ndarray:
    return np.array([rate_at(settings, step / per_epoch, 1 / per_epoch, size) for step in range(settings.epochs * per_epoch)])


def test_the_rate_rises_over_the_warm_up_and_falls_as_half_a_cosine(field, tmp_path):
    found = rates(settings_of(field, tmp_path, rate=1.0, warmup=2.0, epochs=10))
    np.testing.assert_allclose(found[:20], np.arange(1, 21) / 20)
    np.testing.assert_allclose(found[20:], 0.5 * (1 + np.cos(np.pi * np.arange(80) / 80)))


def test_a_constant_rate_stays_after_the_warm_up(field, tmp_path):
    found = rates(settings_of(field, tmp_path, rate=0.5, warmup=1.0, schedule="constant", epochs=3))
    assert (found[10:] == 0.5).all()


def test_the_rate_scales_with_the_ranks_and_begins_at_that_of_one(field, tmp_path):
    settings = settings_of(field, tmp_path, rate=0.1, warmup=1.0, schedule="constant", epochs=2, scale_rate=True)
    found = rates(settings, size=4)
    assert found[0] == pytest.approx(0.1 + 0.3 / 10)
    np.testing.assert_allclose(found[10:], 0.4)
    np.testing.assert_allclose(rates(settings, size=1), 0.1)


def test_no_warm_up_begins_at_the_full_rate(field, tmp_path):
    assert rates(settings_of(field, tmp_path, rate=0.3, warmup=0.0))[0] == pytest.approx(0.3)
