"""Radar scenes: where water runs, and the speckle of coherent light; each pixel a pure function of its key and position."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hpcseg.kernels.noise import mix

NODES = 1 << 16
# Half of the share of pixels beyond the first and the last node, whose values are cut off there.
TAIL = 2.0**-20


def gamma_quantiles(looks: float) -> np.ndarray:
    """Quantiles of multi-look intensity: the gamma distribution of mean 1 and variance 1 / looks (Goodman 1976; Lee and Pottier 2009, 4.2).

    looks: 1 or more, need not be whole. Returns f32 (65537,), the quantiles of k / 65536, the two ends held finite and above 0.
    """
    root = np.linspace(0, math.sqrt(1 + 16 / math.sqrt(looks) + 16 / looks), 1 << 17)
    with np.errstate(divide="ignore"):
        log_density = (2 * looks - 1) * np.log(root) - looks * root**2
    density = np.exp(log_density - log_density.max())
    total = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    share = np.clip(np.arange(NODES + 1) / NODES, TAIL, 1 - TAIL)
    return (np.interp(share, total / total[-1], root) ** 2).astype(np.float32)


@njit(nogil=True, cache=True)
def speckle(key: np.uint64, row: int, col: int, height: int, width: int, quantiles: np.ndarray) -> np.ndarray:
    """Independent random factors, f32 (height, width), of the pixels from (row, col) on, distributed as `quantiles`, f32 (n + 1,).

    n is 65536; values between two quantiles are interpolated.
    """
    out = np.empty((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            bits = mix(key, row + i, col + j)
            k = np.int64(bits >> np.uint64(48))
            between = np.float32((bits >> np.uint64(24)) & np.uint64(0xFFFFFF)) / np.float32(1 << 24)
            out[i, j] = quantiles[k] + between * (quantiles[k + 1] - quantiles[k])
    return out


@njit(nogil=True, cache=True)
def wetness(lake: np.ndarray, course: np.ndarray, width: np.ndarray) -> np.ndarray:
    """How likely each pixel is under water, f32 (h, w): above a level lie lakes and rivers that both widen as the level falls.

    lake: noise f32 (h, w), high in basins. course: noise f32 (h + 1, w + 1) whose zero contour is the rivers' midline. width: f32 (h, w),
    factor to the rivers' width. The distance to the contour is |f| / |grad f|; 3.4 stands on the midline, 2.4 2.5 px away, 0.8 15 px away.
    """
    rows, cols = lake.shape
    out = np.empty((rows, cols), np.float32)
    for i in range(rows):
        for j in range(cols):
            f = course[i, j]
            down, right = course[i + 1, j] - f, course[i, j + 1] - f
            distance = abs(f) / (np.float32(math.sqrt(down * down + right * right)) + np.float32(1e-6)) / width[i, j]
            river = np.float32(3.9) / (np.float32(1) + np.float32(0.138) * distance) - np.float32(0.5)
            out[i, j] = max(lake[i, j], river)
    return out
