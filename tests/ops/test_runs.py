"""Where blocks of whole owners are cut, against a loop over the owners."""

from __future__ import annotations

import dask.array as da
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from h5dask.ops.runs import cuts, in_runs, lengths_of


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 40), max_size=6))
@example([0, 0], [])
@example([5, 0, 0], [5])
@example([2, 0, 10, 0], [1, 2, 3])
def test_every_owner_lies_in_one_block(sizes: list[int], borders: list[int]) -> None:
    ends = np.cumsum(sizes)
    total = sum(sizes)
    at = sorted({min(border, total) for border in borders})
    blocks = np.diff([0, *at, total])
    found = cuts(tuple(blocks.tolist()), ends)
    assert found[-1] == len(sizes)
    assert (np.diff(found) > 0).all()
    lengths = lengths_of(ends, found)
    assert sum(lengths) == total
    assert len(found) <= max(1, len(blocks))
    for end in np.cumsum(lengths):
        assert end in (0, *ends)
    for border in at:  # no block goes on beyond the owner in which a former one ended
        if border in ends:
            assert border in np.cumsum(lengths) or border in (0, total)


def test_an_array_in_runs_has_the_same_values() -> None:
    values = da.from_array(np.arange(12).reshape(6, 2), chunks=(4, 1))
    found = in_runs(values, np.array([1, 5, 6]), np.array([2, 3]))
    assert found.chunks == ((5, 1), (1, 1))
    assert np.array_equal(found.compute(), np.arange(12).reshape(6, 2))
