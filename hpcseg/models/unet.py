"""U-Net with batch norm and bilinear upsampling (RESFlow, Table II), any widths, bands and classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork


def make_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(SegmentationNetwork):
    """U-Net with L = len(up) poolings.

    down: widths of the encoder's levels, full resolution first. up: widths of the decoder, full resolution last.
    """

    def __init__(self, bands: int, logits: int, down: Sequence[int], up: Sequence[int]) -> None:
        super().__init__()
        if len(down) != len(up) + 1:
            raise ValueError(f"up has {len(up)} widths, wanted {len(down) - 1}: one less than down")
        self.bands, self.down, self.up = bands, list(down), list(up)
        self.encoder = nn.ModuleList(make_block(i, o) for i, o in zip([bands, *down], down, strict=False))
        skips = reversed(down[:-1])
        self.decoder = nn.ModuleList(make_block(below + skip, o) for below, skip, o in zip([down[-1], *up], skips, up, strict=False))
        self.head = nn.Conv2d([*down, *up][-1], logits, 1)
        self.stride = 2 ** len(up)
        # Two 3x3 convolutions a level and bilinear upsampling reach 7 * 2**L - 2 pixels from an aligned core, for L > 1.
        self.halo = {1: 2, 2: 10}.get(self.stride, 7 * self.stride - 2)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        # Layer by layer, so that no caller up the stack keeps an activation longer than it is needed.
        for level, block in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = nn.functional.max_pool2d(x, 2)
            for layer in block.children():
                x = layer(x)
        for block in self.decoder:
            x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = torch.cat([skips.pop(), x], dim=1)
            for layer in block.children():
                x = layer(x)
        return self.head(x)


@torch.no_grad()
def widen(network: UNet, factor: int) -> UNet:
    """A U-Net of `factor` times the width that computes the same function: each hidden channel is repeated, each weight that reads
    repeated channels divided by their number (Net2WiderNet: Chen, Goodfellow, Shlens, ICLR 2016)."""
    down, up = ([width * factor for width in widths] for widths in (network.down, network.up))
    wide = UNet(network.bands, network.head.out_channels, down, up)
    for name, target in wide.state_dict().items():
        source = network.state_dict()[name]
        for axis in range(min(source.ndim, 2)):
            times = target.shape[axis] // source.shape[axis]
            # Inputs of a decoder are two groups of channels, but repeating each channel in place keeps them apart.
            source = source.repeat_interleave(times, axis) / (times if axis == 1 else 1)
        target.copy_(source)
    return wide
