"""Histograms count as numpy does, whatever is kept; quantiles are as near as is said."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.binning import N_BINS, edges
from h5dask.ops.histograms import QUANTILES, RELATIVE_ERROR, added, histograms, quantiles

BORDERS = edges()


def counted(values: NDArray[Any]) -> NDArray[np.int64]:
    """Count with numpy; a negative number on a border is in the bin below it."""
    x = values[np.isfinite(values)].astype(np.float64)
    plus, minus = (np.histogram(one, BORDERS)[0] for one in (x[x >= 0], -x[x < 0]))
    return plus + minus[::-1]


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    values = rng.normal(20, 30, shape).astype("f4")
    if "f" in dtype:
        values[rng.random(shape) < 0.1] = np.nan
        values[rng.random(shape) < 0.1] = -np.inf
    return (np.abs(values) if "u" in dtype else values).astype(dtype)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u1", "u4", "?", ">f4", ">i2"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (7, 2), (9,), (300, 3)], ids=str)
def test_any_axes_and_groups(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = drawn(rng, shape, dtype)
    for n in range(1, len(shape) + 1):
        for axes in combinations(range(len(shape)), n):
            kept = [axis for axis in range(len(shape)) if axis not in axes]
            if np.prod([shape[axis] for axis in kept]) > 20:
                continue  # each takes 128 KiB
            found = histograms(values, axes=axes)
            rows = np.moveaxis(values, kept, range(len(kept)))
            for at in np.ndindex(*(shape[axis] for axis in kept)):
                assert np.array_equal(found[(0, *at)], counted(rows[at]))
            along = axes[-1]
            codes = rng.integers(-1, 2, shape[along])
            runs = np.ones(len(codes), np.int64), codes
            found = histograms(values, runs, axes=axes, along=along, n_groups=3)
            assert found.shape == (3, *(shape[axis] for axis in kept), N_BINS)
            for group in range(3):
                mine = np.compress(codes == group, values, along)
                assert np.array_equal(found[group], histograms(mine, axes=axes)[0])


def test_what_no_float32_holds_counts_as_the_largest() -> None:
    found = histograms(np.array([1e300, -1e300, np.inf, -np.inf, np.nan]), axes=(0,))[0]
    assert np.flatnonzero(found).tolist() == [0, N_BINS - 1]
    wide = histograms(np.array([2**63 - 1, -(2**63)]), axes=(0,))[0]
    assert [float(BORDERS[at]) for at in np.flatnonzero(wide)] == [-(2.0**63) * 33 / 32, 2.0**63]


def test_many_values_are_taken_a_piece_at_a_time() -> None:
    values = np.random.default_rng(1).standard_normal((2**18 + 7, 2))
    assert np.array_equal(histograms(values, axes=(0, 1))[0], counted(values.astype("f4")))


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_nothing_at_all(shape: tuple[int, int]) -> None:
    found = histograms(np.empty(shape), axes=(0,))
    assert found.shape == (1, shape[1], N_BINS)
    assert not found.any()


NUMBERS = st.lists(st.floats(width=32), max_size=40)


@settings(max_examples=40)
@given(NUMBERS, NUMBERS)
def test_counts_of_parts_are_added(one: list[float], other: list[float]) -> None:
    a, b, both = (histograms(np.array(x, "f4"), axes=(0,)) for x in (one, other, one + other))
    assert np.array_equal(added([a, b]), both)
    assert both.sum() == np.isfinite(one + other).sum()


def estimated(values: NDArray[Any]) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    counts = histograms(values, axes=(0,))
    return quantiles(counts, finite.min(keepdims=True), finite.max(keepdims=True))[0]


TINY = float(np.finfo(np.float32).tiny)
"""Smaller numbers are in bins as wide as those above it."""
NORMAL = st.one_of(
    st.floats(TINY, 2.0**120, width=32),
    st.floats(-(2.0**120), -TINY, width=32),
    st.integers(-40, 40).map(float),
)


@settings(max_examples=50)
@given(st.lists(NORMAL, min_size=1, max_size=60))
def test_quantiles_are_as_near_as_is_said(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    found = estimated(values)
    true = np.quantile(values.astype("f8"), QUANTILES, method="lower")
    assert np.all(np.abs(found - true) <= RELATIVE_ERROR * np.maximum(np.abs(true), TINY))
    assert (np.diff(found) >= 0).all()
    assert np.all((found >= values.min()) & (found <= values.max()))


def test_quantiles_of_many_values() -> None:
    values = np.random.default_rng(2).standard_normal(100_000)
    true = np.quantile(values, QUANTILES)
    assert np.all(np.abs(estimated(values) - true) <= RELATIVE_ERROR * np.abs(true) + 1e-3)


def test_one_value_is_each_of_its_quantiles() -> None:
    assert estimated(np.array([np.nan, 0.3])).tolist() == [0.3] * len(QUANTILES)


def test_there_are_no_quantiles_of_nothing() -> None:
    counts = np.zeros((2, N_BINS), np.int64)
    counts[1, N_BINS // 2] = 3
    found = quantiles(counts, np.array([np.inf, 0]), np.array([-np.inf, 0]))
    assert np.isnan(found[0]).all()
    assert not found[1].any()
