"""The networks that hpcseg brings, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hpcseg.config import Task
from hpcseg.errors import UsageError
from hpcseg.models.convolution import OneConvolution
from hpcseg.models.deeplab import DeepLab
from hpcseg.models.fcn import Fcn
from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.segnet import SegNet
from hpcseg.models.unet import UNet
from hpcseg.models.unet_ice import UNetIce
from hpcseg.models.vgg import VggDeconvolution


class Network(NamedTuple):
    """A class of networks and the options it takes unless model.toml says otherwise."""

    make: Callable[..., SegmentationNetwork]
    options: Mapping[str, Any]
    summary: str


_VGG16 = {"widths": [64, 128, 256, 512, 512], "depths": [2, 2, 3, 3, 3]}

NETWORKS: dict[str, Network] = {
    "unet": Network(UNet, {"down": [64, 128, 256, 512, 512], "up": [256, 128, 64, 64]}, "U-Net of RESFlow, Table II"),
    "segnet": Network(SegNet, _VGG16, "SegNet of RESFlow, Table II: VGG-16 and max-unpooling"),
    "resnet50-fcn": Network(Fcn, {"width": 64, "blocks": [3, 4, 6, 3]}, "FCN of RESFlow, Table II: ResNet-50, scores at three strides"),
    "deeplab": Network(DeepLab, {"width": 64, "blocks": [3, 4, 23, 3], "rates": [6, 12, 18, 24]},
                       "DeepLab of RESFlow, Table II: dilated ResNet-101"),
    "vgg16-deconv": Network(VggDeconvolution, {**_VGG16, "up": [512, 256, 128, 64, 32]}, "VGG-16 with deconvolution layers, for floods"),
    "unet-ice": Network(UNetIce, {"widths": [16, 32, 64, 128, 256, 512], "dropout": [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]},
                        "U-Net with dropout and transposed convolutions, for sea ice"),
    "unet-light": Network(UNet, {"down": [16, 32, 64, 128, 128], "up": [64, 32, 16, 16]}, "U-Net of a quarter of the widths, for CPUs"),
    "one-convolution": Network(OneConvolution, {}, "a single 3x3 convolution, for benchmarks"),
}  # fmt: skip


def count_logits(classes: int, task: Task = "classes") -> int:
    """Outputs of a network of ours: one logit decides between two classes; of points each class has its own."""
    return 1 if classes == 2 and task == "classes" else classes


def build(
    network: str, bands: int, classes: int, options: Mapping[str, Any] | None = None, task: Task = "classes"
) -> SegmentationNetwork:
    """A network with untrained weights, in evaluation mode. Raises UsageError for a name or an option that does not exist."""
    if network not in NETWORKS:
        raise UsageError(f"no network {network!r}; wanted one of {', '.join(NETWORKS)}, or a .pt2 or TorchScript file")
    entry = NETWORKS[network]
    unknown = set(options or {}) - set(entry.options)
    if unknown:
        raise UsageError(f"network {network} has no option {', '.join(sorted(unknown))}; wanted {', '.join(entry.options)}")
    try:
        made = entry.make(bands, count_logits(classes, task), **{**entry.options, **(options or {})})
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"network {network}: {error}") from error
    made.name = network
    return made.eval()
