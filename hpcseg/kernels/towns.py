"""Towns of rotated blocks: which lot each pixel lies in, what is built on it, and where the shadows of roofs fall; where trees stand.

Each pixel is a pure function of a key and its position. All kernels release the GIL.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hpcseg.kernels.noise import mix

OPEN, STREET, ROOF = 0, 1, 2
# Lots of a block along its street and across it.
ALONG, ACROSS = 4, 2
# Half the edge of a house in edges of its lot, and what is added at random; the share of houses with a corner left out.
HALF, MORE, CORNER = np.float32(0.2), np.float32(0.22), np.float32(0.35)
BYTE = np.float32(1 / 256)
# At how many distances towards the sun a roof is looked for.
STEPS = 6


@njit(nogil=True, cache=True, inline="always")
def share(bits: np.uint64, k: int) -> np.float32:
    """The k-th byte of random bits as a value in [0, 1)."""
    return np.float32((bits >> np.uint64(8 * k)) & np.uint64(255)) * BYTE


@njit(nogil=True, cache=True)
def look_at(key: np.uint64, u: float, v: float, lot: float, street: float, built: float) -> tuple:
    """What stands at (v, u), pixels across and along the streets of a district with lots of `lot` and streets of `street` pixels.

    built: share of lots with a house. Returns surface, light of the roof's slope (1 lit, 0 not), its tint 0..1 and its height 0..1.
    """
    along, across = ALONG * lot + street, ACROSS * lot + street
    block_u, block_v = math.floor(u / along), math.floor(v / across)
    inner_u, inner_v = u - block_u * along - street, v - block_v * across - street
    if inner_u < 0 or inner_v < 0:
        return STREET, np.float32(0), np.float32(0), np.float32(0)
    lot_u, lot_v = min(ALONG - 1, int(inner_u / lot)), min(ACROSS - 1, int(inner_v / lot))
    bits = mix(key, ACROSS * int(block_v) + lot_v, ALONG * int(block_u) + lot_u)
    wide, deep = HALF + MORE * share(bits, 0), HALF + MORE * share(bits, 1)
    # The middle of the house lies anywhere that keeps it within its lot.
    x = np.float32(inner_u / lot - lot_u - 0.5) - (np.float32(0.5) - wide) * (share(bits, 2) - np.float32(0.5))
    y = np.float32(inner_v / lot - lot_v - 0.5) - (np.float32(0.5) - deep) * (share(bits, 3) - np.float32(0.5))
    inside = share(bits, 4) < built and abs(x) < wide and abs(y) < deep
    if not inside or (share(bits, 5) < CORNER and x > np.float32(0.2) * wide and y > np.float32(0.2) * deep):
        return OPEN, np.float32(0), np.float32(0), np.float32(0)
    lit = (x if deep > wide else y) < 0
    return ROOF, np.float32(1) if lit else np.float32(0), share(bits, 6), share(bits, 7)


@njit(nogil=True, cache=True)
def lay_town(window: tuple, nearest: np.ndarray, keys: np.ndarray, plans: np.ndarray, sun: tuple) -> tuple:
    """Blocks, streets and houses of the districts under a window (row, col, height, width) of pixels.

    nearest: i32 (h, w), index of each pixel's district. keys: u64 (districts,). plans: f64 (districts, 7), of each the row and column
    of its middle, cosine and sine of its streets' direction, edge of its lots and width of its streets in pixels, and the share of lots
    with a house. sun: (rows, columns) from a pixel to the end of the highest roof's shadow, reversed: towards the sun.
    Returns u8 (h, w), OPEN, STREET or ROOF; and f32 (3, h, w): light of roofs 0 or 1, their tint 0..1, and shadow on the rest 0 or 1.
    """
    height, width = nearest.shape
    surface, look = np.empty((height, width), np.uint8), np.zeros((3, height, width), np.float32)
    for i in range(height):
        for j in range(width):
            near = nearest[i, j]
            row, col, cosine, sine, lot, street, built = plans[near]
            y, x = window[0] + i - row, window[1] + j - col
            surface[i, j], look[0, i, j], look[1, i, j], _ = look_at(
                keys[near], cosine * x + sine * y, cosine * y - sine * x, lot, street, built
            )
            if surface[i, j] == ROOF:
                continue
            for k in range(1, STEPS + 1):
                far_y, far_x = y + sun[0] * k / STEPS, x + sun[1] * k / STEPS
                what, _, _, tall = look_at(
                    keys[near], cosine * far_x + sine * far_y, cosine * far_y - sine * far_x, lot, street, built
                )
                if what == ROOF and np.float32(0.4) + np.float32(0.6) * tall >= k / STEPS:
                    look[2, i, j] = 1
                    break
    return surface, look


@njit(nogil=True, cache=True)
def plant(key: np.uint64, window: tuple, wood: np.ndarray, size: float) -> np.ndarray:
    """Crowns of trees, f32 (h, w): 0 where there is none, else light from 0.3 at the crown's shady edge to 1.

    One tree at most stands in each square of `size` pixels, where a random value is below `wood`, f32 (h, w), at the pixel looked at.
    """
    height, width = wood.shape
    crown = np.zeros((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            y, x = (window[0] + i) / size, (window[1] + j) / size
            for n in range(9):
                k, m = math.floor(y) + n // 3 - 1, math.floor(x) + n % 3 - 1
                bits = mix(key, int(k), int(m))
                if share(bits, 0) >= wood[i, j]:
                    continue
                down, right = np.float32(y - k) - share(bits, 1), np.float32(x - m) - share(bits, 2)
                radius = np.float32(0.3) + np.float32(0.35) * share(bits, 3)
                if down * down + right * right < radius * radius:
                    light = np.float32(0.65) - np.float32(0.35) * (down + right) / (np.float32(1.4142135) * radius)
                    crown[i, j] = max(crown[i, j], light)
    return crown
