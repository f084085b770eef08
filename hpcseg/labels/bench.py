"""How fast textures are computed here: an image under speckle, split over threads as a rank's tiles are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter

import numpy as np

from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.sfs import FEATURES, sfs
from hpcseg.tiles import Window

PATCH = 32


def speckled(size: int, looks: float = 4.0) -> np.ndarray:
    """Patches of many backscatters under speckle of so many looks: u8 (size, size)."""
    rng = np.random.default_rng(0)
    edge = -(-size // PATCH)
    patches = np.kron(rng.uniform(30, 160, (edge, edge)), np.ones((PATCH, PATCH)))[:size, :size]
    return np.clip(patches * rng.gamma(looks, 1 / looks, (size, size)), 0, 255).astype(np.uint8)


def time_sfs(image: np.ndarray, settings: Sfs, threads: int, features: Sequence[str] = FEATURES) -> tuple[float, np.ndarray]:
    """Seconds that the features of a whole image take with its rows split over threads, and the features."""
    whole, valid = Window(0, 0, *image.shape), np.ones_like(image)
    bounds = [image.shape[0] * k // threads for k in range(threads + 1)]
    cores = [Window(first, 0, last - first, image.shape[1]) for first, last in pairwise(bounds)]
    # Memory is touched before, as a rank's reused buffers are.
    parts = [np.full((len(features), core.height, core.width), np.nan, np.float32) for core in cores]

    def compute(core: Window, out: np.ndarray) -> None:
        sfs(image, valid, core, whole, settings, features, out)

    with ThreadPoolExecutor(threads) as pool:
        start = perf_counter()
        list(pool.map(compute, cores, parts))
        seconds = perf_counter() - start
    return seconds, np.concatenate(parts, axis=1)
