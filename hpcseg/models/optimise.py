"""A network made ready to run, in one precision: batch norm folded into its convolutions; on CPUs ReLU fused with them, joined inputs
convolved apart and poolings of 2x2 pixels taken pairwise, so that activations are touched as seldom as can be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hpcseg.models.model import Model
from hpcseg.models.unet import JoinConvolution, upsample

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


class JoinConvolutionRelu(nn.Module):
    """A convolution of two inputs and its ReLU, without the copy that concatenates them: the second adds onto the first's result.

    A skip is let go before the other input is upsampled: the two and the result never stand in memory at once.
    """

    def __init__(self, convolution: JoinConvolution) -> None:
        super().__init__()
        parts = convolution.weight.tensor_split([convolution.skip], dim=1)
        self.of_skip, self.of_below = (nn.Parameter(part.clone(), requires_grad=False) for part in parts)
        self.convolution = convolution

    def forward(self, skips: list[Tensor], below: Tensor) -> Tensor:
        c = self.convolution
        where = (c.padding, c.stride, c.dilation, c.groups)
        x = torch.ops.mkldnn._convolution_pointwise(skips.pop(), self.of_skip, None, *where, "none", [], "")
        below = upsample(below)
        return torch.ops.mkldnn._convolution_pointwise_.binary(x, below, self.of_below, c.bias, *where, "add", 1.0, "relu", [], "")


class PairwisePool(nn.Module):
    """The largest of 2x2 pixels, faster than torch's pooling, which also looks for where it was."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(x[..., ::2], x[..., 1::2])


def fold(network: nn.Module, for_cpu: bool) -> nn.Module:
    """Fold each batch norm of a Sequential into the convolution before it; with `for_cpu` also what else the module says. In place."""
    for module in list(network.modules()) if for_cpu else ():
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d) and (child.kernel_size, child.stride, child.padding) == (2, 2, 0):
                setattr(module, name, PairwisePool())
    for block in list(network.modules()):
        if not isinstance(block, nn.Sequential):
            continue
        layers: list[nn.Module] = []
        for layer in block:
            before = layers[-1] if layers else None
            if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                layers[-1] = fuse_conv_bn_eval(before, layer)
            elif isinstance(layer, nn.ReLU) and isinstance(before, nn.Conv2d) and for_cpu:
                layers[-1] = JoinConvolutionRelu(before) if isinstance(before, JoinConvolution) else ConvolutionRelu(before)
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
    network = fold(network, for_cpu=device.type == "cpu").to(device, DTYPES[precision])
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
    return torch.compile(network) if compile_it else network


def _foreign(network: nn.Module, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    """Any network: its weights stay as they are, autocast chooses the precision of each operation."""

    def run(x: Tensor) -> Tensor:
        with torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
            return network(x.float())

    return run
