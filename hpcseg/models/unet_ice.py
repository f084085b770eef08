"""The U-Net of the sea-ice teacher's students: dropout instead of batch norm, transposed convolutions (arXiv 2403.13135)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork, start_for_relu
from hpcseg.models.reach import Span, halo_of, needs


def make_level(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU, dropout between them."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout(dropout),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip


class Ascent(nn.Module):
    """One level up: a transposed convolution, joined to the skip connection, and two convolutions."""

    def __init__(self, below: int, width: int, dropout: float) -> None:
        super().__init__()
        self.lift = nn.ConvTranspose2d(below, width, 2, stride=2)
        self.level = make_level(2 * width, width, dropout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.level(torch.cat([skip, self.lift(x)], dim=1))


class UNetIce(SegmentationNetwork):
    """widths: of the levels, full resolution first; a pooling between each two. dropout: share of channels' pixels dropped in training,
    a level each, the same down and up."""

    def __init__(self, bands: int, logits: int, widths: Sequence[int], dropout: Sequence[float]) -> None:
        super().__init__()
        if not widths or len(dropout) != len(widths):
            raise ValueError(f"dropout has {len(dropout)} shares, wanted {len(widths)}: one for each of the widths")
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(make_level(*each) for each in zip([bands, *widths], widths, dropout, strict=False))
        self.decoder = nn.ModuleList(Ascent(widths[k + 1], widths[k], dropout[k]) for k in reversed(range(len(widths) - 1)))
        start_for_relu(self)
        self.head = nn.Conv2d(widths[0], logits, 1)
        self.stride = 2 ** (len(widths) - 1)
        self.halo = halo_of(self.needs, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.encoder
        x, skips = first(x), []
        for level in others:
            skips.append(x)
            x = level(self.pool(x))
        for ascent in self.decoder:
            x = ascent(x, skips.pop())
        return self.head(x)

    def needs(self, span: Span) -> Span:
        known, skips = needs(self.head, span), []
        for ascent in reversed(self.decoder):
            lift, level = ascent.children()
            known = needs(level, known)
            skips.append(known)
            known = needs(lift, known)
        first, *others = self.encoder
        for level in reversed(others):
            known = needs(self.pool, needs(level, known)) | skips.pop()
        return needs(first, known)
