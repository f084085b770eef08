"""A network made ready to run: batch norm folded into its convolutions, ReLU fused with them on CPUs, one precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hpcseg.models.model import Model

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ConvolutionRelu(nn.Module):
    """A convolution and the ReLU after it in one oneDNN call: the activation is not read and written once more."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        c = self.convolution
        return torch.ops.mkldnn._convolution_pointwise(
            x, c.weight, c.bias, c.padding, c.stride, c.dilation, c.groups, "relu", [], ""
        )


def fold(network: nn.Module, fuse_relu: bool) -> nn.Module:
    """Fold each batch norm of a Sequential into the convolution before it, and its ReLU too if `fuse_relu`; in place."""
    for block in list(network.modules()):
        if not isinstance(block, nn.Sequential):
            continue
        layers: list[nn.Module] = []
        for layer in block:
            before = layers[-1] if layers else None
            if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                layers[-1] = fuse_conv_bn_eval(before, layer)
            elif isinstance(layer, nn.ReLU) and isinstance(before, nn.Conv2d) and fuse_relu:
                layers[-1] = ConvolutionRelu(before)
            else:
                layers.append(layer)
        block._modules = {str(k): layer for k, layer in enumerate(layers)}
    return network


def for_inference(
    model: Model, device: torch.device, precision: Precision, compile_it: bool = False
) -> Callable[[Tensor], Tensor]:
    """The network as a function of a channels-last batch (N, bands, H, W) in the precision's type; gives logits in that type."""
    if model.found is not None:
        return _foreign(model.network.to(device), device, precision)
    network = copy.deepcopy(model.network).eval().requires_grad_(False)
    network = fold(network, fuse_relu=device.type == "cpu").to(device, DTYPES[precision])
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
    return torch.compile(network) if compile_it else network


def _foreign(network: nn.Module, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    """Any network: its weights stay as they are, autocast chooses the precision of each operation."""

    def run(x: Tensor) -> Tensor:
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            return network(x.float())

    return run
