"""ResNet with bottlenecks as an encoder (He, Zhang, Ren, Sun, CVPR 2016), its tensors named as torchvision's but for two prefixes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from hpcseg.models.network import start_for_relu
from hpcseg.models.reach import Span, needs, needs_of_all

EXPANSION = 4


class Style(NamedTuple):
    """bias: of convolutions. affine: batch norm has a trainable scale and shift. dilated: the last two stages keep the resolution
    of the second and dilate their convolutions by 2 and 4 instead (DeepLab)."""

    bias: bool = False
    affine: bool = True
    dilated: bool = False


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the 3x3 one has the stride, as in torchvision."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, style: Style) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.branch = nn.Sequential(OrderedDict(
            conv1=nn.Conv2d(inputs, width, 1, bias=style.bias), bn1=nn.BatchNorm2d(width, affine=style.affine),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=style.bias), bn2=nn.BatchNorm2d(width, affine=style.affine),
            relu2=nn.ReLU(inplace=True),
            conv3=nn.Conv2d(width, outputs, 1, bias=style.bias), bn3=nn.BatchNorm2d(outputs, affine=style.affine),
        ))  # fmt: skip
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=style.bias), nn.BatchNorm2d(outputs, affine=style.affine)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.downsample(x))

    def needs(self, span: Span) -> Span:
        return needs(self.branch, span) | needs(self.downsample, span)


class ResNet(nn.Module):
    """Features of the last three stages, finest first: at strides 8, 16 and 32, or all three at 8 where dilated.

    width: of the first stage's bottlenecks, doubled stage by stage; outputs are four times as wide. blocks: of the four stages.
    """

    def __init__(self, bands: int, width: int, blocks: Sequence[int], style: Style) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks is {list(blocks)}, wanted four numbers of at least 1")
        self.stem = nn.Sequential(OrderedDict(
            conv1=nn.Conv2d(bands, width, 7, 2, 3, bias=style.bias), bn1=nn.BatchNorm2d(width, affine=style.affine),
            relu=nn.ReLU(inplace=True), maxpool=nn.MaxPool2d(3, 2, 1),
        ))  # fmt: skip
        self.widths = [EXPANSION * width * 2**k for k in range(4)]
        strides, dilations = ((1, 2, 1, 1), (1, 1, 2, 4)) if style.dilated else ((1, 2, 2, 2), (1, 1, 1, 1))
        inputs = width
        for k, (count, stride, dilation) in enumerate(zip(blocks, strides, dilations, strict=True)):
            rest = [Bottleneck(self.widths[k], width * 2**k, 1, dilation, style) for _ in range(count - 1)]
            self.add_module(f"layer{k + 1}", nn.Sequential(Bottleneck(inputs, width * 2**k, stride, dilation, style), *rest))
            inputs = self.widths[k]
        start_for_relu(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stem, first, second, third, fourth = self.children()
        fine = second(first(stem(x)))
        middle = third(fine)
        return fine, middle, fourth(middle)

    def needs(self, fine: Span, middle: Span, coarse: Span) -> Span:
        """The span of the input that spans of the three features depend on."""
        *before, third, fourth = self.children()
        return needs_of_all(before, needs(third, needs(fourth, coarse) | middle) | fine)

    @staticmethod
    def torchvision_name(name: str) -> str:
        """The name in torchvision's layout of a tensor of this encoder."""
        return name.removeprefix("stem.").replace(".branch.", ".")
