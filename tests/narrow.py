"""Every network of ours at a width and depth that a test can afford."""

from __future__ import annotations

import torch
from torch import nn

from hpcseg.models import build
from hpcseg.models.network import SegmentationNetwork

OPTIONS = {
    "unet": {"down": [8, 8, 8], "up": [8, 8]},
    "segnet": {"widths": [8, 8, 8], "depths": [1, 2, 2]},
    "resnet50-fcn": {"width": 4, "blocks": [1, 1, 1, 1]},
    "deeplab": {"width": 2, "blocks": [1, 1, 1, 1], "rates": [1, 2]},
    "vgg16-deconv": {"widths": [8, 8, 8], "depths": [1, 1, 2], "up": [8, 8, 8]},
    "unet-ice": {"widths": [8, 8, 8], "dropout": [0.1, 0.1, 0.2]},
    "unet-light": {"down": [8, 8], "up": [8]},
    "one-convolution": {},
}


def make_narrow(name: str, bands: int = 3, classes: int = 2, seed: int = 0) -> SegmentationNetwork:
    """A narrow network with random weights, in evaluation mode; its batch norm knows the statistics of normal noise."""
    torch.manual_seed(seed)
    network = build(name, bands, classes, OPTIONS[name])
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for layer in network.modules():
            if getattr(layer, "bias", None) is not None:
                layer.bias.uniform_(-0.1, 0.1)
        for norm in norms:
            norm.momentum = 1.0
            if norm.affine:
                norm.weight.uniform_(0.7, 1.3)
        network.train()(torch.randn(2, bands, 128, 128))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()
