"""Binary codes of 64 bits compared by the number of bits in which they differ: the nearest of a few, the k nearest of millions."""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.extending import intrinsic, overload

_BLOCK = 4096
_FAR = 65
"""One more than the largest distance of two codes."""


def popcount(code):
    """How many bits of an unsigned integer are 1."""
    return np.bitwise_count(code)


@intrinsic
def _popcount(typing_context, code):
    def generate(context, builder, signature, args):
        return builder.ctpop(args[0])

    return code(code), generate


@overload(popcount)
def _popcount_typed(code):
    def call(code):
        return _popcount(code)  # type: ignore[call-arg]  # Numba gives an intrinsic its first argument.

    return call


@njit(nogil=True, cache=True)
def nearest(codes, centroids):
    """The nearest centroid of each code, of several the one of the lowest number, and its distance: u8 (n,), u8 (n,).

    codes: u64 (n,). centroids: u64 (k,), 1 <= k <= 256.
    """
    numbers, distances = np.empty(codes.size, np.uint8), np.empty(codes.size, np.uint8)
    for i in range(codes.size):
        least = np.uint64(_FAR)
        for k in range(centroids.size):
            distance = popcount(codes[i] ^ centroids[k])
            if distance < least:
                least = distance
                numbers[i] = k
        distances[i] = least
    return numbers, distances


def search(codes: np.ndarray, query: np.uint64, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k codes nearest to a query, fewer where there are fewer: their places, int64, and distances, u8, nearest first.

    Of equal distances the lower place comes first, and stays where not all of them fit. codes: u64 (n,), contiguous. k: at least 1.
    """
    k = min(k, codes.size)
    # As long as the limit of `_collect` stands still, fewer than k candidates lie below it: it admits k at most before it falls.
    room = min(_FAR * k, codes.size)
    places, distances = np.empty(room, np.int64), np.empty(room, np.uint8)
    found = _collect(codes, np.uint64(query), k, places, distances)
    order = np.argsort(distances[:found], kind="stable")[:k]
    return places[order], distances[order]


@njit(nogil=True, cache=True)
def _collect(codes, query, k, places, distances):
    """Candidates in the order of their places, among them the k nearest codes; returns how many.

    A code is a candidate if fewer than k before it are at most as far. Most blocks hold none: their least distance says so, a loop
    that LLVM writes in vectors, and which is as fast as memory. places: int64, distances: u8, min(65 k, n) of each, set.
    """
    held = np.zeros(_FAR, np.int64)
    limit, below, found = _FAR, 0, 0
    for start in range(0, codes.size, _BLOCK):
        block = codes[start : start + _BLOCK]
        least = np.uint64(_FAR)
        for code in block:
            least = min(least, popcount(code ^ query))
        if least >= limit:
            continue
        for j in range(block.size):
            distance = np.int64(popcount(block[j] ^ query))
            if distance >= limit:
                continue
            places[found], distances[found] = start + j, distance
            held[distance] += 1
            found, below = found + 1, below + 1
            while below >= k:
                limit -= 1
                below -= held[limit]
    return found
