"""DeepLab (RESFlow, Table II; Chen et al., TPAMI 40(4), 2018, version 2): a dilated ResNet-101 and four dilated branches, summed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.reach import Span, halo_of, needs
from hpcseg.models.resnet import ResNet, Style


class Branches(nn.ModuleList):
    """Parallel 3x3 convolutions to scores, one a rate of dilation, summed."""

    def __init__(self, features: int, scores: int, rates: Sequence[int]) -> None:
        super().__init__(nn.Conv2d(features, scores, 3, padding=rate, dilation=rate) for rate in rates)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self
        total = first(x)
        for branch in others:
            total = total + branch(x)
        return total

    def needs(self, span: Span) -> Span:
        first, *others = (needs(branch, span) for branch in self)
        for other in others:
            first = first | other
        return first


class OneLogit(nn.Module):
    """Two scores to the one logit that has the same probabilities: the softmax of two scores is the sigmoid of their difference."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores[:, 1:] - scores[:, :1]


class DeepLab(SegmentationNetwork):
    """Scores at stride 8, upsampled bilinearly. At the paper's settings its halo is 709 pixels (712 aligned): 368 of them are the
    third stage's 23 dilated blocks, 192 the widest branch; a core of the same edge would cost nine times its area.

    width, blocks: of the encoder (`ResNet`). rates: dilations of the branches. Batch norm has no trainable scale and shift; training
    from scratch updates its statistics, fine-tuning keeps them.
    """

    stride = 8
    per_class = ("decoder",)
    fixed_when_tuned = frozenset({"encoder"})

    def __init__(self, bands: int, logits: int, width: int, blocks: Sequence[int], rates: Sequence[int]) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise ValueError(f"rates is {list(rates)}, wanted at least one dilation of 1 or more")
        self.encoder = ResNet(bands, width, blocks, Style(affine=False, dilated=True))
        self.decoder = Branches(self.encoder.widths[-1], max(2, logits), rates)
        to_logits = OneLogit() if logits == 1 else nn.Identity()
        self.head = nn.Sequential(to_logits, nn.Upsample(scale_factor=8, mode="bilinear"))
        self.halo = halo_of(self.needs, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(x)[-1]))

    def needs(self, span: Span) -> Span:
        known = needs(self.decoder, needs(self.head, span))
        return self.encoder.needs(known, known, known)
