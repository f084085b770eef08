"""Codes as signs of K outputs: packed and unpacked, a bucket's centroid, and how well codes find what belongs together."""

from __future__ import annotations

import numpy as np


def pack_signs(signs: np.ndarray) -> np.ndarray:
    """Codes, uint64 (n,), of signs, bool (n, K) with K up to 64: bit k is sign k, the bits above K are 0."""
    octets = np.zeros((len(signs), 8), np.uint8)
    packed = np.packbits(signs, axis=1, bitorder="little")
    octets[:, : packed.shape[1]] = packed
    return octets.view("<u8")[:, 0].astype(np.uint64)


def unpack_signs(codes: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `pack_signs`: bool (n, bits)."""
    octets = codes.astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1, count=bits, bitorder="little").astype(bool)


def majority(codes: np.ndarray, bits: int) -> np.uint64:
    """The code that has each bit as most of these codes have it, 1 where as many have it as not."""
    return pack_signs(2 * unpack_signs(codes, bits).sum(0, keepdims=True) >= len(codes))[0]


def average_precision(distances: np.ndarray, relevant: np.ndarray) -> float:
    """Average precision of a ranking by distance, (n,), its mean over all orders of those that are equally far; NaN if none is relevant.

    relevant: bool (n,). A relevant item at place j of a group of m, r of them relevant, behind N others with R relevant, has the expected
    precision (R + 1 + (j - 1)(r - 1)/(m - 1)) / (N + j), and is at place j with probability r/m (McSherry, Najork, ECIR 2008, eq. 5).
    """
    levels, group = np.unique(distances, return_inverse=True)
    size = np.bincount(group, minlength=len(levels))
    right = np.bincount(group, weights=relevant, minlength=len(levels))
    place = np.arange(len(distances)) - np.repeat(np.cumsum(size) - size, size)
    m, r = np.repeat(size, size), np.repeat(right, size)
    before = np.repeat(np.cumsum(right) - right, size)
    precision = (before + 1 + place * (r - 1) / np.maximum(m - 1, 1)) / (np.arange(len(distances)) + 1)
    return float((r / m * precision).sum() / right.sum()) if right.any() else float("nan")
