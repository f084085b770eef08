"""ResNet50-FCN (RESFlow, Table II; Long, Shelhamer, Darrell, CVPR 2015): scores at three strides, summed while upsampling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.reach import Span, halo_of, needs
from hpcseg.models.resnet import ResNet, Style


class Fcn(SegmentationNetwork):
    """A ResNet with biased convolutions, 1x1 scores of each class at strides 8, 16 and 32, and a 1x1 convolution of their sum.

    width, blocks: of the encoder (`ResNet`). Two classes have two scores, from which the head makes the one logit.
    """

    stride = 32
    per_class = ("decoder", "head")

    def __init__(self, bands: int, logits: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        scores = max(2, logits)
        self.encoder = ResNet(bands, width, blocks, Style(bias=True))
        self.decoder = nn.ModuleList(nn.Conv2d(features, scores, 1) for features in self.encoder.widths[1:])
        self.twice = nn.Upsample(scale_factor=2, mode="bilinear")
        # A 1x1 convolution and an upsampling commute: first the convolution, on a 64th of the pixels.
        self.head = nn.Sequential(nn.Conv2d(scores, logits, 1), nn.Upsample(scale_factor=8, mode="bilinear"))
        self.halo = halo_of(self.needs, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        fine, middle, coarse = (score(features) for score, features in zip(self.decoder, self.encoder(x), strict=True))
        return self.head(fine + self.twice(middle + self.twice(coarse)))

    def needs(self, span: Span) -> Span:
        fine = needs(self.head, span)
        middle = needs(self.twice, fine)
        return self.encoder.needs(fine, middle, needs(self.twice, middle))
