"""Sums of rows against numpy in float64, at every seam: tiles, fours of rows, pieces, halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.moments import TILE, add_columns, add_whole_rows

DTYPES = ("f2", "f4", "f8", "i1", "u1")
SEAMS = (1, 2, 31, 32, 33, TILE - 1, TILE, TILE + 1, 4 * TILE, 4 * TILE + 1, 5 * TILE + 3)
"""Lengths of rows beside which a tile, a piece or four pieces end."""

Found = tuple[NDArray[np.int64], NDArray[np.float64]]


def summed(
    values: NDArray[Any],
    order: NDArray[np.int64] | None = None,
    starts: NDArray[np.int64] | None = None,
    *,
    width: int = 0,
) -> Found:
    """Return counts (4, target, column) and sums (5, ...); of whole rows where width is given."""
    order = np.arange(len(values)) if order is None else order
    starts = np.array([0, len(values)]) if starts is None else starts
    half = values.dtype == np.float16
    shape = len(starts) - 1, 1 if width else values.shape[1]
    counts, sums = np.zeros((4, *shape), np.int64), np.full((5, *shape), np.nan)
    given = (values.view(np.uint16) if half else values), half, order, starts
    filled = counts.reshape(-1), sums.reshape(-1)
    if width:
        add_whole_rows(*given, width, *filled)
    else:
        add_columns(*given, *filled)
    return counts, sums


def check(found: Found, target: int, values: NDArray[Any], axis: int | None) -> None:
    """Compare what was found of one target with numpy."""
    counts, sums = (one[:, target] for one in found)
    x = values.astype(np.float64)
    finite = np.isfinite(x)
    for kind, where in enumerate((finite, np.isnan(x), np.isposinf(x), np.isneginf(x))):
        assert np.array_equal(counts[kind], np.atleast_1d(where.sum(axis)))
    n = np.maximum(finite.sum(axis, keepdims=True), 1)
    y = np.where(finite, x, 0.0)
    mean = y.sum(axis, keepdims=True) / n
    squares = (np.where(finite, x - mean, 0.0) ** 2).sum(axis)
    scale = np.sqrt((y**2).sum(axis, keepdims=True) / n)
    assert np.all(np.abs(sums[0] - mean.ravel()) <= 1e-13 * scale.ravel())
    assert np.all(np.abs(sums[1]) <= np.spacing(np.abs(sums[0])))
    np.testing.assert_allclose(sums[2], np.atleast_1d(squares), rtol=1e-12)
    assert np.array_equal(sums[3], np.atleast_1d(np.where(finite, x, np.inf).min(axis)))
    assert np.array_equal(sums[4], np.atleast_1d(np.where(finite, x, -np.inf).max(axis)))


def drawn(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> NDArray[Any]:
    """Return numbers, and in places all of what isn't finite."""
    values = (rng.standard_normal(shape) * 9).astype(np.int8 if dtype in {"i1", "u1"} else dtype)
    if dtype[0] == "f" and rng.random() < 0.7:
        for what in (np.nan, np.inf, -np.inf):
            values[rng.random(shape) < rng.choice([0.001, 0.1, 0.5])] = what
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_columns", SEAMS)
def test_each_column_and_whole_rows(dtype: str, n_columns: int) -> None:
    rng = np.random.default_rng(n_columns)
    for n_rows in (1, 3, 4, 5, 9):
        values = drawn(rng, (n_rows, n_columns), dtype)
        check(summed(values), 0, values, 0)
        for width in {1, min(7, n_columns), min(32, n_columns), min(TILE, n_columns)}:
            check(summed(values, width=width), 0, values, None)


@given(
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
)
def test_rows_of_any_targets(
    n_rows: int, n_columns: int, n_targets: int, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = drawn(rng, (n_rows, n_columns), dtype)
    names, targets = np.unique(rng.integers(0, n_targets, n_rows), return_inverse=True)
    order = np.argsort(targets, kind="stable")
    starts = np.searchsorted(targets[order], np.arange(len(names) + 1))
    width = int(rng.integers(1, n_columns + 1))
    by_column, whole = summed(values, order, starts), summed(values, order, starts, width=width)
    for target in range(len(names)):
        check(by_column, target, values[targets == target], 0)
        check(whole, target, values[targets == target], None)


def test_every_float16_there_is() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):
        wide = halves.astype(np.float64)
    counts, sums = summed(halves[np.newaxis])
    finite = np.isfinite(wide)
    assert np.array_equal(counts[0, 0], finite)
    assert np.array_equal(counts[1, 0], np.isnan(wide))
    assert np.array_equal(counts[2, 0], np.isposinf(wide))
    assert np.array_equal(counts[3, 0], np.isneginf(wide))
    for found in sums[[0, 3, 4], 0]:
        assert np.array_equal(found[finite], wide[finite])
    assert not sums[1:3].any()
    whole, _ = summed(halves[np.newaxis], width=TILE)
    assert whole.ravel().tolist() == [finite.sum(), np.isnan(wide).sum(), 1, 1]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("first", [6e4, -6e4, np.nan, np.inf])
def test_a_first_value_that_is_unlike_the_others(dtype: str, first: float) -> None:
    values = np.random.default_rng(0).standard_normal((3000, 3)) + 1
    values[:, 1] += 1000
    values[0] = first
    values = values.astype(dtype)
    found = summed(values)
    check(found, 0, values, 0)
    check(summed(values.reshape(1, -1), width=TILE), 0, values, None)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e4 + 0.1, -6e4, 1e300, 5e-324])
def test_constant_values_deviate_by_nothing(value: float) -> None:
    values = np.full((13, 300), value)
    for width in (0, 1, 7, TILE):
        _, sums = summed(values, width=width)
        assert np.all(sums[0] == value)
        assert not sums[1:3].any()


def test_nothing_finite_leaves_extremes_that_no_number_has() -> None:
    values = np.full((5, 2), np.nan, np.float32)
    for width in (0, 2):
        counts, sums = summed(values, width=width)
        assert not counts[[0, 2, 3]].any()
        assert counts[1].sum() == values.size
        assert (np.isposinf(sums[3]) & np.isneginf(sums[4])).all()
        assert not sums[:3].any()
