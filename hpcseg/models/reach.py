"""How far a layer sees: which pixels of its input some pixels of its output depend on, from its kernel, stride and dilation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import NamedTuple, Protocol, runtime_checkable

from torch import nn


class Span(NamedTuple):
    """Rows, or columns, from `first` to `last`, both of them included; pixel 0 is the first of a core at an aligned origin."""

    first: int
    last: int

    def __or__(self, other: tuple[int, int]) -> Span:  # type: ignore[override]  # of tuples, which have none
        """The shortest span that covers both."""
        return Span(min(self.first, other[0]), max(self.last, other[1]))


@runtime_checkable
class Reaching(Protocol):
    """A layer of ours that says itself what it needs."""

    def needs(self, span: Span) -> Span: ...


def needs(layer: nn.Module, span: Span) -> Span:
    """The span of a layer's input that `span` of its output depends on. Layers without a kernel act on each pixel alone."""
    match layer:
        case nn.Sequential():
            return needs_of_all(layer, span)
        case nn.Conv2d():
            return _window(span, layer.kernel_size[0], layer.stride[0], layer.dilation[0], int(layer.padding[0]))
        case nn.MaxPool2d():
            return _window(span, *(int(n) for n in (layer.kernel_size, layer.stride, layer.dilation, layer.padding)))  # type: ignore[arg-type]  # ours are square
        case nn.ConvTranspose2d():
            return _transposed(span, layer.kernel_size[0], layer.stride[0])
        case nn.Upsample():
            return _upsampled(span, int(layer.scale_factor), layer.mode)  # type: ignore[arg-type]  # ours have one whole factor
    return layer.needs(span) if isinstance(layer, Reaching) else span


def needs_of_all(layers: Iterable[nn.Module], span: Span) -> Span:
    """The same for layers that follow each other."""
    return reduce(lambda known, layer: needs(layer, known), reversed(list(layers)), span)


def _window(span: Span, kernel: int, stride: int, dilation: int, padding: int) -> Span:
    first = span.first * stride - padding
    return Span(first, span.last * stride - padding + dilation * (kernel - 1))


def _transposed(span: Span, kernel: int, stride: int) -> Span:
    return Span(-(-(span.first - kernel + 1) // stride), span.last // stride)


def _upsampled(span: Span, factor: int, mode: str) -> Span:
    """Bilinear: pixel o lies at (o + 1/2) / factor - 1/2 of the input, between two pixels."""
    if mode == "nearest":
        return Span(span.first // factor, span.last // factor)
    first, last = ((2 * pixel + 1 - factor) // (2 * factor) for pixel in span)
    return Span(first, last + 1)


def halo_of(needed: Callable[[Span], Span], stride: int) -> int:
    """Pixels beyond a core at an aligned origin that its logits depend on: `needed` goes from the logits to the input."""
    found = needed(Span(0, stride - 1))
    return max(-found.first, found.last - (stride - 1), 0)
