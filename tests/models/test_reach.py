"""How far layers see, said by their numbers, against what gradients find."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpcseg.models import build
from hpcseg.models.reach import Span, halo_of, needs

EDGE, LENGTH = 384, 32


class Means(nn.AvgPool2d):
    """A pooling through which gradients reach all pixels, not just the largest."""


def seen(network, span, edge=EDGE):
    """First and last row of the input that rows `span` of the output depend on, counted from the middle."""
    x = torch.ones(1, 1, edge, LENGTH, dtype=torch.float64, requires_grad=True)
    out = network(x)
    middle = edge // 2 * out.shape[2] // edge
    out[:, :, middle + span.first : middle + span.last + 1].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    return Span(int(rows.min()) - edge // 2, int(rows.max()) - edge // 2)


def plainly_positive(network):
    """Weights by which every path counts: positive, adding up to 1; means instead of largest values."""
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                layer.weight.fill_(1 / layer.weight[0].numel())
                if layer.bias is not None:
                    layer.bias.zero_()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, Means(child.kernel_size, child.stride, child.padding))
    return network.double().eval()


@pytest.mark.parametrize("span", [Span(0, 7), Span(-3, 4), Span(5, 5)], ids=str)
@pytest.mark.parametrize(
    ("layer", "twin"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), None),
        (nn.Conv2d(1, 1, 1), None),
        (nn.Conv2d(1, 1, 3, padding=6, dilation=6), None),
        (nn.Conv2d(1, 1, 7, stride=2, padding=3), None),
        (nn.Conv2d(1, 1, 3, stride=2, padding=2, dilation=2), None),
        (nn.MaxPool2d(2), Means(2)),
        (nn.MaxPool2d(3, 2, 1), Means(3, 2, 1)),
        (nn.ConvTranspose2d(1, 1, 2, stride=2), None),
        (nn.Upsample(scale_factor=2, mode="nearest"), None),
        (nn.Upsample(scale_factor=2, mode="bilinear"), None),
        (nn.Upsample(scale_factor=8, mode="bilinear"), None),
        (nn.ReLU(), None),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 5, stride=2, padding=2)), None),
        (nn.Sequential(), None),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_needs_what_gradients_reach(layer, twin, span):
    assert needs(layer, span) == seen(plainly_positive(twin or layer), span)


def test_two_spans_join_into_the_shortest_that_covers_both():
    assert Span(-2, 3) | Span(0, 9) == Span(-2, 9)


@pytest.mark.parametrize(("span", "halo"), [(Span(-3, 7), 3), (Span(-3, 12), 5), (Span(1, 6), 0)])
def test_the_halo_is_the_longer_side(span, halo):
    assert halo_of(lambda core: span, 8) == halo


@pytest.mark.parametrize(
    ("name", "options", "edge"),
    [
        ("resnet50-fcn", {"width": 1}, 640),
        ("deeplab", {"width": 1}, 1536),
        ("vgg16-deconv", {"widths": [1] * 5, "up": [1] * 5}, 448),
        ("unet-ice", {"widths": [1] * 6}, 512),
    ],
)
def test_halos_at_the_published_depth_are_exactly_what_gradients_reach(name, options, edge):
    # Three classes: the two scores of two would cancel where all weights are alike.
    network = plainly_positive(build(name, 1, 3, options))
    found = seen(network, Span(0, network.stride - 1), edge)
    assert network.halo == max(-found.first, found.last - network.stride + 1)
