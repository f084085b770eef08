"""How fast the nearest of many codes are found here, beside what memory allows and what NumPy needs."""

from __future__ import annotations

from time import perf_counter, thread_time
from typing import NamedTuple

import numpy as np

from hpcseg.kernels.codes import search


class SearchTimes(NamedTuple):
    """Seconds. cpu: of the search, without what others had of the core. floor: to read the codes once at the bandwidth of a copy, which
    reads and writes. numpy: all distances and a partition."""

    search: float
    cpu: float
    floor: float
    numpy: float


def random_codes(n: int) -> np.ndarray:
    """Codes of 64 random bits, u64 (n,)."""
    return np.random.default_rng(0).integers(0, 2**64 - 1, n, np.uint64, endpoint=True)


def time_search(codes: np.ndarray, query: np.uint64, k: int) -> SearchTimes:
    """Search codes once by each way, on one core. Raises AssertionError if they differ in a distance."""
    copy = codes.copy()
    start, busy = perf_counter(), thread_time()
    _, distances = search(codes, query, k)
    searched, busy = perf_counter(), thread_time() - busy
    np.copyto(copy, codes)
    copied = perf_counter()
    every = np.bitwise_count(codes ^ query)
    nearest = np.argpartition(every, min(k, len(codes) - 1))[:k]
    end = perf_counter()
    assert np.array_equal(np.sort(every[nearest]), distances)
    return SearchTimes(searched - start, busy, (copied - searched) / 2, end - copied)
