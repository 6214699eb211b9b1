"""Positions against plain lists of them."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from h5dask.positions import Positions, along, elements_of, positions_of, same_positions


def listed(positions: Positions | None, size: int) -> list[int]:
    assert positions is not None
    return np.arange(size)[positions].tolist()


@given(st.lists(st.booleans()))
def test_positions_are_those_of_the_hits(hits: list[bool]) -> None:
    found = positions_of(np.array(hits, dtype=bool))
    expected = [row for row, hit in enumerate(hits) if hit]
    assert listed(found, len(hits)) == expected
    consecutive = expected == list(range(expected[0], expected[-1] + 1)) if expected else True
    assert isinstance(found, slice) == consecutive


@given(st.data())
def test_elements_are_those_of_each_row_in_turn(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    offsets = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    row = st.integers(0, len(sizes) - 1)
    rows = data.draw(st.lists(row, max_size=8).map(lambda r: np.array(r, np.int64)) | st.slices(0))
    if isinstance(rows, slice):
        first, stop = sorted((data.draw(row), data.draw(row)))
        rows = slice(first, stop)
    taken = [range(offsets[r], offsets[r + 1]) for r in np.arange(len(sizes))[rows]]
    expected = [position for elements in taken for position in elements]
    found = elements_of(offsets, rows)
    assert listed(found, sum(sizes)) == expected
    runs = expected == list(range(expected[0], expected[-1] + 1)) if expected else True
    assert isinstance(found, slice) == runs


@pytest.mark.parametrize(
    ("indexer", "expected"),
    [
        ([3, 1], [3, 1]),
        ([], []),
        ([-1], [3]),
        (np.array([True, False, False, True]), [0, 3]),
        (slice(None, None, -2), [3, 1]),
        (xr.Variable("row", [2, 2]), [2, 2]),
    ],
)
def test_indexers_along_a_dim(indexer: object, expected: list[int]) -> None:
    assert listed(along("row", {"row": indexer, "other": 0}), 4) == expected


def test_a_dim_that_is_not_indexed_is_whole() -> None:
    assert along("row", {"other": [1]}) == slice(None)


@pytest.mark.parametrize(
    "indexer", [2, np.int64(2), xr.Variable("point", [1]), np.zeros((1, 1), int)]
)
def test_indexers_that_leave_other_dims(indexer: object) -> None:
    assert along("row", {"row": indexer}) is None


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (slice(0, 5), slice(None), True),
        (slice(1, 5), slice(None), False),
        (slice(0, 2), np.array([0, 1]), True),
        (np.array([1, 0]), slice(0, 2), False),
        (np.array([1, 0]), np.array([1, 0]), True),
    ],
)
def test_same_positions(a: Positions, b: Positions, same: bool) -> None:
    assert same_positions(a, b, size=5) is same
