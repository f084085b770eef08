"""Detectors whose heat tests know: each pixel's is the sigmoid of its own value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
    spec = ModelSpec(**{"network": "network.pt", "bands": kinds, "classes": classes, "normalisation": norm, "task": "points",
                        "sigma": 1.5, "threshold": 0.5} | keys)  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "model.toml").write_bytes(encode_toml(spec))
    torch.jit.script(network).save(str(folder / "network.pt"))
    return folder


@pytest.fixture(scope="session")
def make_detector() -> Callable[..., Path]:
    """make_detector(folder, kinds=1, **keys of model.toml) writes such a model and returns its folder."""
    return write_detector


def heat_of(pixels: np.ndarray) -> np.ndarray:
    """What the detector makes of pixels."""
    return np.round(254 / (1 + np.exp(-(pixels.astype(float) - 127) / 20))).astype(np.uint8)
