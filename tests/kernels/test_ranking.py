"""Pairs put in their places against sorting all of them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.ranking import insert, merge

NOBODY = np.iinfo(np.int64).max
keys = st.lists(st.sampled_from([-1e300, -1.0, -0.0, 0.0, 2.0, 1e300]), max_size=40)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@given(keys, st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_least_in_order(
    index: type, drawn: list[float], k: int, n_queries: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, n_queries, len(drawn)).astype(index)
    ids = rng.permutation(len(drawn)).astype(np.int64)
    there = np.full((n_queries, k), np.inf), np.full((n_queries, k), NOBODY)
    cut = rng.integers(0, len(drawn) + 1)
    for part in (slice(0, cut), slice(cut, None)):
        insert(*there, owners[part], np.array(drawn, float)[part], ids[part])
    for who in range(n_queries):
        mine = sorted((drawn[i], ids[i]) for i in np.flatnonzero(owners == who))[:k]
        told = mine + [(np.inf, NOBODY)] * (k - len(mine))
        assert [*zip(*(one[who].tolist() for one in there), strict=True)] == told


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_of_equal_keys_the_lower_ids_stay_whatever_comes_first(k: int) -> None:
    for order in permutations(range(4)):
        keys, ids = np.full((1, k), np.inf), np.full((1, k), NOBODY)
        insert(keys, ids, np.zeros(4, np.int64), np.zeros(4), np.array(order, np.int64))
        assert (keys.tolist(), ids.tolist()) == ([[0.0] * k], [[*range(k)]])


@given(st.lists(keys, min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_records_in_order_are_merged_as_their_pairs_are(
    drawn: list[list[float]], k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    there, told = ((np.full((3, k), np.inf), np.full((3, k), NOBODY)) for _ in range(2))
    ids = iter(rng.permutation(200))
    for found in drawn:
        pairs = sorted((int(rng.integers(3)), key, int(next(ids))) for key in found)
        owners, new, named = (np.array([pair[i] for pair in pairs]) for i in range(3))
        counts = np.bincount(owners.astype(int), minlength=3).astype(np.int64)
        new, named = new.astype(float), named.astype(np.int64)
        merge(*there, counts, new, named)
        insert(*told, owners.astype(np.int64), new, named)
    assert all(np.array_equal(*both) for both in zip(there, told, strict=True))
