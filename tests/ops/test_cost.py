"""Costs from shapes and blocks, against numbers counted by hand."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from h5dask.ops.cost import SCRATCH, TEXT, Cost, Stored, merged, reading, reducing, writing

MB = 10**6


@pytest.fixture
def ds() -> xr.Dataset:
    """Return float32 in 3 x 2 blocks, of 4 x 6 values the largest; text in 2; ints in memory."""
    return xr.Dataset(
        {
            "x": (("row", "col"), da.zeros((10, 10), chunks=((4, 4, 2), (6, 4)), dtype="f4")),
            "t": ("row", da.from_array(np.full(10, "ab", object), chunks=((5, 5),))),
            "m": ("row", np.arange(10)),
        }
    )


def test_reading(ds: xr.Dataset, no_compute: None) -> None:
    cost = reading(ds, stored={"t": Stored(value=2.0)})
    assert (cost.n_blocks, cost.n_tasks) == (8, 8)
    assert cost.read == 400 + 10 * (16 + 2)
    assert (cost.written, cost.decoded, cost.encoded, cost.flops) == (0, 0, 0, 0)
    assert cost.memory == 5 * (TEXT + 2) + SCRATCH
    assert reading(ds[["x"]]).memory == 4 * 6 * 4 + SCRATCH
    assert reading(ds[["m"]]) == Cost(
        stage="read", n_blocks=0, n_tasks=0, read=0, written=0, flops=0, memory=0
    )


def test_reading_what_is_compressed(ds: xr.Dataset) -> None:
    cost = reading(ds[["x"]], stored={"x": Stored(ratio=0.25, chunk=MB)})
    assert (cost.read, cost.decoded) == (100, 400)
    assert cost.memory == 96 + SCRATCH + 4 * MB


def test_coordinates_are_read_too(ds: xr.Dataset) -> None:
    assert reading(ds.set_coords("x")) == reading(ds)
    assert reducing(ds.set_coords("x")) == reducing(ds)


def test_reducing(ds: xr.Dataset) -> None:
    cost = reducing(ds[["x"]])
    assert cost.memory == 96 + 96 + 24 + 2 * SCRATCH  # the block, its copy, a bool a value
    assert (cost.flops, cost.n_tasks) == (200, 6 + 2)
    assert reducing(ds[["x"]], skipna=False).memory == 96 + SCRATCH
    whole = ds[["x"]].astype("i4")
    assert reducing(whole).memory == 96 + SCRATCH


def test_writing(ds: xr.Dataset, no_compute: None) -> None:
    cost = writing(ds[["x", "m"]])
    assert cost.written == 400 + 80
    assert cost.read == 400 + 480  # the source, and what was written
    assert cost.n_blocks == 6 + 1
    assert cost.n_tasks == 6 + 1 + 1 + 1
    assert cost.memory == 96 + 2 * SCRATCH


def test_writing_compressed(ds: xr.Dataset) -> None:
    target = {"x": Stored(ratio=0.5, chunk=MB)}
    cost = writing(ds[["x"]], stored=target, source={})
    assert (cost.read, cost.written) == (400, 200)
    assert (cost.decoded, cost.encoded) == (0, 400)
    assert cost.memory == 96 + SCRATCH + 48 + SCRATCH + 4 * MB
    both = writing(ds[["x"]], stored=target)
    assert (both.read, both.decoded) == (200, 400)
    assert both.memory == cost.memory + 4 * MB


numbers = st.integers(0, 2**60)
costs = st.builds(
    Cost,
    stage=st.sampled_from(["read", "write"]),
    n_blocks=numbers,
    n_tasks=numbers,
    read=numbers,
    written=numbers,
    flops=st.integers(0, 2**40).map(float),  # whole, so that sums are exact
    memory=numbers,
    decoded=numbers,
    encoded=numbers,
)


@given(costs, costs, costs)
def test_addition_is_associative(a: Cost, b: Cost, c: Cost) -> None:
    assert (a + b) + c == a + (b + c)
    assert (a + b).memory == max(a.memory, b.memory)


@given(st.lists(costs))
def test_merging_keeps_every_byte(given_costs: list[Cost]) -> None:
    found = merged(given_costs)
    assert [cost.stage for cost in found] == list(dict.fromkeys(c.stage for c in given_costs))
    for name in ("read", "written", "n_tasks", "decoded", "encoded"):
        assert sum(getattr(c, name) for c in found) == sum(getattr(c, name) for c in given_costs)
