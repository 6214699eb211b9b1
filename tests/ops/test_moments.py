"""Moments of blocks against numpy in float64, over any axes and groups; merging obeys its laws."""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.ops.moments import Moments, merge, moments, spread, targets

DTYPES = (
    *("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"),
    *(">f2", ">f4", ">f8", ">i4", ">i8", ">u2"),
)
SHAPES = ((6, 5, 7), (9, 3), (5, 70), (70, 300), (11,), (1, 1, 1), (3, 1, 2, 5))
Axes = tuple[int, ...]


def drawn(rng: np.random.Generator, shape: Axes, dtype: str) -> NDArray[Any]:
    values = rng.normal(20, 9, shape)
    if "f" in dtype:
        for what in (np.nan, np.inf, -np.inf):
            values[rng.random(shape) < 0.1] = what
    elif dtype == "?":
        values = values > 20
    return np.abs(values).astype(dtype) if "u" in dtype else values.astype(dtype)


def each_axes(ndim: int) -> list[Axes]:
    """Return every choice of axes that reduces something."""
    return [axes for n in range(1, ndim + 1) for axes in combinations(range(ndim), n)]


def check(found: Moments, at: int, values: NDArray[Any], axes: Axes) -> None:
    """Compare one group with numpy's answers for its values."""
    x = values.astype(np.float64)
    finite = np.isfinite(x)
    for kind, where in enumerate((finite, np.isnan(x), np.isposinf(x), np.isneginf(x))):
        assert np.array_equal(found.counts[kind, at], where.sum(axes))
    n = finite.sum(axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without a number
        mean = np.mean(x, axes, where=finite)
        squares = n * np.var(x, axes, where=finite)
    np.testing.assert_allclose(found.mean[at], np.where(n, mean, 0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found.squares[at], np.where(n, squares, 0), rtol=1e-12, atol=1e-12)
    assert np.array_equal(found.low[at], np.where(finite, x, np.inf).min(axes))
    assert np.array_equal(found.high[at], np.where(finite, x, -np.inf).max(axes))


def equal(one: Moments, other: Moments) -> bool:
    """Whether counts and extremes are the same, and moments to 1e-13."""
    same = all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("groups", "counts", "low", "high")
    )
    n = np.maximum(other.counts[0], 1)
    scale = np.sqrt(other.squares / n + other.mean**2)
    digits = 1e-15 * n * scale**2  # a mean has no more of them
    return (
        same
        and bool(np.all(np.abs(one.mean - other.mean) <= 1e-13 * scale))
        and bool(np.all(np.abs(one.squares - other.squares) <= 1e-13 * other.squares + digits))
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_axes(dtype: str, shape: Axes) -> None:
    values = drawn(np.random.default_rng(0), shape, dtype)
    for axes in each_axes(values.ndim):
        found = moments(values, axes=axes)
        assert found.groups.tolist() == [0]
        check(found, 0, values, axes)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i8", "?", ">f4"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_groups_along_any_axis(dtype: str, shape: Axes) -> None:
    rng = np.random.default_rng(1)
    values = drawn(rng, shape, dtype)
    for axes in each_axes(values.ndim):
        for along in axes:
            codes = rng.integers(-1, 3, shape[along])
            codes[-1] = 7
            runs = np.ones(len(codes), np.int64), codes
            found = moments(values, runs, axes=axes, along=along)
            assert found.groups.tolist() == sorted({*codes.tolist()} - {-1})
            for at, group in enumerate(found.groups):
                check(found, at, np.compress(codes == group, values, along), axes)


@pytest.mark.parametrize("order", ["F", "strided", "reversed", "read-only"])
def test_blocks_however_they_lie_in_memory(order: str) -> None:
    values = drawn(np.random.default_rng(2), (8, 6, 4), "f4")
    laid = {
        "F": np.asfortranarray(values),
        "strided": np.repeat(values, 2, axis=1)[:, ::2],
        "reversed": np.ascontiguousarray(values[::-1, :, ::-1])[::-1, :, ::-1],
        "read-only": np.frombuffer(values.tobytes(), "f4").reshape(values.shape),
    }[order]
    assert np.array_equal(laid, values, equal_nan=True)
    for axes in each_axes(3):
        check(moments(laid, axes=axes), 0, values, axes)


@pytest.mark.parametrize("dtype", ["i8", "u8", ">i8", ">u8"])
def test_extremes_of_64_bits_keep_every_digit(dtype: str) -> None:
    ends = np.iinfo(dtype)
    values = np.array([[ends.max - 1, ends.max - 2], [ends.max - 3, ends.min + 1]], dtype)
    found = moments(values, axes=(0,))
    assert found.low.dtype.kind == found.high.dtype.kind == np.dtype(dtype).kind
    assert found.low[0].tolist() == [ends.max - 3, ends.min + 1]
    assert found.high[0].tolist() == [ends.max - 1, ends.max - 2]
    whole = merge([moments(values[i : i + 1], axes=(0, 1)) for i in (0, 1)])
    assert (whole.low.item(), whole.high.item()) == (ends.min + 1, ends.max - 1)
    by_column = moments(values, (np.array([1, 1]), np.array([1, 0])), axes=(0, 1), along=1)
    assert by_column.low.tolist() == [ends.min + 1, ends.max - 3]


@pytest.mark.parametrize("dtype", ["f4", "i8", "u1"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (0, 0, 2)], ids=str)
def test_nothing_at_all(dtype: str, shape: Axes) -> None:
    values = np.empty(shape, dtype)
    for axes in each_axes(len(shape)):
        kept = [n for axis, n in enumerate(shape) if axis not in axes]
        found = moments(values, axes=axes)
        assert found.counts.shape == (4, 1, *kept)
        assert not found.counts.any()
        assert not found.squares.any()


def test_groups_of_which_nothing_is_left() -> None:
    nobody = np.array([2, 1]), np.array([-1, -1])
    found = moments(np.ones((3, 2)), nobody, axes=(0,))
    assert found.groups.size == 0
    assert found.mean.shape == (0, 2)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e4 + 0.1, -6e4 / 7])
