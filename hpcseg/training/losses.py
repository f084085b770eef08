"""Losses as sums over labelled pixels, so that any number of ranks and parts of a batch add up to the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hpcseg.training.settings import Settings

IGNORED = 255
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
    """The sum of the losses that settings name, over the labelled pixels of all ranks.

    cross-entropy: mean of w_y * -log p_y (weights w by class). focal: the same times (1 - p_y) ** gamma (Lin et al., ICCV 2017).
    dice: 1 - mean over the classes of (2 sum p g + 1) / (sum p + sum g + 1) (Milletari et al., 3DV 2016, with sums to the power 1).
    """

    def __init__(self, settings: Settings, weights: Tensor, add_up: Callable[[Tensor], Tensor], size: int) -> None:
        """weights: float32 (classes,). add_up: sums a detached float64 tensor over all ranks. size: their number."""
        self._terms, self._gamma, self._weights, self._add_up, self._size = settings.loss, settings.gamma, weights, add_up, size

    def __call__(self, logits: Tensor, y: Tensor, total_weight: float) -> Tensor:
        """A scalar whose gradient, summed over ranks, is that of the global loss; its value, summed over ranks, is the loss itself.

        logits: (n, c, h, w). y: u8 (n, h, w). total_weight: of all labelled pixels of all ranks and parts of the batch.
        """
        scores, target = two_sided(logits), y.long()
        chances = functional.log_softmax(scores, 1)
        seen = target != IGNORED
        own = torch.where(seen, target, 0)
        weight = self._weights[own] * seen
        picked = chances.gather(1, own[:, None])[:, 0]
        loss = chances.sum() * 0.0
        for term in self._terms:
            if term == "dice":
                loss = loss + self._dice(chances.exp(), own, seen)
            else:
                focus = (1 - picked.exp()) ** self._gamma if term == "focal" else 1.0
                loss = loss - (weight * focus * picked).sum() / max(total_weight, 1e-12)
        return loss

    def idle(self) -> Tensor:
        """What a rank without samples adds: nothing, but it must take part in the sums."""
        zero = torch.zeros(2, len(self._weights), dtype=torch.float64, device=self._weights.device)
        return self._dice_of(zero) if "dice" in self._terms else zero.sum()

    def _dice(self, chances: Tensor, own: Tensor, seen: Tensor) -> Tensor:
        truth = functional.one_hot(own, chances.shape[1]).movedim(-1, 1) * seen[:, None]
        chances = chances * seen[:, None]
        return self._dice_of(torch.stack([v.double().sum((0, 2, 3)) for v in (chances * truth, chances + truth)]))

    def _dice_of(self, sums: Tensor) -> Tensor:
        """The Dice loss of the global sums, whose gradient flows through this rank's own part of them. sums: float64 (2, classes)."""
        whole = self._add_up(sums.detach())
        sums = sums + (whole - sums.detach())
        dice = 1 - ((2 * sums[0] + _SMOOTH) / (sums[1] + _SMOOTH)).mean()
        # Its value is the same on all ranks, its gradient is a part of the whole on each: let both add up to the whole.
        return dice - dice.detach() * (1 - 1 / self._size)
