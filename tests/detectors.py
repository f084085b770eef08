"""Detectors whose heat tests know, each pixel's the sigmoid of its own value, a model of classes alike, and scenes of spots for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from hpcseg.config import Class, ModelSpec, Normalisation, encode_toml

COLORS = ("#b5483a", "#4a6fa5")


def write_detector(folder: Path, kinds: int = 1, **keys: Any) -> Path:
    """A model folder: band k of a scene, 0 to 254, becomes the heat of class k, by the sigmoid of (value - 127) / 20."""
    network = nn.Conv2d(kinds, kinds, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.eye(kinds)[:, :, None, None])
    classes = [Class(name=name, color=color) for name, color in zip(("seal", "bear"), COLORS, strict=True)][:kinds]
    norm = Normalisation(mean=[127.0] * kinds, std=[20.0] * kinds)
    spec = {"classes": classes, "normalisation": norm, "task": "points", "sigma": 1.5, "threshold": 0.5}
    return _write_model(folder, network, spec | keys)


def write_labeller(folder: Path, kinds: int = 1, **keys: Any) -> Path:
    """A model folder that labels pixels: ground, or the kind whose band is brightest, where that is above 127."""
    network = nn.Conv2d(kinds, kinds + 1, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.eye(kinds + 1)[:, 1:, None, None])
    classes = [Class(name=name, color=color) for name, color in zip(("ground", "seal", "bear"), ("#dfe6d8", *COLORS), strict=True)]
    norm = Normalisation(mean=[127.0] * kinds, std=[20.0] * kinds)
    return _write_model(folder, network, {"classes": classes[: kinds + 1], "normalisation": norm} | keys)


def _write_model(folder: Path, network: nn.Conv2d, keys: dict[str, Any]) -> Path:
    spec = ModelSpec(**{"network": "network.pt", "bands": network.in_channels} | keys)
    folder.mkdir(parents=True)
    (folder / "model.toml").write_bytes(encode_toml(spec))
    torch.jit.script(network).save(str(folder / "network.pt"))
    return folder


def planted(height: int, width: int, points: Sequence[tuple[int, int]]) -> np.ndarray:
    """A band (1, height, width) of 10 with bright spots that fade over two pixels."""
    spots = np.zeros((height, width))
    spots[tuple(np.transpose(points))] = 1
    near = ndimage.maximum_filter(spots, footprint=ndimage.generate_binary_structure(2, 1))
    return np.where(spots > 0, 250, np.where(near > 0, 160, 10))[None]
