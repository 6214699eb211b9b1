"""Rows of length 1 against numpy: any width and dtype, nothing lost to squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.scaling import unit_rows

DTYPES = ("f4", "f8")
SEAMS = (0, 1, 2, 63, 64, 65, 127, 128, 129, 1000)
"""Widths beside which the lanes of the sum end."""


def scaled(
    values: NDArray[Any], dtype: str | None = None, scale: float = 1.0
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the rows of length 1, and the lengths that they had."""
    made = np.full(values.shape, 7, dtype or values.dtype)
    length = np.full(len(values), np.nan)
    unit_rows(values, made, np.full(len(values), scale), length)
    return made, length


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", SEAMS)
def test_rows_of_any_width(dtype: str, width: int) -> None:
    values = (np.random.default_rng(width).standard_normal((5, width)) + 3).astype(dtype)
    made, length = scaled(values)
    told = np.sqrt((values.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(length, told, rtol=1e-15 * (width + 1))
    np.testing.assert_allclose(
        made, values / np.where(told > 0, told, 1)[:, None], rtol=2 * np.finfo(dtype).eps
    )


@given(st.integers(0, 6), st.integers(0, 200), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
def test_a_row_is_the_same_among_any_others(n: int, width: int, dtype: str, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((n, width)).astype(dtype)
    made, length = scaled(values)
    for at in range(n):
        alone, its_length = scaled(values[at : at + 1])
        assert np.array_equal(alone[0], made[at])
        assert its_length[0] == length[at]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 70, 99])
def test_a_row_with_anything_not_finite_is_nan_and_no_other(
    dtype: str, what: float, at: int
) -> None:
    values = np.ones((3, 100), dtype)
    values[1, at] = what
    made, length = scaled(values)
    assert np.isnan(made[1]).all()
    assert not np.isfinite(length[1])
    np.testing.assert_allclose(made[[0, 2]], 0.1, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_stay(dtype: str) -> None:
    made, length = scaled(np.array([[0.0, -0.0], [3, 4]], dtype))
    assert not made[0].any()
    assert length.tolist() == [0, 5]
    np.testing.assert_allclose(made[1], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("exponent", [-1073, -1022, -600, 600, 1022])
def test_a_power_of_two_keeps_squares_within_numbers(exponent: int) -> None:
    values = np.ldexp([[3.0, 4.0]], exponent - 2)
    made, length = scaled(values, scale=np.ldexp(1.0, min(-exponent, 1000)))
    told = values / np.hypot(*values[0]) if exponent > -1022 else np.ldexp(values, 1000)
    told = told / np.hypot(*told[0])
    np.testing.assert_allclose(made, told, rtol=1e-15)
    assert 0 < length[0] < np.inf


def test_float32_of_any_size_needs_no_scale() -> None:
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    made, _ = scaled(np.array([[tiny, tiny], [huge, huge], [tiny, huge]], np.float32))
    np.testing.assert_allclose(made, [[0.5**0.5] * 2, [0.5**0.5] * 2, [0, 1]], rtol=1e-7)


def test_float32_may_become_float64_and_back() -> None:
    values = np.random.default_rng(0).standard_normal((4, 9))
    wide, _ = scaled(values)
    narrow, _ = scaled(values, "f4")
    assert np.array_equal(wide.astype("f4"), narrow)
