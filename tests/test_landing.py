"""Large results: equal to dask's own, put in their place block by block, read once."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import xarray as xr
from dask.delayed import delayed
from hypothesis import given
from hypothesis import strategies as st

from h5dask import landing
from h5dask.losses import compute


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "LARGE", 1)


def laid(shape: tuple[int, ...], chunks: Any, dtype: Any = float) -> da.Array:
    return da.from_array(np.arange(np.prod(shape)).reshape(shape).astype(dtype), chunks=chunks)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3).flatmap(
        lambda shape: st.tuples(
            st.just(tuple(shape)), st.tuples(*(st.integers(1, 6),) * len(shape))
        )
    ),
    st.sampled_from(["f4", "i8", "?", "c16"]),
)
def test_the_same_as_dask_s_own(case: tuple[tuple[int, ...], tuple[int, ...]], dtype: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landing, "LARGE", 1)
        values = laid(*case, dtype)
        (found,) = compute(values)
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, values.compute())


def test_datasets_keep_all_that_they_have() -> None:
    x = laid((6, 4), (4, 4))
    ds = xr.Dataset(
        {"x": (("row", "column"), x, {"units": "m"}), "small": ("row", x[:, 0]), "n": 3},
        {"name": ("row", list("abcdef")), "far": ("row", x[:, 1] * 2), "text": ("row", x[:, 2])},
        {"title": "some"},
    )
    ds.encoding["source"] = "a.h5"
    ds.x.encoding["chunksizes"] = (4, 4)
    text = da.from_array(np.array(list("uvwxyz"), object), chunks=2)
    ds = ds.assign_coords(text=("row", text))
    (found,) = compute(ds)
    xr.testing.assert_identical(found, ds.compute())
    assert found.encoding == ds.encoding
    assert found.x.encoding == ds.x.encoding
    assert not found.chunks
    (alone,) = compute(ds.x)
    xr.testing.assert_identical(alone, ds.x.compute())
    assert alone.name == "x"


def test_what_blocks_share_is_computed_once() -> None:
    seen: list[int] = []

    def noted(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        seen.append(len(block))
        return block

    x = laid((12,), 4).map_blocks(noted, dtype=float, meta=np.empty(0))
    ds = xr.Dataset({"twice": ("row", x * 2), "sum": x.sum(), "plus": ("row", x + 1)})
    twice, found, late = compute(x * 3, ds, delayed(sum)([1, 2]))
    assert seen == [4, 4, 4]
    assert (found["sum"].item(), late) == (66.0, 3)
    assert np.array_equal(twice, np.arange(12) * 3)
    assert np.array_equal(found.plus, np.arange(12) + 1)


def test_other_arrays_are_left_to_dask() -> None:
    masked = da.ma.masked_equal(laid((4,), 2), 2)
    unknown = laid((6,), 2)
    unknown = unknown[unknown > 2]
    lone, empty = laid((3,), 3), laid((0,), 2)
    found = compute(masked, unknown, lone, empty, 5, xr.Dataset({"n": 1}))
    assert isinstance(found[0], np.ma.MaskedArray)
    assert found[1].tolist() == [3.0, 4.0, 5.0]
    assert found[2].tolist() == [0.0, 1.0, 2.0]
    assert found[3].shape == (0,)
    assert found[4] == 5


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_any_scheduler(scheduler: str) -> None:
    x = laid((6, 4), (4, 3))
    with dask.config.set(scheduler=scheduler):
        (found,) = compute(x + 1)
    assert np.array_equal(found, np.arange(24).reshape(6, 4) + 1)


def test_workers_send_their_blocks() -> None:
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        (found,) = compute(laid((6, 4), (4, 3)) + 1)
    assert np.array_equal(found, np.arange(24).reshape(6, 4) + 1)


def test_a_block_that_fails_says_so() -> None:
    def fail(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise RuntimeError("no such block")

    with pytest.raises(RuntimeError, match="no such block"):
        compute(laid((6,), 2).map_blocks(fail, dtype=float))
