"""What a network costs: parameters and operations."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.registry import build

_EDGE = 256


def trainable_parameters(network: nn.Module) -> int:
    """Number of parameters that training would change."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def operations_per_pixel(network: nn.Module, bands: int, edge: int = _EDGE) -> float:
    """Floating-point operations for each pixel of a window, a multiplication and an addition counted as two.

    edge: of the window, for networks that take only one. Networks of ours are not run: shapes are enough to count.
    """
    own = isinstance(network, SegmentationNetwork)
    network = copy.deepcopy(network).to("meta") if own else network
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(torch.zeros(1, bands, edge, edge, device="meta" if own else "cpu"))
    return counter.get_total_flops() / edge**2


def outline(network: str, bands: int, classes: int) -> SegmentationNetwork:
    """A network of ours without memory for its weights, to be asked what it is and costs. Raises UsageError."""
    with torch.device("meta"):
        return build(network, bands, classes)
