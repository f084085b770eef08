"""Losses as sums over labelled pixels, so that any number of ranks and parts of a batch add up to the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hpcseg.training.settings import Settings

IGNORED = 255
CENTRE = 254
_SMOOTH = 1.0


def two_sided(logits: Tensor) -> Tensor:
    """Logits of all classes in float32: a single one z stands for (0, z), whose softmax is the sigmoid."""
    logits = logits.float()
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def labelled_weight(y: Tensor, weights: Tensor) -> float:
    """Sum of the class weights of the labelled pixels of y, u8 (n, h, w)."""
    counts = torch.bincount(y.flatten().long(), minlength=256)[: len(weights)]
    return float((counts.double() * weights.double()).sum())


class Loss:
    """The sum of the losses that settings name, over the labelled pixels of all ranks and of all parts of a batch.

    cross-entropy: mean of w_y * -log p_y (weights w by class). focal: the same times (1 - p_y) ** gamma (Lin et al., ICCV 2017).
    dice: 1 - mean over the classes of (2 sum p g + 1) / (sum p + sum g + 1) (Milletari et al., 3DV 2016, with sums to the power 1).
    """

    def __init__(self, settings: Settings, weights: Tensor) -> None:
        """weights: float32 (classes,)."""
        self._terms, self._gamma, self._weights, self._counting = settings.loss, settings.gamma, weights, weights.cpu()
        self.has_dice = "dice" in settings.loss

    def total(self, y: Tensor) -> float:
        """What the sums of a batch are divided by; added up over ranks. y: on the CPU."""
        return labelled_weight(y, self._counting)

    def __call__(self, logits: Tensor, y: Tensor, total_weight: float, overlaps: Tensor) -> Tensor:
        """A scalar whose value and gradient, summed over all ranks and parts, are those of the global loss; but of Dice the gradient
        alone: its value is `dice(overlaps)`, to be added once.

        logits: (n, c, h, w). y: u8 (n, h, w). total_weight: of all labelled pixels of all ranks and parts. overlaps: the sum of
        `overlaps` over them all; only Dice looks at it.
        """
        chances, own, seen = _chances(logits, y)
        weight = self._weights[own] * seen
        picked = chances.gather(1, own[:, None])[:, 0]
        loss = chances.sum() * 0.0
        for term in self._terms:
            if term == "dice":
                loss = loss + self._dice_gradient(logits, y, overlaps)
            else:
                focus = (1 - picked.exp()) ** self._gamma if term == "focal" else 1.0
                loss = loss - (weight * focus * picked).sum() / max(total_weight, 1e-12)
        return loss

    def overlaps(self, logits: Tensor, y: Tensor) -> Tensor:
        """What Dice needs of a part of a batch: per class sum p g and sum p + g over its labelled pixels, float64 (2, classes)."""
        chances, own, seen = _chances(logits, y)
        truth = functional.one_hot(own, chances.shape[1]).movedim(-1, 1) * seen[:, None]
        found = chances.exp() * seen[:, None]
        return torch.stack([v.double().sum((0, 2, 3)) for v in (found * truth, found + truth)])

    def no_overlaps(self) -> Tensor:
        """`overlaps` of nothing."""
        return torch.zeros(2, len(self._weights), dtype=torch.float64, device=self._weights.device)

    def dice(self, overlaps: Tensor) -> Tensor:
        """The Dice loss of global sums."""
        return 1 - ((2 * overlaps[0] + _SMOOTH) / (overlaps[1] + _SMOOTH)).mean()

    def _dice_gradient(self, logits: Tensor, y: Tensor, overlaps: Tensor) -> Tensor:
        """0, with the gradient of the global Dice loss through this part's share of its sums."""
        own = self.overlaps(logits, y)
        dice = self.dice(own + (overlaps - own.detach()))
        return dice - dice.detach()


class PointLoss(Loss):
    """The penalty-reduced focal loss of heat maps (Law and Deng, ECCV 2018, eq. 1; Zhou et al., arXiv 1904.07850, eq. 1, alpha 2 and
    beta 4), summed over all pixels and classes and divided by the number of objects."""

    def total(self, y: Tensor) -> float:
        """The number of objects in a batch, as pixels that are their centre. y: u8 (n, classes, h, w)."""
        return float((y == CENTRE).sum())

    def __call__(self, logits: Tensor, y: Tensor, total_weight: float, overlaps: Tensor) -> Tensor:
        """A scalar whose value and gradient, summed over all ranks and parts, are those of the global loss.

        logits: (n, classes, h, w). y: u8 of the same shape, round(254 heat), 255 = not labelled. total_weight: objects of all ranks and
        parts. overlaps: not looked at.
        """
        logits, heat, centre = logits.float(), y.float() / CENTRE, y == CENTRE
        chance = logits.sigmoid()
        hit = (1 - chance) ** 2 * functional.logsigmoid(logits) * centre
        # 255 is above 1, where the weight would be that of a pixel near a centre.
        away = (1 - heat).clamp(min=0) ** 4
        miss = away * chance**2 * functional.logsigmoid(-logits) * (y < CENTRE)
        return -(hit + miss).sum() / max(total_weight, 1.0)

def make_loss(settings: Settings, weights: Tensor) -> Loss:
    """The loss of a task. weights: float32 (classes,)."""
    return (PointLoss if settings.task == "points" else Loss)(settings, weights)


def _chances(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (n, classes, h, w), class numbers with 0 where there is none, and where there is one: (n, h, w) each."""
    target = y.long()
    seen = target != IGNORED
    return functional.log_softmax(two_sided(logits), 1), torch.where(seen, target, 0), seen
