"""Candidates of tiles against all numbers at once: none that may be among the k nearest is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.nearest import (
    ROWS,
    SEGMENT,
    candidates,
    collect,
    count_above,
    rows_above,
    settle,
)

DTYPES = ("f4", "f8")
seeds = st.integers(0, 2**32 - 1)
heights = st.sampled_from([1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS, 5 * ROWS + 7])


def laid(numbers: NDArray[Any], apart: int = 0) -> tuple[NDArray[Any], tuple[int, int, int]]:
    """Return a tile with infinity between its rows, and its shape."""
    tile = np.pad(numbers, ((0, 0), (0, apart)), constant_values=np.inf)
    return tile.ravel(), (*numbers.shape, tile.shape[1])


def searched(
    numbers: NDArray[Any],
    slack: NDArray[Any],
    least: NDArray[Any],
    k: int,
    height: int,
    apart: int = 0,
) -> tuple[list[set[int]], NDArray[Any]]:
    """Return the candidates of each query, and the bounds when all tiles were seen."""
    width = numbers.shape[1]
    own = np.ones((width, 2), numbers.dtype)
    held = candidates(least.copy(), own, np.zeros(width, numbers.dtype), k)
    for first in range(0, len(numbers), height):
        collect(*laid(numbers[first : first + height], apart), (first, 0), k, slack, held)
    settle(k, slack, held)
    found = [{*held.rows[q, : held.counts[q]].tolist()} for q in range(width)]
    assert [len(one) for one in found] == held.counts.tolist()
    for q in range(width):
        rows = held.rows[q, : held.counts[q]]
        assert np.array_equal(held.numbers[q, : held.counts[q]], numbers[rows, q])
    return found, held.least


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    seeds,
    heights,
    st.sampled_from([0, 16]),
    st.integers(1, 200),
    st.integers(1, 25),
    st.sampled_from([0.0, 0.01, 0.5]),
)
def test_no_candidate_is_lost(
    dtype: str, seed: int, height: int, apart: int, n: int, k: int, loose: float
) -> None:
    """True numbers lie anywhere below the tile's, by the slack at most."""
    rng = np.random.default_rng(seed)
    true = rng.standard_normal((n, SEGMENT)).round(rng.integers(0, 4)).astype(dtype)
    slack = (loose * rng.random((n, 2))).astype(dtype)
    numbers = true + (rng.random(true.shape) * 0.9 * slack.sum(1)[:, None]).astype(dtype)
    least = np.full(SEGMENT, -np.inf, dtype)
    bounded = rng.random(SEGMENT) < 0.3
    least[bounded] = rng.standard_normal(bounded.sum())
    found, last = searched(numbers, slack, least, k, height, apart)
    for q in range(SEGMENT):
        if np.isposinf(last[q]):
            assert not found[q]
            continue
        kth = np.sort(true[:, q])[-k] if n >= k else -np.inf
        wanted = {*np.flatnonzero((true[:, q] >= kth) & (numbers[:, q] >= least[q])).tolist()}
        assert wanted <= found[q]
        assert all(numbers[row, q] >= least[q] for row in found[q])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 3, 10])
def test_only_the_k_nearest_stay_where_nothing_is_lost(dtype: str, k: int) -> None:
    rng = np.random.default_rng(k)
    numbers = rng.permuted(np.tile(np.arange(500, dtype=dtype), (2 * SEGMENT, 1)).T, axis=0)
    slack = np.zeros((500, 2), dtype)
    found, last = searched(numbers, slack, np.full(2 * SEGMENT, -np.inf, dtype), k, 100)
    assert last.tolist() == [500 - k] * (2 * SEGMENT)
    for q in range(2 * SEGMENT):
        assert found[q] == {*np.argsort(numbers[:, q])[-k:].tolist()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_too_many_equal_ones_are_given_up(dtype: str) -> None:
    numbers = np.zeros((300, SEGMENT), dtype)
    numbers[:, 1:] -= np.arange(300, dtype=dtype)[:, None]
    found, last = searched(
        numbers, np.zeros((300, 2), dtype), np.full(SEGMENT, -np.inf, dtype), 2, 64
    )
    assert np.isposinf(last[0])
    assert found[0] == set()
    assert found[1:] == [{0, 1}] * (SEGMENT - 1)


def test_a_blur_keeps_what_is_nearly_as_near() -> None:
    numbers = -np.repeat(np.arange(100.0)[:, None], SEGMENT, axis=1)
    blur = np.arange(float(SEGMENT))
    held = candidates(np.full(SEGMENT, -np.inf), np.ones((SEGMENT, 2)), blur, 30)
    slack = np.zeros((100, 2))
    collect(*laid(numbers), (0, 0), 30, slack, held)
    settle(30, slack, held)
    assert held.counts.tolist() == (30 + np.arange(SEGMENT)).tolist()


def test_columns_that_fill_a_tile_have_no_candidates() -> None:
    numbers = np.ones((40, SEGMENT), np.float32)
    least = np.full(SEGMENT, np.inf, np.float32)
    least[0] = 0
    found, last = searched(numbers, np.zeros((40, 2), np.float32), least, 50, 40)
    assert [len(one) for one in found] == [40] + [0] * (SEGMENT - 1)
    assert last[0] == 0


@given(seeds, heights, st.integers(1, 70), st.sampled_from([0, 16]), st.sampled_from(DTYPES))
def test_rows_above_a_bound(seed: int, height: int, width: int, apart: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    tile = rng.integers(-2, 3, (height, width)).astype(dtype)
    least = rng.integers(-3, 4, width).astype(dtype)
    least[rng.random(width) < 0.1] = np.inf
    counts = np.full(width, -1)
    count_above(*laid(tile, apart), least, counts)
    assert np.array_equal(counts, (tile >= least).sum(0))
    rows = np.full(counts.sum(), -1, np.int32)
    rows_above(*laid(tile, apart), 1000, least, np.cumsum(counts) - counts, rows)
    told = [1000 + at for q in range(width) for at in np.flatnonzero(tile[:, q] >= least[q])]
    assert rows.tolist() == told
