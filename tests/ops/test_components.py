"""`covariance` and `pca` against numpy in float64: any blocks, offsets, rank; read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.errors import Refused
from h5dask.ops.components import add_products, covariance, merge, pca, scatter
from h5dask.testing import example_file, refuse_to_compute
from tests.sources import Source

DIMS = ("row", "column")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


def lazy(values: NDArray[Any], chunks: Any, dims: Any = DIMS) -> xr.DataArray:
    return xr.DataArray(da.from_array(values, chunks=chunks), dims=dims, name="x")


def drawn(n: int, width: int, dtype: str = "f8", offset: float = 0.0) -> NDArray[Any]:
    """Return rows whose directions differ in variance."""
    rng = np.random.default_rng(n + width)
    mixed = rng.standard_normal((n, width)) * np.arange(1, width + 1)
    return (mixed @ np.linalg.qr(rng.standard_normal((width, width)))[0] + offset).astype(dtype)


def told(values: NDArray[Any], offset: float = 0.0) -> NDArray[np.float64]:
    """Return numpy's covariance of rows that are finite, less an offset that costs no digit."""
    x = values.astype(np.float64) - offset
    x = x[np.isfinite(x).all(1)]
    return np.cov(x.T, ddof=0).reshape(values.shape[1], -1)


# Covariance


@pytest.mark.parametrize(("dtype", "offset"), [("f8", 1e4), ("f4", 1e4), ("f2", 1e3), ("i2", 1e4)])
@pytest.mark.parametrize("chunks", [1, (7, 4), (200, 9)])
def test_an_offset_costs_no_digits(dtype: str, offset: float, chunks: Any) -> None:
    values = drawn(200, 9, dtype, offset)
    found = covariance(lazy(values, chunks), "row")
    assert (found.dtype, found.name) == (np.float64, "covariance")
    assert found.dims == ("column", "other_column")
    error = 1e-12 * np.abs(told(values, offset)).max()
    np.testing.assert_allclose(found.values, told(values, offset), rtol=0, atol=error)


@pytest.mark.parametrize("first", [6e4, np.nan, np.inf])
def test_a_first_row_that_is_unlike_the_others(first: float) -> None:
    values = drawn(300, 5, "f4", 10)
    values[0] = first
    for chunks in (1, 50, 300):
        found = covariance(lazy(values, (chunks, 5)), "row").values
        np.testing.assert_allclose(found, told(values), rtol=1e-12, atol=1e-12 * found.max())


def test_many_pieces_and_strips_of_one_block() -> None:
    values = drawn(2000, 600, "f4", 100)
    values[3] = np.nan
    found = covariance(xr.DataArray(values, dims=DIMS), "row").values
    np.testing.assert_allclose(found, told(values), rtol=0, atol=1e-12 * found.max())


def test_any_axes_and_several_reduced() -> None:
    values = np.random.default_rng(0).standard_normal((6, 5, 4))
    rows = np.moveaxis(values, 1, -1).reshape(-1, 5)
    x = lazy(values, (4, 2, 3), ("a", "b", "c")).assign_coords(b=list("vwxyz"), at=3)
    found = covariance(x, ["c", "a"])
    np.testing.assert_allclose(found.values, told(rows), rtol=1e-12, atol=1e-15)
    assert found.sel(b="w", other_b="z").compute() == found.values[1, 4]
    assert found.at == 3


def test_rows_with_anything_not_finite_are_left_out() -> None:
    values = drawn(40, 3)
    values[3, 0], values[9, 2], values[20] = np.nan, np.inf, -np.inf
    np.testing.assert_allclose(
        covariance(lazy(values, (7, 2)), "row").values, told(values), rtol=1e-12, atol=1e-12
    )
    found = pca(lazy(values, (7, 2)), 1, dim="row").compute()
    assert (found["count"].item(), found.skipped.item()) == (37, 3)


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.full((5, 3), np.nan)])
def test_no_whole_row_is_nan(values: NDArray[Any]) -> None:
    for x in (lazy(values, 2), xr.DataArray(values, dims=DIMS)):
        assert np.isnan(covariance(x, "row")).all()
        found = pca(x, 2, dim="row").compute()
        assert found.skipped.item() == len(values)
        for name in ("mean", "components", "explained_variance", "explained_variance_ratio"):
            assert np.isnan(found[name]).all(), name


