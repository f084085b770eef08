"""Compile the kernels of a run ahead, so that one process of a node does it for all through the cache on disk."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hpcseg.kernels.heat import heat
from hpcseg.kernels.labels import confidence, label
from hpcseg.kernels.prepare import normalise, reflect
from hpcseg.tiles import Window


def compile_reading(dtypes: Iterable[str], wanted: str) -> None:
    """Compile what reads scenes of these pixel types into windows of type `wanted`: float32, uint8, or uint16 for bfloat16 bits."""
    out = np.zeros((1, 1), wanted)
    valid, window, one = np.ones((1, 1), np.uint8), Window(0, 0, 1, 1), np.ones(1, np.float32)
    for dtype in dtypes:
        cell = np.zeros((1, 1), dtype)
        normalise(cell, np.empty((0, 0), np.uint8), window, window, cell[0], np.zeros(1, bool), False, one, one, np.float32(0), out, valid)
    reflect(out, 1, 0, 1, 0, 1, 0)


def compile_kernels(dtypes: Iterable[str], bfloat16: bool, channels: int, points: bool = False) -> None:
    """Compile what maps scenes of these pixel types. bfloat16: the network's input type, else float32. channels: its logits. points:
    they are heat."""
    wanted = "uint16" if bfloat16 else "float32"
    compile_reading(dtypes, wanted)
    logits, marks = np.zeros((3, 3, channels), wanted), np.ones((3, 3), np.uint8)
    # Whole tiles fill their planes, those at a scene's edge a part: two memory layouts, two compilations.
    for plane in (np.empty((2, 2), np.uint8), np.empty((3, 3), np.uint8)[:2, :2]):
        if points:
            heat(logits[:2, :2], marks[:2, :2], 0, plane)
            continue
        label(logits, marks, Window(0, 0, 2, 2), (0,) * channels, 0.0, plane)
        confidence(logits[:2, :2], plane, -1, plane.copy() if plane.flags.c_contiguous else np.empty((3, 3), np.uint8)[:2, :2])
