"""Packed vectors against rational numbers and numpy: within a rounding each, and their squares."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.packing import finish, largest, pack


def packed(
    vectors: NDArray[Any], dtype: Any, unit: bool, centre: NDArray[Any], scale: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all vectors in turn, the last first, with two columns of -1 behind."""
    order = np.arange(len(vectors))[::-1].copy()
    values = np.full((len(vectors), vectors.shape[1] + 2), -1, dtype)
    squares = np.empty(len(vectors))
    pack(vectors, order, unit, centre, scale, values, squares)
    assert (values[:, -2:] == -1).all()
    return values[::-1, :-2], squares[::-1]


@pytest.mark.parametrize("read", [np.float32, np.float64])
@pytest.mark.parametrize("written", [np.float32, np.float64])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(-40, 40))
def test_a_centre_costs_one_rounding(
    read: Any, written: Any, seed: int, width: int, exponent: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((3, width)) * 2.0 ** rng.integers(-20, 20)).astype(read)
    centre, scale = rng.standard_normal(width), 2.0**exponent
    values, squares = packed(vectors, written, False, centre, scale)
    unit = Fraction(2.0**-53) + (Fraction(2.0**-24) if written == np.float32 else 0)
    for i in range(3):
        total = Fraction(0)
        for j in range(width):
            true = (Fraction(float(vectors[i, j])) - Fraction(centre[j])) * Fraction(scale)
            assert abs(Fraction(float(values[i, j])) - true) <= abs(true) * unit * 2
            total += true * true
        assert abs(Fraction(squares[i]) - total) <= total * (width + 4) * Fraction(2.0**-53)


@pytest.mark.parametrize("read", [np.float32, np.float64])
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1e-30, 1.0, 1e30]))
def test_vectors_of_length_one(read: Any, seed: int, width: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = (size * (1 + rng.random((3, width)))).astype(read)
    centre = rng.random(width)
    values, squares = packed(vectors, np.float64, True, centre, 0.5)
    x = np.longdouble(vectors)
    told = (x / np.sqrt((x**2).sum(1))[:, None] - centre) * 0.5
    assert np.abs(values - told).max() <= (width / 2 + 4) * 2.0**-53
    assert np.allclose(squares, (told**2).sum(1), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.floats(-300, 300))
def test_the_largest_size(dtype: str, seed: int, n: int, decade: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 3)) * 10.0 ** min(decade, 35 if dtype == "f4" else 300)
    values = values.astype(dtype)
    assert largest(values) == np.abs(values).max()
    assert largest(values[:, ::2]) == np.abs(values[:, ::2]).max()
    for what in (np.nan, np.inf, -np.inf):
        values[rng.integers(n), 1] = what
        assert not np.isfinite(largest(values))


def test_the_largest_of_nothing_and_of_zeros() -> None:
    assert largest(np.zeros((0, 3))) == 0.0
    assert largest(np.array([[-0.0, 0.0]])) == 0.0
    assert largest(np.array([[-5e-324, 0.0]])) == 5e-324


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
def test_columns_are_rounded_up(dtype: Any, seed: int, half: float) -> None:
    rng = np.random.default_rng(seed)
    squares = rng.random(6) * 10.0 ** rng.integers(-8, 2)
    columns = rng.standard_normal((4, 3))
    extra = 2.0 * float(np.finfo(dtype).eps)
    values, slack = np.full((6, 5), 7, dtype), np.empty((6, 2), dtype)
    finish(squares, columns, half, extra, values, slack)
    assert (values[:, :3] == 7).all()
    lengths = np.sqrt(np.longdouble(squares)) * (1 + extra)
    for i, found in enumerate((values[:, 3], values[:, 4], slack[:, 0], slack[:, 1])):
        terms = [
            columns[i, 0] + 0 * lengths,
            columns[i, 1] * lengths,
            columns[i, 2] * half * squares,
        ]
        size = np.abs(terms).sum(0)
        above = found - np.sum(terms, axis=0)
        assert (above >= -size * 2.0**-51).all()
        assert (above <= size * (2 * extra + 2.0**-51)).all()


def test_columns_that_are_exact_stay_so() -> None:
    squares = np.array([0.0, 1.0, 4.0, 2.0**23])
    values, slack = np.empty((4, 2), np.float32), np.empty((4, 2), np.float32)
    finish(
        squares,
        np.array([[0, 0, -1], [0, 0, 0], [0, 0, 0], [1, 0, 0]], float),
        0.5,
        0.0,
        values,
        slack,
    )
    assert values.tolist() == [[0, 0], [-0.5, 0], [-2, 0], [-(2.0**22), 0]]
    assert slack.tolist() == [[0, 1]] * 4
