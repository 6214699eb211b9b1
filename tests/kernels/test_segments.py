"""Rows end to end and side by side, against slices of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h5dask.kernels.segments import gather, spread

DTYPES = ("u1", "?", "<f2", ">i4", "<i4", "<f4", "<f8")


def drawn(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 2, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.lists(st.integers(0, 9), max_size=7), st.integers(0, 9), st.sampled_from([(), (3,)]))
def test_rows_are_filled_up_with_zeros(
    dtype: str, sizes: list[int], width: int, inner: tuple[int, ...]
) -> None:
    values = drawn(dtype, (sum(sizes), *inner))
    expected = np.zeros((len(sizes), width, *inner), dtype)
    for row, part in enumerate(np.split(values, np.cumsum(sizes)[:-1]) if sizes else []):
        expected[row, : len(part)] = part[:width]
    found = spread(values, np.array(sizes, np.int64), width)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.lists(st.integers(0, 5), max_size=7), st.sampled_from([(), (2,)]))
def test_rows_come_back(dtype: str, sizes: list[int], inner: tuple[int, ...]) -> None:
    values, counts = drawn(dtype, (sum(sizes), *inner)), np.array(sizes, np.int64)
    found = gather(spread(values, counts, 5), counts)
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_values_however_they_lie_in_memory() -> None:
    values = np.arange(24.0).reshape(4, 6)
    sizes = np.array([3, 1])
    for laid in (values.T[:4].T, np.asfortranarray(values), values[::-1][::-1]):
        assert np.array_equal(spread(laid, sizes, 3)[0], laid[:3])
    frozen = values.copy()
    frozen.flags.writeable = False
    assert np.array_equal(gather(spread(frozen, sizes, 4), sizes), values)
