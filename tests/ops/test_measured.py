"""Sums of given pairs: exact, in feature order, and the same for all blocks, panels and pieces."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.ops import measured as module
from h5dask.ops.measured import measured

DTYPES = ("float16", "float32", "float64", "int8", "uint8")


def drawn(dtype: str, n: int, n_features: int, seed: int) -> NDArray[Any]:
    values = np.random.default_rng(seed).standard_normal((n, n_features)) * 30
    return np.clip(values, 0, 127).astype(dtype) if dtype == "uint8" else values.astype(dtype)


def in_order(terms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add along the last axis, term after term."""
    total = np.zeros(terms.shape[:-1])
    for j in range(terms.shape[-1]):
        total = total + terms[..., j]
    return total


def oracle(base: NDArray[Any], query: NDArray[Any], ids: NDArray[Any]) -> dict[str, Any]:
    there = (ids >= 0) & (ids < len(base))
    x, q = base.astype("f8")[np.where(there, ids, 0)], query.astype("f8")[:, None]
    sums = {"squares": (q - x) ** 2, "products": q * x, "sizes": x * x}
    found = {name: np.where(there, in_order(terms), np.nan) for name, terms in sums.items()}
    return {**found, "own": in_order((q * q)[:, 0])}


def arrays(
    base: Any, query: Any, ids: Any, chunks: int | None = None
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    made = (
        xr.DataArray(base, dims=("vector", "feature")),
        xr.DataArray(query, dims=("query", "feature")),
        xr.DataArray(ids, dims=("query", "neighbor")),
    )
    return made if chunks is None else (made[0].chunk(vector=chunks), *made[1:])


@given(
    dtype=st.sampled_from(DTYPES),
    other=st.sampled_from(DTYPES),
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    chunks=st.integers(1, 9),
    limits=st.tuples(st.integers(1, 2000), st.integers(1, 200)),
    seed=st.integers(0, 9),
)
def test_sums_are_exact_for_all_blocks_panels_and_pieces(
    dtype: str,
    other: str,
    sizes: tuple[int, int, int, int],
    chunks: int,
    limits: tuple[int, int],
    seed: int,
) -> None:
    n, n_queries, n_features, width = sizes
    base, query = drawn(dtype, n, n_features, seed), drawn(other, n_queries, n_features, seed + 1)
    ids = np.random.default_rng(seed).integers(-2, n + 2, (n_queries, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PANEL", limits[0])
        patch.setattr(module, "PIECE", limits[1])
        found = measured(*arrays(base, query, ids, chunks)).compute()
    for name, expected in oracle(base, query, ids).items():
        np.testing.assert_array_equal(found[name].values, expected, err_msg=name)


def test_labels_are_those_of_the_ids() -> None:
    base, query = drawn("float32", 6, 3, 0), drawn("float32", 2, 3, 1)
    labels = np.array([4, 5, 6, 7, 8, 9])
    found = measured(*arrays(base, query, [[5, 0, 6], [-1, 2, 2]], 4), base_labels=labels)
    np.testing.assert_array_equal(found.labels, [[9, 4, -1], [-1, 6, 6]])


def test_nothing_is_computed_before_it_is_asked_for(no_compute: None) -> None:
    base = da.zeros((40, 3), chunks=(10, 3))
    found = measured(*arrays(base, np.zeros((2, 3)), [[1], [39]]))
    assert found.chunks["query"] == (2,)


def test_coords_of_the_ids_stay_and_arrays_in_memory_are_answered_at_once() -> None:
    base, query, ids = arrays(np.ones((3, 2)), np.zeros((2, 2)), [[0], [2]])
    found = measured(base, query, ids.assign_coords(query=[7, 9]))
    assert found.squares.chunks is None
    assert found.sel(query=9).squares.values.tolist() == [2.0]


def test_a_task_returns_its_pairs_alone_and_a_block_is_read_once_a_panel() -> None:
    reads: list[int] = []

    def read(block: NDArray[Any]) -> NDArray[Any]:
        reads.append(len(block))
        return block

    values = drawn("float32", 60, 4, 0)
    base = da.from_array(values, chunks=(10, 4)).map_blocks(read, meta=values[:0], name="read-base")
    ids = np.random.default_rng(0).integers(-5, 70, (8, 5))
    n_pairs: list[int] = []

    class Pairs(Callback):  # type: ignore[misc]
        def _posttask(self, key: Any, result: Any, *more: Any) -> None:
            if "run-measure" in str(key):
                n_pairs.append(len(result.places))

    with Pairs():
        measured(*arrays(base, drawn("float32", 8, 4, 1), ids)).compute(scheduler="sync")
    assert sorted(n_pairs) == sorted(int((ids // 10 == block).sum()) for block in range(6))
    assert reads == [10] * 6


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([[1.0]], r"ids: found float64 of shape \(1, 1\)"),
        ([1], r"ids: found int64 of shape \(1,\)"),
        ([[1], [2]], r"ids: found int64 of shape \(2, 1\); expected .* of 1 queries"),
    ],
)
def test_wrong_ids_are_refused(ids: list[Any], says: str) -> None:
    rows = np.asarray(ids)
    given_ids = xr.DataArray(rows, dims=("query", "neighbor")[: rows.ndim])
    base, query, _ = arrays(np.ones((3, 2)), np.ones((1, 2)), [[0]])
    with pytest.raises(Refused, match=says):
        measured(base, query, given_ids)


def test_other_features_are_refused() -> None:
    with pytest.raises(Refused, match="query: found 3 features"):
        measured(*arrays(np.ones((3, 2)), np.ones((1, 3)), [[0]]))
