"""Bins of float32 numbers: they cover all, keep their order, and are as narrow as is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.kernels.binning import MANTISSA, N_BINS, count_bins, edges

LARGEST = np.finfo(np.float32).max


def bin_of(values: Any) -> list[int]:
    """Return the bin of each value, counted one by one."""
    column = np.array(values, np.float32).reshape(-1, 1)
    found = []
    counts = np.zeros((1, N_BINS), np.int64)
    for row in range(len(column)):
        count_bins(column[row : row + 1], np.zeros(1, np.int64), 0, counts)
        (at,) = np.flatnonzero(counts[0])
        assert counts[0, at] == 1
        counts[0, at] = 0
        found.append(int(at))
    return found


def counted(values: NDArray[np.float32]) -> NDArray[np.int64]:
    counts = np.zeros((1, N_BINS), np.int64)
    count_bins(values.reshape(1, -1), np.zeros(1, np.int64), 0, counts)
    return counts[0]


def test_edges_ascend_from_end_to_end() -> None:
    found = edges()
    assert len(found) == N_BINS + 1
    assert (np.diff(found) > 0).all()
    assert np.array_equal(found, -found[::-1])
    assert found[0] == -(2.0**128)
    assert found[N_BINS // 2] == 0


def test_bins_are_as_narrow_as_is_said() -> None:
    found = edges()
    normal = found[found >= np.finfo(np.float32).tiny]
    relative = np.diff(normal) / normal[:-1]
    assert relative.max() == 2.0**-MANTISSA == 1 / 32
    assert relative.min() > 1 / 64


def test_each_bin_holds_its_edge_and_all_up_to_the_next() -> None:
    upper = edges()[N_BINS // 2 : -1].astype(np.float32)
    at = list(range(N_BINS // 2, N_BINS))
    assert bin_of(upper) == at
    last = np.append(np.nextafter(upper[1:], np.float32(0)), LARGEST)
    assert bin_of(last) == at


def test_negative_numbers_mirror_the_others() -> None:
    upper = edges()[N_BINS // 2 + 1 : -1].astype(np.float32)
    assert bin_of(-upper) == [N_BINS - 1 - at for at in bin_of(upper)]
    assert bin_of([0.0, -0.0, 1e-45, -1e-45]) == [N_BINS // 2] * 3 + [N_BINS // 2 - 1]


@given(st.lists(st.floats(width=32), max_size=50))
def test_any_numbers_as_numpy_counts_them(given: list[float]) -> None:
    values = np.array(given, np.float32)
    finite = values[np.isfinite(values)].astype(np.float64)
    plus, minus = (
        np.histogram(one, edges())[0] for one in (finite[finite >= 0], -finite[finite < 0])
    )
    assert np.array_equal(counted(values), plus + minus[::-1])


@pytest.mark.parametrize("step", [0, 1])
def test_cells(step: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((7, 3)).astype(np.float32)
    values[2, 1] = np.nan
    cells = rng.integers(0, 4, 7) * (3 if step else 1)
    counts = np.ones((12, N_BINS), np.int64)
    count_bins(values, cells, step, counts)
    expected = np.ones_like(counts)
    for r, c in np.ndindex(7, 3):
        expected[cells[r] + step * c] += counted(values[r, c : c + 1])
    assert np.array_equal(counts, expected)
