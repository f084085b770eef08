"""SegNet (RESFlow, Table II; Badrinarayanan, Kendall, Cipolla, TPAMI 39(12), 2017): VGG-16 down, mirrored up by max-unpooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from hpcseg.models.network import SegmentationNetwork, start_for_relu
from hpcseg.models.reach import Span, halo_of, needs, needs_of_all
from hpcseg.models.vgg import Vgg, convolutions


class IndexPool(nn.Module):
    """The largest of 2x2 pixels, and where it was: (values, flat indices)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return functional.max_pool2d(x, 2, return_indices=True)

    def needs(self, span: Span) -> Span:
        return Span(2 * span.first, 2 * span.last + 1)


class SegNet(SegmentationNetwork):
    """widths, depths: of the encoder's levels; the decoder mirrors them, and its last convolution is the head, 1x1.

    Max-unpooling puts a value where the largest of four was, so windows join where their origins are aligned to the stride, which
    hpcseg's are. Where two of the four are equal but for rounding (zeros after ReLU above all), windows of other sizes may choose another
    one: there a few logits differ by more than rounding.
    """

    def __init__(self, bands: int, logits: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Vgg(bands, widths, depths, norm=True, pool=IndexPool)
        mirrored = [[width] * depth + [below] for width, below, depth in zip(widths[:0:-1], widths[-2::-1], depths[:0:-1], strict=True)]
        # The convolution that would mirror the first one, from its width to the bands, gives way to the head.
        mirrored.append([widths[0]] * depths[0])
        self.decoder = nn.ModuleList(nn.Sequential(*convolutions(chain, norm=True)) for chain in mirrored)
        start_for_relu(self.decoder)
        self.head = nn.Conv2d(widths[0], logits, 1)
        self.stride = 2 ** len(widths)
        self.halo = halo_of(self.needs, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for layer in self.encoder:
            if isinstance(layer, IndexPool):
                x, place = layer(x)
                places.append(place)
            else:
                x = layer(x)
        for level in self.decoder:
            x = functional.max_unpool2d(x, places.pop(), (2, 2))
            for layer in level.children():
                x = layer(x)
        return self.head(x)

    def needs(self, span: Span) -> Span:
        known, places = needs(self.head, span), []
        for level in reversed(self.decoder):
            known = needs_of_all(level.children(), known)
            known = Span(known.first // 2, known.last // 2)
            places.append(known)
        for layer in reversed(self.encoder):
            if isinstance(layer, IndexPool):
                known = known | places.pop()
            known = needs(layer, known)
        return known
