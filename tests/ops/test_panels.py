"""Panels hold the rows that are asked for; arrays of their own share no task."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode
from hypothesis import given
from hypothesis import strategies as st

from h5dask.ops.panels import own, panels
from tests.sources import Source


@given(
    st.integers(1, 12), st.integers(1, 3), st.integers(1, 4), st.integers(1, 200), st.data()
)  # fmt: skip
def test_panels_hold_the_rows_in_their_order(
    n: int, n_layers: int, width: int, nbytes: int, data: st.DataObject
) -> None:
    values = np.arange(n * n_layers * width).reshape(n, n_layers, width)
    chunks = tuple(data.draw(st.integers(1, size)) for size in values.shape)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)))
    layer = data.draw(st.integers(0, n_layers - 1))
    array = da.from_array(values, chunks=chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("h5dask.ops.panels.BLOCK_SIZE", nbytes)
        found = panels(array, rows, (layer,))
    assert found.chunks[1] == (width,)
    assert max(found.chunks[0]) <= max(1, nbytes // (8 * width))
    assert np.array_equal(found.compute(scheduler="sync"), values[rows, layer])
    plain = panels(array[:, layer], rows, ())
    assert np.array_equal(plain.compute(scheduler="sync"), values[rows, layer])


def test_only_the_rows_and_the_layer_that_are_asked_for_are_read() -> None:
    source = Source(np.arange(60.0).reshape(10, 3, 2))
    array = source.lazy((4, 3, 2), "abc").data
    for rows in (np.arange(3, 9), np.array([8, 3, 5, 4, 7, 6])):
        source.n_reads[:] = 0
        panels(array, rows, (1,)).compute(scheduler="sync")
        assert np.array_equal(np.argwhere(source.n_reads[..., 0] == 1)[:, 0], np.arange(3, 9))
        assert source.n_reads.sum() == 12


def made(how: str) -> da.Array:
    """Return an array by tasks of some kind."""
    read = Source(np.arange(24.0).reshape(6, 4)).lazy((2, 4), "ab").data
    ways: dict[str, Any] = {
        "read": lambda: read,
        "sliced": lambda: read[1:5],
        "sliced twice": lambda: read[1:][::2],
        "taken": lambda: read[[4, 0, 3]],
        "in other blocks": lambda: read[1:].rechunk((3, 2)),
        "computed": lambda: (read + 1)[2:].rechunk(-1),
        "in memory": lambda: da.from_array(np.arange(6.0), chunks=4),
        "made": lambda: da.ones((3, 2), chunks=2),
        "a number": read.sum,
    }
    array: da.Array = ways[how]()
    return array


KINDS = ["read", "sliced", "sliced twice", "taken", "in other blocks", "computed", "in memory",
         "made", "a number"]  # fmt: skip


@pytest.mark.parametrize("how", KINDS)
def test_arrays_of_their_own_are_equal_and_share_no_task(how: str) -> None:
    array = made(how)
    one, other = own(array, "one", "other")
    before, first, second = (dict(each.__dask_graph__()) for each in (array, one, other))
    for shared in (first.keys() & second.keys(), first.keys() & before.keys()):
        assert all(isinstance(first[key], DataNode) for key in shared)
    assert all(key[0].startswith("other-") for key in second if isinstance(key, tuple))
    for each in (one, other):
        assert (each.chunks, each.dtype) == (array.chunks, array.dtype)
        np.testing.assert_array_equal(*dask.compute(each, array, scheduler="sync"))
        half = (each * 2)[:1] if each.ndim else each * 2
        told = (array * 2)[:1] if each.ndim else array * 2
        np.testing.assert_array_equal(*dask.compute(half, told, scheduler="sync"))
    assert own(array, "one")[0].name == one.name
