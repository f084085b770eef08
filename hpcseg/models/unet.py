"""U-Net with batch norm and bilinear upsampling (RESFlow, Table II), any widths, bands and classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Input (N, bands, H, W) with H and W multiples of `stride`; output logits (N, logits, H, W).

    down: widths of the encoder's levels, full resolution first. up: widths of the decoder, full resolution last.
    """

    def __init__(self, bands: int, logits: int, down: Sequence[int], up: Sequence[int]) -> None:
        super().__init__()
        if len(down) != len(up) + 1:
            raise ValueError(f"up has {len(up)} widths, wanted {len(down) - 1}: one less than down")
        self.encoder = nn.ModuleList(block(i, o) for i, o in zip([bands, *down], down, strict=False))
        skips = reversed(down[:-1])
        self.decoder = nn.ModuleList(block(below + skip, o) for below, skip, o in zip([down[-1], *up], skips, up, strict=False))
        self.head = nn.Conv2d(up[-1], logits, 1)
        self.stride = 2 ** len(up)

    @property
    def halo(self) -> int:
        """Pixels beyond the core that its logits depend on, at origins aligned to the stride: 7 * 2**L - 5 for L poolings."""
        return 7 * self.stride - 5 if self.stride > 1 else 2

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, convolve in enumerate(self.encoder):
            x = convolve(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for convolve in self.decoder:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = convolve(torch.cat([skips.pop(), x], dim=1))
        return self.head(x)
