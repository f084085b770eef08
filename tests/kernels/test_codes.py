"""Distances of codes: the same as NumPy's bit counts of all pairs, sorted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcseg.kernels import codes as kernels

CODES = arrays(np.uint64, st.integers(1, 40), elements=st.integers(0, 2**64 - 1))
CLOSE = arrays(np.uint64, st.integers(1, 60), elements=st.integers(0, 7))


@pytest.fixture(params=["jitted", "plain"], autouse=True, scope="module")
def form(request):
    """All tests run with the compiled kernels and with the same text as plain Python."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            for name in ("nearest", "_collect"):
                patch.setattr(kernels, name, getattr(kernels, name).py_func)
        yield


def brute_force(codes, query, k):
    """Sort all distances; equal ones stay in order."""
    distances = np.bitwise_count(codes ^ query)
    order = np.argsort(distances, kind="stable")[:k]
    return order, distances[order]


def random_codes(n, seed=0, bits=64):
    return np.random.default_rng(seed).integers(0, 2**bits - 1, n, np.uint64, endpoint=True)


def assert_exact(codes, query, k):
    found, wanted = kernels.search(codes, query, k), brute_force(codes, query, k)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
    assert (found[0].dtype, found[1].dtype) == (np.int64, np.uint8)


@given(codes=CODES | CLOSE, centroids=CODES | CLOSE)
def test_the_nearest_centroid_is_the_first_of_the_least_distance(codes, centroids):
    distances = np.bitwise_count(codes[:, None] ^ centroids)
    numbers, found = kernels.nearest(codes, centroids)
    np.testing.assert_array_equal(numbers, distances.argmin(1))
    np.testing.assert_array_equal(found, distances.min(1))
    assert (numbers.dtype, found.dtype) == (np.uint8, np.uint8)


@given(codes=CODES | CLOSE, query=st.integers(0, 2**64 - 1) | st.integers(0, 7), k=st.integers(1, 70))
def test_search_is_a_sort_of_all_distances(codes, query, k):
    assert_exact(codes, np.uint64(query), k)


@pytest.mark.parametrize("bits", [64, 5])
@pytest.mark.parametrize("k", [1, 12, 9500])
def test_search_looks_beyond_its_first_block(k, bits):
    codes = random_codes(9000, seed=k, bits=bits)
    assert_exact(codes, codes[6100], k)


@pytest.mark.parametrize("k", [1, 7])
def test_search_keeps_what_comes_ever_nearer(k):
    query, steps = np.uint64(0), np.arange(64, -1, -1)
    codes = np.array([(1 << int(bits)) - 1 for bits in np.repeat(steps, 40)], np.uint64)
    assert_exact(codes, query, k)


def test_what_lies_opposite_is_found_where_there_is_nothing_else():
    codes = np.full(3, 2**64 - 1, np.uint64)
    places, distances = kernels.search(codes, np.uint64(0), 2)
    assert places.tolist() == [0, 1]
    assert distances.tolist() == [64, 64]


def test_no_codes_are_near_to_nothing():
    places, distances = kernels.search(np.empty(0, np.uint64), np.uint64(0), 5)
    assert (places.size, distances.size) == (0, 0)
