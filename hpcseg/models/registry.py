"""The networks that hpcseg brings, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hpcseg.errors import UsageError
from hpcseg.models.convolution import OneConvolution
from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.unet import UNet


class Network(NamedTuple):
    """A class of networks and the options it takes unless model.toml says otherwise."""

    make: Callable[..., SegmentationNetwork]
    options: Mapping[str, Any]
    summary: str


NETWORKS: dict[str, Network] = {
    "unet": Network(UNet, {"down": [64, 128, 256, 512, 512], "up": [256, 128, 64, 64]}, "U-Net of RESFlow, Table II"),
    "one-convolution": Network(OneConvolution, {}, "a single 3x3 convolution, for benchmarks"),
    "unet-light": Network(UNet, {"down": [16, 32, 64, 128, 128], "up": [64, 32, 16, 16]}, "U-Net of a quarter of the widths, for CPUs"),
}  # fmt: skip


def count_logits(classes: int) -> int:
    """Outputs of a network of ours: one logit decides between two classes."""
    return 1 if classes == 2 else classes


def build(network: str, bands: int, classes: int, options: Mapping[str, Any] | None = None) -> SegmentationNetwork:
    """A network with untrained weights. Raises UsageError for a name or an option that does not exist."""
    if network not in NETWORKS:
        raise UsageError(f"no network {network!r}; wanted one of {', '.join(NETWORKS)}, or a .pt2 or TorchScript file")
    entry = NETWORKS[network]
    unknown = set(options or {}) - set(entry.options)
    if unknown:
        raise UsageError(f"network {network} has no option {', '.join(sorted(unknown))}; wanted {', '.join(entry.options)}")
    try:
        return entry.make(bands, count_logits(classes), **{**entry.options, **(options or {})})
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"network {network}: {error}") from error
