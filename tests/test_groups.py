"""Rows of groups, consecutive ones as slices."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5dask.groups import length, spans


@given(st.lists(st.lists(st.integers(0, 6), max_size=5)))
def test_spans_are_the_rows_and_slices_where_they_follow_one_another(rows: list[list[int]]) -> None:
    found = spans([np.array(some, np.int64) for some in rows])
    everything = np.arange(7)
    assert [everything[some].tolist() for some in found] == rows
    assert [length(some) for some in found] == [len(some) for some in rows]
    follow = [some == list(range(some[0], some[0] + len(some))) if some else True for some in rows]
    assert [isinstance(some, slice) for some in found] == follow
