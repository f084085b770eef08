"""VGG without its top as an encoder (Simonyan, Zisserman, ICLR 2015), and VGG-16 with deconvolution layers, for flood maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork, start_for_relu
from hpcseg.models.reach import Span, halo_of, needs_of_all


def check_levels(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Raises ValueError unless each level has a width and a number of convolutions."""
    if not widths or len(widths) != len(depths) or min(depths) < 1:
        raise ValueError(f"depths is {list(depths)}, wanted a number of at least 1 for each of the widths {list(widths)}")


def convolutions(widths: Sequence[int], norm: bool) -> list[nn.Module]:
    """3x3 convolutions from each width to the next, with ReLU, and with batch norm before it if `norm`."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU(inplace=True)]
    return layers


class Vgg(nn.Sequential):
    """Levels of convolutions, a pooling after each: layer for layer torchvision's `features`.

    widths: of the levels. depths: their numbers of convolutions. norm: with batch norm. pool: makes a pooling of 2x2 pixels.
    """

    def __init__(
        self, bands: int, widths: Sequence[int], depths: Sequence[int], norm: bool, pool: Callable[[], nn.Module]
    ) -> None:
        check_levels(widths, depths)
        layers: list[nn.Module] = []
        for inputs, width, depth in zip([bands, *widths], widths, depths, strict=False):
            layers += [*convolutions([inputs, *[width] * depth], norm), pool()]
        super().__init__(*layers)
        start_for_relu(self)

    @staticmethod
    def torchvision_name(name: str) -> str:
        """The name in torchvision's layout of a tensor of this encoder."""
        return f"features.{name}"


class VggDeconvolution(SegmentationNetwork):
    """VGG-16 without its top, then padding, convolution, normalisation and upsampling until the input's size is reached
    (flood mapping on Sentinel-1, slide "Detection at scale: model").

    widths, depths: of the encoder's levels. up: widths of the decoder's layers, as many as levels. The slides name no activation, which
    would leave the decoder linear: here each layer has ReLU. The head is a 3x3 convolution, so that the last upsampling, which repeats
    pixels, leaves no blocks of 2x2 in the map.
    """

    def __init__(self, bands: int, logits: int, widths: Sequence[int], depths: Sequence[int], up: Sequence[int]) -> None:
        super().__init__()
        if len(up) != len(widths):
            raise ValueError(f"up has {len(up)} widths, wanted {len(widths)}: one for each pooling")
        self.encoder = Vgg(bands, widths, depths, norm=False, pool=lambda: nn.MaxPool2d(2))
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([widths[-1], *up]):
            layers += [*convolutions([inputs, outputs], norm=True), nn.Upsample(scale_factor=2, mode="nearest")]
        self.decoder = nn.Sequential(*layers)
        start_for_relu(self.decoder)
        self.head = nn.Conv2d(up[-1], logits, 3, padding=1)
        self.stride = 2 ** len(widths)
        self.halo = halo_of(self.needs, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(x)))

    def needs(self, span: Span) -> Span:
        return needs_of_all((self.encoder, self.decoder, self.head), span)