def test_constant_columns_deviate_by_nothing(value: float) -> None:
    for n_rows in range(1, 400, 7):
        values = np.full((n_rows, 3), value)
        found = moments(values, axes=(0,))
        assert np.all(found.mean == value)
        assert not found.squares.any()
    for n_rows in range(1, 80):
        parts = merge([moments(np.full(n_rows, value), axes=(0,)) for _ in range(3)])
        assert parts.mean.item() == value
        assert not parts.squares.any()


def test_merging_costs_no_digits_of_numbers_with_an_offset() -> None:
    values = np.random.default_rng(3).standard_normal((50, 40)) + 1e4
    apart = [moments(values[i : i + 2], axes=(0,)) for i in range(0, 50, 2)]
    apart = merge([merge(apart[:7]), merge([merge(apart[7:11]), merge(apart[11:])])])
    squares = 50 * np.var(values - 1e4, axis=0)
    np.testing.assert_allclose(apart.squares[0], squares, rtol=1e-13)


def test_merging_spreads_groups_that_a_part_lacks() -> None:
    values = np.arange(6.0).reshape(3, 2)
    one = moments(values, (np.array([3]), np.array([4])), axes=(0,))
    other = moments(values * 10, (np.array([1, 2]), np.array([1, 4])), axes=(0,))
    found = merge([one, other])
    assert found.groups.tolist() == [1, 4]
    check(found, 0, values[:1] * 10, (0,))
    check(found, 1, np.concatenate([values, values[1:] * 10]), (0,))
    wide = spread(found, np.arange(6))
    assert wide.counts[0].any(axis=1).tolist() == [False, True, False, False, True, False]
    assert equal(merge([wide, spread(one, np.arange(6))]), merge([spread(one, np.arange(6)), wide]))


NUMBERS = st.lists(
    st.one_of(
        st.integers(-200, 200).map(lambda fourths: fourths / 4),
        st.sampled_from([np.nan, np.inf, -np.inf]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50)
@given(NUMBERS, st.data())
def test_merging_is_associative_and_equals_one_look_at_all(
    numbers: list[float], data: st.DataObject
) -> None:
    values = np.array(numbers)
    codes = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=len(values), max_size=99)))
    codes = codes[: len(values)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), min_size=2, max_size=2)))
    cut = [slice(0, cuts[0]), slice(cuts[0], cuts[1]), slice(cuts[1], None)]
    a, b, c = (
        moments(values[at], (np.ones(len(codes[at]), np.int64), codes[at]), axes=(0,)) for at in cut
    )
    whole = moments(values, (np.ones(len(codes), np.int64), codes), axes=(0,))
    assert equal(merge([merge([a, b]), c]), whole)
    assert equal(merge([a, merge([b, c])]), whole)
    assert equal(merge([c, a, b]), whole)


def test_targets_count_places_up_and_groups_slowest() -> None:
    assert targets((2, 3), (0,), None, 0).tolist() == [0, 1, 2, 0, 1, 2]
    assert targets((2, 3), (1,), None, 0).tolist() == [0, 0, 0, 1, 1, 1]
    assert targets((2, 3), (0, 1), None, 0).tolist() == [0] * 6
    codes = np.array([1, 0])
    assert targets((2, 3), (0,), codes, 0).tolist() == [3, 4, 5, 0, 1, 2]
    assert targets((3, 2), (1,), codes, 1).tolist() == [3, 0, 4, 1, 5, 2]


@pytest.mark.parametrize("n_rows", [1, 84, 85, 86, 169, 170, 171, 300])
def test_narrow_blocks_lose_no_row_that_fills_no_stride(n_rows: int) -> None:
    values = np.random.default_rng(n_rows).standard_normal((n_rows, 3))
    values[-1] = 7.0, -7.0, np.nan
    found = moments(values, axes=(0,))
    assert found.counts[:2, 0].tolist() == [[n_rows, n_rows, n_rows - 1], [0, 0, 1]]
    assert found.high[0, 0] == 7
    assert found.low[0, 1] == -7
    np.testing.assert_allclose(found.mean[0, :2], values[:, :2].mean(axis=0), rtol=1e-12)
