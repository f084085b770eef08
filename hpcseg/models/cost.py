"""What a network costs: parameters and operations."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_EDGE = 256


def trainable_parameters(network: nn.Module) -> int:
    """Number of parameters that training would change."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def operations_per_pixel(network: nn.Module, bands: int) -> float:
    """Floating-point operations for each pixel of a window, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(torch.zeros(1, bands, _EDGE, _EDGE))
    return counter.get_total_flops() / _EDGE**2
