"""Prediction files made from arrays, and truth for them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from hpcseg import store
from hpcseg.georeference import Georeference
from hpcseg.tiles import Grid

COLORS = ("#dfe6d8", "#b5483a", "#4a6fa5", "#e0c068")


def write_map(
    path: Path, labels: np.ndarray, names: tuple[str, ...] = ("ground", "roof"), place: Georeference | None = None, **attributes: str
) -> Path:
    """Write labels, u8 (h, w), as a prediction file whose tiles are all done; returns its path."""
    core = min(256, *labels.shape)
    layout = store.Layout(Grid(*labels.shape, core, 0), core)
    classes = [{"name": name, "color": color} for name, color in zip(names, COLORS, strict=False)]
    path.parent.mkdir(parents=True, exist_ok=True)
    store.create(path, layout, {"core": core, "halo": 0}, {"classes": json.dumps(classes)} | attributes, place or Georeference())
    with h5py.File(path, "r+") as file:
        file["labels"][:] = labels
        file["tiles/status"][:] = store.DONE
    return path


def patches(height: int, width: int, classes: int = 2, seed: int = 0, patch: int = 37) -> np.ndarray:
    """Truth of square patches, u8 (height, width), with some that are not labelled."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (-(-height // patch), -(-width // patch)))
    coarse[rng.random(coarse.shape) < 0.1] = 255
    return np.kron(coarse, np.ones((patch, patch), int))[:height, :width].astype(np.uint8)


def blurred(truth: np.ndarray, classes: int = 2, seed: int = 0) -> np.ndarray:
    """A map of that truth: shifted, with noise and with pixels that are not mapped."""
    rng = np.random.default_rng(seed)
    labels = np.roll(truth, (3, 5), (0, 1))
    noise = rng.random(truth.shape) < 0.05
    labels[noise | (labels == 255)] = rng.integers(0, classes, truth.shape)[noise | (labels == 255)]
    labels[rng.random(truth.shape) < 0.02] = 255
    return labels