def test_one_row_has_no_variance() -> None:
    x = xr.DataArray([[1e4, 3.0, 0.1]], dims=DIMS)
    assert not covariance(x, "row").values.any()
    found = pca(x, 3, dim="row")
    assert found["mean"].values.tolist() == [1e4, 3.0, 0.1]
    assert not found.explained_variance.values.any()
    assert np.isnan(found.explained_variance_ratio).all()
    axes = found.components.values
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


# Principal components


@pytest.mark.parametrize(("dtype", "offset"), [("f8", 1e4), ("f4", 1e4), ("f2", 1e3)])
@pytest.mark.parametrize("chunks", [(1, 6), (30, 4), (200, 6)])
def test_components_are_singular_vectors(dtype: str, offset: float, chunks: Any) -> None:
    values = drawn(200, 6, dtype, offset)
    x = values.astype(np.float64) - offset
    _, sizes, axes = np.linalg.svd(x - x.mean(0))
    found = pca(lazy(values, chunks), 4, dim="row").compute()
    np.testing.assert_allclose(found["mean"], x.mean(0) + offset, rtol=1e-15)
    np.testing.assert_allclose(found.explained_variance, sizes[:4] ** 2 / 200, rtol=1e-12)
    ratio = sizes[:4] ** 2 / (sizes**2).sum()
    np.testing.assert_allclose(found.explained_variance_ratio, ratio, rtol=1e-12)
    signs = np.sign((found.components.values * axes[:4]).sum(1))
    np.testing.assert_allclose(found.components, axes[:4] * signs[:, None], atol=1e-12)
    largest = np.abs(found.components.values).argmax(1)
    assert (found.components.values[np.arange(4), largest] > 0).all()
    assert (found["count"].item(), found.skipped.item()) == (200, 0)


@pytest.mark.parametrize("n_rows", [4, 100])
def test_directions_beyond_the_rank_explain_nothing(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n_rows, 3)) @ rng.standard_normal((3, 7)) + 50
    found = pca(lazy(values, (9, 3)), 7, dim="row").compute()
    assert (found.explained_variance >= 0).all()
    assert (found.explained_variance[3:] < 1e-12 * found.explained_variance[0]).all()
    np.testing.assert_allclose(found.explained_variance_ratio.sum(), 1, rtol=1e-12)
    axes = found.components.values
    np.testing.assert_allclose(axes @ axes.T, np.eye(7), atol=1e-12)


def test_coords_of_columns_are_kept() -> None:
    x = xr.DataArray(drawn(9, 3), dims=DIMS, coords={"column": list("xyz"), "count": 5, "at": 2})
    found = pca(x, 2, dim="row")
    assert found.sel(column="y").components.shape == (2,)
    assert (found["count"].item(), found["at"].item()) == (9, 2)
    real = h5dask.open_dataset(example_file("activations")).activations.sel(layer=3)
    made = pca(real, 2, dim="record")
    assert made["layer"].item() == 3
    assert set(made.coords) == {"layer"}


