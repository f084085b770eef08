"""Codes packed and unpacked, centroids by majority, and average precision with ties, against plain NumPy and all orders."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.gallery.codes import average_precision, majority, pack_signs, unpack_signs

CODES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9).map(lambda each: np.array(each, np.uint64))


@given(CODES, st.integers(1, 64))
def test_bit_k_of_a_code_is_sign_k(codes, bits):
    codes &= np.uint64(2**bits - 1)
    signs = unpack_signs(codes, bits)
    assert signs.shape == (len(codes), bits)
    assert [sum(int(sign) << k for k, sign in enumerate(row)) for row in signs] == codes.tolist()
    assert pack_signs(signs).tolist() == codes.tolist()
    assert pack_signs(signs).dtype == np.uint64


@given(CODES)
def test_a_centroid_has_each_bit_as_most_have_it_and_1_on_ties(codes):
    wanted = 0
    for k in range(64):
        ones = sum((int(code) >> k) & 1 for code in codes)
        wanted |= (2 * ones >= len(codes)) << k
    assert int(majority(codes, 64)) == wanted


def test_bits_above_those_of_a_code_stay_0():
    assert int(majority(np.array([5, 2], np.uint64), 3)) == 7


def in_one_order(relevant):
    places = np.flatnonzero(relevant)
    return np.mean([(k + 1) / (place + 1) for k, place in enumerate(places)])


def over_all_orders(distances, relevant):
    """The mean over every order that sorts by distance."""
    orders = [order for order in permutations(range(len(distances))) if all(np.diff(distances[list(order)]) >= 0)]
    return np.mean([in_one_order(relevant[list(order)]) for order in orders])


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6))
def test_average_precision_is_its_mean_over_all_orders_of_ties(items):
    distances, relevant = (np.array(each) for each in zip(*items, strict=True))
    if relevant.any():
        assert average_precision(distances, relevant) == pytest.approx(over_all_orders(distances, relevant), abs=1e-12)
    else:
        assert np.isnan(average_precision(distances, relevant))


def test_average_precision_without_ties_is_the_plain_one():
    rng = np.random.default_rng(0)
    relevant = rng.random(500) < 0.1
    order = rng.permutation(500)
    assert average_precision(order, relevant) == pytest.approx(in_one_order(relevant[np.argsort(order)]), abs=1e-12)
