"""U-Net with batch norm and bilinear upsampling (RESFlow, Table II), any widths, bands and classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork


def upsample(x: Tensor) -> Tensor:
    """Twice the height and width, bilinear."""
    return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class JoinConvolution(nn.Conv2d):
    """A convolution of a skip connection and of what comes from below, upsampled, side by side: `skip` channels, then the others.

    Takes the last of the skips off their list, so that no caller up the stack keeps it longer than it is needed.
    """

    def __init__(self, skip: int, below: int, outputs: int) -> None:
        super().__init__(skip + below, outputs, 3, padding=1)
        self.skip = skip

    def forward(self, skips: list[Tensor], below: Tensor) -> Tensor:  # type: ignore[override]  # two inputs where others have one
        return super().forward(torch.cat([skips.pop(), upsample(below)], dim=1))


def make_block(first: nn.Conv2d) -> nn.Sequential:
    """Two 3x3 convolutions, the first as given, each with batch norm and ReLU."""
    outputs = first.out_channels
    return nn.Sequential(
        first, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
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
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(
            make_block(nn.Conv2d(i, o, 3, padding=1)) for i, o in zip([bands, *down], down, strict=False)
        )
        skips = reversed(down[:-1])
        self.decoder = nn.ModuleList(
            make_block(JoinConvolution(skip, below, o)) for skip, below, o in zip(skips, [down[-1], *up], up, strict=False)
        )
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
                x = self.pool(x)
            for layer in block.children():
                x = layer(x)
        for block in self.decoder:
            join, *layers = block.children()
            x = join(skips, x)
            for layer in layers:
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
