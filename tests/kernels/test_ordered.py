"""Sums of pairs against numpy, feature after feature: equal in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.ordered import products, squared_distances


def told(base: NDArray[Any], query: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return squared distances and products of vectors pair by pair."""
    x, q = base.astype(np.float64), query.astype(np.float64)
    apart, along = np.zeros(len(x)), np.zeros(len(x))
    for j in range(x.shape[1]):
        apart += (q[:, j] - x[:, j]) ** 2
        along += q[:, j] * x[:, j]
    return apart, along


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.integers(0, 2**32 - 1), st.integers(0, 23), st.integers(1, 70))
def test_every_bit(dtype: Any, index: Any, seed: int, n: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-30, 30, (7, width))
    base = (rng.standard_normal((7, width)) * scale).astype(dtype)
    query = rng.standard_normal((5, width)) * scale[:5]
    rows, owners = (rng.integers(0, most, n).astype(index) for most in (7, 5))
    apart, along = np.empty(n), np.empty(n)
    squared_distances(base, rows, query, owners, apart)
    products(base, rows, query, owners, along)
    wanted = told(base[rows], query[owners])
    assert np.array_equal(apart, wanted[0])
    assert np.array_equal(along, wanted[1])


def test_terms_are_added_one_after_the_other() -> None:
    base = np.array([[2.0**27] + [1.0] * 9 + [2.0**27]])
    query = np.array([[2.0**27] + [1.0] * 9 + [-(2.0**27)]])
    found = np.empty(5)
    products(base, np.zeros(5, int), query, np.zeros(5, int), found)
    assert found.tolist() == [0.0] * 5  # 2^54 + 1 is 2^54, nine times
