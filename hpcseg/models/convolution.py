"""A single 3x3 convolution: next to no network, so that a benchmark shows all that is not the network."""

from __future__ import annotations

from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork


class OneConvolution(SegmentationNetwork):
    """bands to logits."""

    stride = 1
    halo = 1

    def __init__(self, bands: int, logits: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(bands, logits, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)