# Blocks


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 7), st.sampled_from(["f8", "f4", "f2"]), st.data())
def test_blocks_never_change_a_result(n: int, width: int, dtype: str, data: st.DataObject) -> None:
    values = drawn(n, width, dtype, 20)
    values[np.random.default_rng(n).random(n) < 0.1] = np.nan
    chunks = data.draw(st.integers(1, n)), data.draw(st.integers(1, width))
    found = pca(lazy(values, chunks), width, dim="row").compute()
    whole = pca(lazy(values, -1), width, dim="row").compute()
    matrix = covariance(lazy(values, chunks), "row").values
    scale = np.nan_to_num(np.abs(matrix)).max() + 1e-3
    np.testing.assert_allclose(
        matrix, covariance(lazy(values, -1), "row").values, atol=1e-12 * scale
    )
    variances = found.explained_variance, whole.explained_variance
    np.testing.assert_allclose(*variances, atol=1e-12 * scale)
    np.testing.assert_allclose(found["mean"], whole["mean"], rtol=1e-13)
    for name in ("count", "skipped"):
        assert found[name].item() == whole[name].item()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_merging_is_associative(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((n, 4)) + 1e4 for n in lengths]
    a, b, c = parts = [scatter(block, kept=1) for block in blocks]
    before = [part.products.copy() for part in parts]
    for found in (merge([merge([a, b]), c]), merge([a, merge([b, c])]), merge(parts)):
        whole = scatter(np.concatenate(blocks), kept=1)
        assert found.count == whole.count == sum(lengths)
        np.testing.assert_allclose(found.products, whole.products, atol=1e-10)
        if whole.count:
            np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-15)
    assert all(np.array_equal(one, part.products) for one, part in zip(before, parts, strict=True))


def test_products_are_added_in_strips() -> None:
    rows = np.random.default_rng(0).integers(-9, 9, (5, 700)).astype(np.float64)
    products = np.ones((700, 700))
    add_products(products, rows)
    assert np.array_equal(products, rows.T @ rows + 1)


def test_each_value_is_read_once() -> None:
    source = Source(drawn(60, 5, "f4"))
    x = source.lazy((7, 2), DIMS)
    with dask.config.set(scheduler=refuse_to_compute):
        found, matrix = pca(x, 3, dim="row"), covariance(x, "row")
        with pytest.raises(AssertionError, match="something was computed"):
            found.compute()
    assert not source.n_reads.any()
    for made in (found, matrix):
        source.n_reads[:] = 0
        made.compute()
        assert np.all(source.n_reads == 1)
    assert isinstance(covariance(x.compute(), "row").data, np.ndarray)


def test_records_of_wide_rows_are_few() -> None:
    x = lazy(np.zeros((640, 4096), np.float16), (1, 4096))
    graph = dict(dask.optimize(covariance(x, "row").data)[0].__dask_graph__())
    runs = [key for key in graph if "run-scatter" in str(key)]
    assert 0 < len(runs) * 8 * 4096**2 <= 8 * 2**30


def test_schedulers_agree() -> None:
    x = lazy(drawn(300, 6, "f2"), (11, 4))
    made = pca(x, 6, dim="row")
    xr.testing.assert_identical(made.compute(scheduler="threads"), made.compute(scheduler="sync"))


# What is refused


X = xr.DataArray(np.ones((4, 3, 2)), dims=("a", "b", "c"), name="x")
TEXT = xr.DataArray(np.array([["a"]], object), dims=("a", "b"), name="words")
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: covariance(TEXT, "a"), "words: found text; expected numbers"),
    "text for components": (lambda: pca(TEXT, 1, dim="a"), "words: found text; expected numbers"),
    "unknown dim": (lambda: covariance(X, "d"), "x: found no dim d; expected of a, b, c"),
    "too few dims": (
        lambda: covariance(X, ["a"]),
        r"x: found \['b', 'c'\] beside \['a'\]; expected one dim, of columns",
    ),
    "all dims": (lambda: pca(X, 1, dim=...), r"x: found \[\] beside \['a', 'b', 'c'\]"),
    "no components": (
        lambda: pca(X, 0, dim=["a", "b"]),
        "n: found 0; expected 1 to 2, the length of c",
    ),
    "too many components": (lambda: pca(X, 3, dim=["a", "b"]), "n: found 3; expected 1 to 2"),
    "columns named as what is found": (
        lambda: pca(X.rename(c="component"), 1, dim=["a", "b"]),
        r"x: found columns called 'component', as what is found; rename\(\)",
    ),
}


@pytest.mark.parametrize(("ask", "text"), REFUSED.values(), ids=REFUSED)
def test_refusals(ask: Callable[[], Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        ask()
