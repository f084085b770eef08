"""What a foreign network needs around a core, found by trying: no layer is looked at, so any network can be probed.

Two tests on random windows. Shift: the same content, moved by s pixels within the window, must give the same logits, moved; the
smallest s for which it does is the stride. Reach: content changed beyond a distance h from a core must not change its logits; the
smallest such h is the halo. A network that fails the shift test for every s (align_corners=True, instance or group norm, global
pooling) gives a map that depends on its tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hpcseg.errors import UsageError

_STRIDES = (1, 2, 4, 8, 16, 32, 64)
_WINDOW = 768
_CORE = 128
# Rounding moves logits by about 2e-6 of their deviation when content moves; content out of reach moves them by nothing at all.
_TOLERANCE = 1e-5


class Probe(NamedTuple):
    """stride: 0 if none was found. halo: a multiple of the stride. difference: largest change of a logit in the best shift test,
    relative to the logits' deviation. logits: outputs per pixel."""

    stride: int
    halo: int
    difference: float
    logits: int


def probe(network: Callable[[Tensor], Tensor], bands: int, window: int = 0, batch: int = 0) -> Probe:
    """Probe a network (N, bands, H, W) -> (N, logits, H, W). window, batch: the only shape it takes, 0 = any. Raises UsageError."""
    size, generator = window or _WINDOW, torch.Generator().manual_seed(20240501)

    def run(x: Tensor) -> Tensor:
        try:
            with torch.inference_mode():
                out = network(x.expand(max(1, batch), -1, -1, -1).contiguous())
        except (RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"the network fails on an input of {bands}x{size}x{size}: {' '.join(str(error).split())[:300]}"
            ) from error
        if not isinstance(out, Tensor) or out.ndim != 4 or out.shape[-2:] != x.shape[-2:]:
            given = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise UsageError(f"the network gives {given} for an input of {tuple(x.shape)}, wanted (N, logits, {size}, {size})")
        return out[0].float()

    field = torch.randn(bands, size + _STRIDES[-1], size + _STRIDES[-1], generator=generator)
    base = field[None, :, :size, :size]
    logits = run(base)
    scale = float(logits.std()) or 1.0
    halo = _reach(run, base, logits, generator)
    stride, difference = _shift(run, field, logits, scale, min(halo, size // 2 - 8))
    step = stride or 1
    return Probe(stride, -(-halo // step) * step, difference, logits.shape[0])


def _shift(run: Callable[[Tensor], Tensor], field: Tensor, logits: Tensor, scale: float, margin: int) -> tuple[int, float]:
    """The smallest stride at which shifted content gives shifted logits away from the window's border, 0 if none; the difference."""
    size, best = logits.shape[-1], float("inf")
    for s in _STRIDES:
        moved = run(field[None, :, s : s + size, s : s + size])
        # The halo is that of aligned cores: pixels between two aligned origins see up to s - 1 pixels more on one side.
        border = -(-margin // s) * s
        keep = slice(border + s, size - border)
        back = slice(border, size - border - s)
        if keep.stop <= keep.start:
            break
        difference = float((logits[:, keep, keep] - moved[:, back, back]).abs().max()) / scale
        best = min(best, difference)
        if difference <= _TOLERANCE:
            return s, difference
    return 0, best


def _reach(run: Callable[[Tensor], Tensor], base: Tensor, logits: Tensor, generator: torch.Generator) -> int:
    """The smallest distance from a core beyond which content does not matter, to 8 pixels; half the window if there is none."""
    size = base.shape[-1]
    core = min(_CORE, size // 4)
    first = (size - core) // 2 // 64 * 64
    inner = slice(first, first + core)

    def matters(h: int) -> bool:
        other = 3 * torch.randn(base.shape, generator=generator)
        kept = slice(max(0, first - h), first + core + h)
        other[..., kept, kept] = base[..., kept, kept]
        return not torch.equal(run(other)[:, inner, inner], logits[:, inner, inner])

    low, high = -1, (size - core) // 16
    if matters(8 * (high - 1)):
        return 8 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if matters(8 * middle) else (low, middle)
    return 8 * high
