"""`fit` and `normalize` against numpy in float64: any blocks, dtype, dims; nothing lost unsaid."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.errors import Refused
from h5dask.indexes import Labels
from h5dask.ops.normalization import HOW, fit, normalize
from h5dask.ops.scales import Loss
from h5dask.results import open_any, write_result
from h5dask.testing import example_file, refuse_to_compute
from tests.sources import Source

DIMS = ("row", "layer", "column")
STATISTICAL = [how for how in HOW if how != "l2"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


def array(values: Any, dims: Any = DIMS, chunks: Any = None) -> xr.DataArray:
    values = np.asarray(values)
    data = values if chunks is None else da.from_array(values, chunks=chunks)
    return xr.DataArray(data, dims=tuple(dims)[: values.ndim], name="x")


def drawn(shape: tuple[int, ...], dtype: str, offset: float = 0.0, seed: int = 0) -> NDArray[Any]:
    return (np.random.default_rng(seed).standard_normal(shape) * 3 + offset).astype(dtype)


def whitened(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows along principal axes whose largest entry is positive."""
    u, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    return u * np.sqrt(len(x)) * signs


def expected(how: str, x: NDArray[Any], axes: tuple[int, ...], offset: float = 0.0) -> Any:
    """Return what numpy says in float64, of numbers from which an offset is taken first."""
    if how == "l2":
        return x.astype(np.float64) / np.sqrt((x.astype(np.float64) ** 2).sum(axes, keepdims=True))
    y = x.astype(np.float64) - offset
    mean, low, high = (one(axes, keepdims=True) for one in (y.mean, y.min, y.max))
    return {
        "zscore": lambda: (y - mean) / y.std(axes, keepdims=True),
        "center": lambda: y - mean,
        "minmax": lambda: (y - low) / (high - low),
        "whiten": lambda: whitened(y),
    }[how]()


# What numpy says


@pytest.mark.parametrize(("dtype", "offset"), [("f8", 1e4), ("f4", 1e4), ("f2", 1e3), (">f4", 1e4)])
@pytest.mark.parametrize("how", HOW)
def test_an_offset_costs_no_digits(how: str, dtype: str, offset: float) -> None:
    spread = np.arange(1, 7)  # so that no two directions are alike
    values = (drawn((500, 6), "f8") * spread + offset).astype(dtype)
    axis = 1 if how == "l2" else 0
    told = expected(how, values, (axis,), offset)
    made = normalize(array(values, ("row", "column"), (70, 4)), how, dim=("row", "column")[axis])
    assert made.dtype == values.dtype
    # What is left of the mean's last digit is 1e-12 of the numbers that come out.
    error = 1e-12 if dtype == "f8" else np.finfo(dtype).eps / 2 + 1e-12
    np.testing.assert_allclose(made.values.astype("f8"), told, rtol=error, atol=2e-12)


@pytest.mark.parametrize("dims", [["row"], ["layer"], ["row", "column"], list(DIMS), ["column"]])
@pytest.mark.parametrize("how", ["l2", "zscore", "center", "minmax"])
def test_any_dims(how: str, dims: list[str]) -> None:
    values = drawn((7, 4, 5), "f8", 2)
    told = expected(how, values, tuple(map(DIMS.index, dims)))
    for chunks in (None, (3, 2, 2)):
        x = array(values, chunks=chunks)
        for asked in (dims, iter(dims), *([...] if len(dims) == 3 else [])):
            made = normalize(x, how, dim=asked)
            assert made.dims == x.dims
            np.testing.assert_allclose(made.values, told, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "i8", "?"])
@pytest.mark.parametrize("how", HOW)
def test_whole_numbers_become_float32(how: str, dtype: str) -> None:
    values = np.random.default_rng(0).random((40, 3)) * 100 + 1
    values = (values > 50 if dtype == "?" else values).astype(dtype)
    values[:, 0] |= ~values.any(1) if dtype == "?" else 0
    made = normalize(array(values, "ab", 9), how, dim="b" if how == "l2" else "a")
    assert made.dtype == np.float32
    told = expected(how, values, (1 if how == "l2" else 0,))
    np.testing.assert_allclose(made.values, told, rtol=1e-6, atol=1e-6)


def test_whole_numbers_are_rounded_once() -> None:
    values = np.array([[2**53 - 1, 2**40 + 1, 12345678901], [3, 2**25 + 1, 2**60]])
    made = normalize(array(values, "ab"), dim="b")
    told = values / np.sqrt((values.astype("f8") ** 2).sum(1, keepdims=True))
    assert np.array_equal(made.values, told.astype(np.float32))


def test_tiny_and_huge_vectors_have_the_length_1() -> None:
    values = np.array([
        [5e-324, 0, 0], [3e-310, 4e-310, 0], [1.7e308, -1.7e308, 0], [1e-200, 1e-200, 0],
        [1e300, 1e-300, 1e300],
    ])  # fmt: skip
    told = [[1, 0, 0], [0.6, 0.8, 0], [0.5**0.5, -(0.5**0.5), 0], [0.5**0.5] * 2 + [0],
            [0.5**0.5, 0, 0.5**0.5]]  # fmt: skip
    for dtype in ("<f8", ">f8"):
        made = normalize(array(values.astype(dtype), "ab"), dim="b")
        np.testing.assert_allclose(made.values, told, rtol=1e-13, atol=1e-300)
    narrow = np.array([[6e4, 6e4], [6e-8, 0]], "f2")
    made = normalize(array(narrow, "ab"), dim="b")
    assert np.array_equal(made.values, np.array([[0.5**0.5] * 2, [1, 0]], "f2"))


# What has no place on the scale


def test_zero_vectors_stay_zero_and_are_counted() -> None:
    values = drawn((10, 4), "f4")
    values[[2, 5, 6]] = 0
    with pytest.warns(Loss, match="^x: 3 of 10 vectors are zero, and stay so$"):
        made = normalize(array(values, "ab", (10, 2)), dim="b").compute()
    assert np.array_equal(np.linalg.norm(made, axis=1) > 0.99, values.any(1))
    assert not made[[2, 5, 6]].any()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_vectors_that_are_not_finite_become_nan_and_are_counted(dtype: str) -> None:
    values = drawn((10, 4), dtype)
    values[2, 1], values[5, 0], values[6] = np.nan, np.inf, -np.inf
    with pytest.warns(Loss, match="^x: 3 of 10 vectors aren't finite, and become NaN$"):
        made = normalize(array(values, "ab"), dim="b").values
    assert np.isnan(made[[2, 5, 6]]).all()
    assert np.isfinite(np.delete(made, [2, 5, 6], axis=0)).all()


@pytest.mark.parametrize(("how", "value"), [("zscore", 0), ("minmax", 0), ("center", 0)])
def test_constant_columns_are_only_shifted(how: str, value: float) -> None:
    values = drawn((30, 4), "f4", 1e4)
    values[:, 2] = 1e4 + 0.1
    x = array(values, "ab", 7)
    if how == "center":
        found = fit(x, how, dim="a")
    else:
        with pytest.warns(Loss, match="^x: 1 of 4 places are constant, and are only shifted$"):
            found = fit(x, how, dim="a")
    made = normalize(x, how, fitted=found).values
    assert np.all(made[:, 2] == value)
    moved = normalize(x + 1, how, fitted=found).values
    np.testing.assert_allclose(moved[:, 2], 1, rtol=1e-3)
    told = expected(how, values[:, [0, 1, 3]], (0,), 1e4)
    np.testing.assert_allclose(made[:, [0, 1, 3]], told, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", ["zscore", "minmax", "center"])
def test_a_column_of_nan_stays_nan_and_is_counted(how: str) -> None:
    values = drawn((9, 3), "f4")
    values[:, 1] = np.nan
    values[4, 0] = np.nan
    with pytest.warns(Loss, match="^x: 1 of 3 places have no finite value, and become NaN$"):
        made = normalize(array(values, "ab", 4), how, dim="a").values
    assert np.array_equal(np.isnan(made), np.isnan(values))
    rest = np.delete(values[:, 0], 4)[:, None]
    np.testing.assert_allclose(
        np.delete(made[:, 0], 4), expected(how, rest, (0,))[:, 0], rtol=1e-5, atol=1e-6
    )


def test_infinity_is_left_out_of_statistics_and_stays() -> None:
    values = np.array([[1.0], [3], [np.inf], [-np.inf], [np.nan]])
    found = fit(array(values, "ab"), "zscore", dim="a")
    assert (found["mean"].item(), found["std"].item()) == (2, 1)
    made = normalize(array(values, "ab"), "zscore", fitted=found)
    assert np.array_equal(made.values[:, 0], [-1, 1, np.inf, -np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("how", ["center", "zscore", "minmax", "whiten"])
def test_what_float16_cannot_hold_is_counted(how: str) -> None:
    calm = np.random.default_rng(0).uniform(-1e-3, 1e-3, (60, 4))
    wild = np.random.default_rng(1).uniform(-6e4, 6e4, (50, 4)).astype("f2")
    fitted = fit(array(calm - (6e4 if how == "center" else 0), "ab"), how, dim="a")
    wide = normalize(array(wild.astype("f8"), "ab"), how, fitted=fitted).values
    beyond = np.abs(wide) >= 65520
    assert beyond.any()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = normalize(array(wild, "ab", (20, 4)), how, fitted=fitted).values
    told = [re.match(r"x: (\d+) of \d+ normalised values are beyond float16, and become infinite; "
                     "make it float32 before", str(one.message)) for one in said]  # fmt: skip
    assert sum(int(one[1]) for one in told if one) == beyond.sum()
    assert all(one.category is Loss for one in said)
    assert np.array_equal(np.isinf(made), beyond)
    np.testing.assert_allclose(made[~beyond].astype("f8"), wide[~beyond], rtol=1e-3)


# Few values


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("chunks", [None, 2])
def test_no_rows(how: str, chunks: int | None) -> None:
    x = array(np.zeros((0, 4), "f4"), "ab", chunks)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = normalize(x, how, dim="b" if how == "l2" else "a").compute()
    assert (made.shape, made.dtype) == ((0, 4), np.float32)
    assert len(said) == (how != "l2")
    assert all(one.category is Loss for one in said)


@pytest.mark.parametrize("chunks", [None, 2])
def test_vectors_of_no_values(chunks: int | None) -> None:
    x = array(np.zeros((4, 0), "i4"), "ab", chunks)
    for made in (normalize(x, dim="b"), normalize(x, "zscore", dim="a")):
        assert (made.compute().shape, made.dtype) == ((4, 0), np.float32)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("zscore", "3 of 3 places are constant"),
        ("minmax", "3 of 3 places are constant"),
        ("whiten", "3 of 3 directions have no variance, and become 0"),
    ],
)
def test_one_row_becomes_zero(how: str, says: str) -> None:
    with pytest.warns(Loss, match=says):
        made = normalize(array([[1e4, -3, 0.1]], "ab"), how, dim="a")
    assert made.values.tolist() == [[0, 0, 0]]


def test_a_single_number() -> None:
    assert normalize(xr.DataArray(3.0), "center", dim=...).item() == 0
    assert normalize(xr.DataArray([3.0], dims="a").chunk(), dim="a").values.tolist() == [1]


# Whitening


@pytest.mark.parametrize("offset", [0, 1e4])
def test_whitened_columns_have_the_identity_as_covariance(offset: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 12)) @ rng.standard_normal((12, 12)) + offset
    made = normalize(array(values, "ab", (90, 5)), "whiten", dim="a").values
    np.testing.assert_allclose(np.cov(made.T, ddof=0), np.eye(12), atol=1e-8)
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-8)


@pytest.mark.parametrize("shape", [(300, 8), (5, 8)])
def test_directions_without_variance_become_zero(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((shape[0], 4)) @ rng.standard_normal((4, 8)) + 100
    with pytest.warns(Loss, match="^x: 4 of 8 directions have no variance, and become 0$"):
        made = normalize(array(values, "ab", (3 if shape[0] < 9 else 50, 3)), "whiten", dim="a")
    told = np.diag([1] * 4 + [0] * 4)
    np.testing.assert_allclose(np.cov(made.T, ddof=0), told, atol=1e-8)
    assert not made[:, 4:].any()


def test_whitened_vectors_with_anything_not_finite_become_nan() -> None:
    values = drawn((40, 3), "f4")
    values[3, 1], values[8, 0], values[8, 2] = np.nan, np.inf, -np.inf
    with pytest.warns(Loss, match="^x: 2 of 40 vectors aren't finite, and become NaN$"):
        made = normalize(array(values, "ab"), "whiten", dim="a").values
    good = np.delete(np.arange(40), [3, 8])
    assert np.isnan(made[[3, 8]]).all()
    np.testing.assert_allclose(made[good], whitened(values[good].astype("f8")), atol=1e-5)


def test_nothing_is_whitened_where_no_vector_is_whole() -> None:
    values = drawn((4, 3), "f4")
    values[:, 1] = np.nan
    with pytest.warns(Loss) as said:
        made = normalize(array(values, "ab"), "whiten", dim="a").values
    assert np.isnan(made).all()
    assert str(said[0].message) == "x: 3 of 3 columns have no whole vector, and become NaN"


def test_whitening_over_several_dims() -> None:
    values = drawn((6, 9, 4), "f8", 5)
    made = normalize(array(values, chunks=(4, 5, 3)), "whiten", dim=["row", "layer"])
    told = whitened(values.reshape(54, 4)).reshape(values.shape)
    np.testing.assert_allclose(made.values, told, atol=1e-10)
    turned = normalize(array(values).transpose("column", ...), "whiten", dim=["row", "layer"])
    np.testing.assert_allclose(turned.transpose(*DIMS).values, told, atol=1e-10)


# Blocks


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(HOW)),
    st.sampled_from(["f2", "f4", "f8", "i4"]),
    st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 9)),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_blocks_never_change_a_result(
    how: str, dtype: str, shape: tuple[int, int, int], seed: int, data: st.DataObject
) -> None:
    values = drawn(shape, dtype, 20, seed)
    if dtype != "i4":
        values[np.random.default_rng(seed).random(shape) < 0.02] = np.nan
    dims = {"l2": ["column"], "whiten": ["row", "layer"]}.get(how, ["row"])
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    whole, cut = array(values), array(values, chunks=chunks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Loss)
        found, again = (fit(x, how, dim=dims) for x in (whole, cut))
        made = normalize(cut, how, dim=dims, fitted=found).compute()
        told = normalize(whole, how, dim=dims, fitted=found)
    if how == "whiten":
        np.testing.assert_allclose(made, told, rtol=2e-3 if dtype == "f2" else 2e-7, atol=1e-9)
    else:
        xr.testing.assert_identical(made, told)
        for name in found:
            np.testing.assert_allclose(found[name], again[name], rtol=1e-12, atol=1e-12)


def test_values_are_read_once_to_fit_and_once_to_apply() -> None:
    for how in HOW:
        source = Source(drawn((40, 3, 6), "f4"))
        x = source.lazy((7, 3, 4), DIMS)
        dims = {"l2": "column", "whiten": ["row", "layer"]}.get(how, "row")
        made = normalize(x, how, dim=dims)
        n_fitted = int(how != "l2")
        assert np.all(source.n_reads == n_fitted)
        made.compute()
        assert np.all(source.n_reads == n_fitted + 1)


def test_only_what_is_asked_for_is_read_again() -> None:
    source = Source(drawn((40, 6), "f4"))
    made = normalize(source.lazy((5, 3), ("a", "b")), dim="b")
    made[7].compute()
    assert np.array_equal(source.n_reads[:, 0] > 0, (np.arange(40) >= 5) & (np.arange(40) < 10))


@pytest.mark.parametrize("how", HOW)
def test_it_is_lazy_where_x_is(how: str) -> None:
    values = drawn((8, 5), "f4")
    dims = "b" if how == "l2" else "a"
    found = fit(array(values, "ab"), how, dim=dims)
    assert isinstance(normalize(array(values, "ab"), how, dim=dims).data, np.ndarray)
    with dask.config.set(scheduler=refuse_to_compute):
        made = normalize(array(values, "ab", (2, 3)), how, dim=dims, fitted=found)
        assert isinstance(made.data, da.Array)
        with pytest.raises(AssertionError, match="something was computed"):
            made.compute()


def test_schedulers_agree_and_warn(cluster: distributed.Client) -> None:
    values = drawn((30, 5), "f2")
    values[::10] = 0
    x = array(values, "ab", (10, 5))
    told = None
    for scheduler in ("sync", "threads", cluster):
        with pytest.warns(Loss, match="x: 1 of 10 vectors are zero"):
            made = normalize(x, dim="b").compute(scheduler=scheduler)
        told = made if told is None else told
        xr.testing.assert_identical(made, told)


def test_statistics_are_computed_by_who_is_told_to() -> None:
    asked = []

    def compute(*given: Any) -> Any:
        asked.append(given)
        return dask.compute(*given)

    found = fit(array(drawn((6, 2), "f4"), "ab", 2), "minmax", dim="a", compute=compute)
    assert len(asked) == 1
    assert all(isinstance(one.data, np.ndarray) for one in found.values())


# Statistics of one serve another


@pytest.mark.parametrize("how", HOW)
def test_saved_statistics_apply_the_same(how: str, tmp_path: Path) -> None:
    ds = h5dask.open_dataset(example_file("activations")).sel(layer=3)
    dims = "hidden" if how == "l2" else "record"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Loss)
        found = fit(ds.activations, how, dim=dims)
        told = normalize(ds.activations, how, fitted=found)
        for name in ("fitted.nc", "fitted.zarr"):
            write_result(found, tmp_path / name)
            read = open_any(str(tmp_path / name))
            assert read.attrs == {"how": how, "dim": dims}
            made = normalize(ds.activations, how, fitted=read)
            xr.testing.assert_identical(made.compute(), told.compute())
        found.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / "plain.nc") as read:
            made = normalize(ds.activations, how, fitted=read)
            xr.testing.assert_identical(made.compute(), told.compute())


def test_saved_statistics_of_every_record_apply_the_same(tmp_path: Path) -> None:
    x = h5dask.open_dataset(example_file("activations")).activations
    found = fit(x, "zscore", dim="hidden")
    write_result(found, tmp_path / "fitted.nc")
    made = normalize(x, "zscore", fitted=open_any(str(tmp_path / "fitted.nc")))
    xr.testing.assert_identical(made.compute(), normalize(x, "zscore", fitted=found).compute())
    np.testing.assert_allclose(made.mean("hidden"), 0, atol=1e-3)


def test_statistics_of_one_scenario_serve_another() -> None:
    x = h5dask.open_dataset(example_file("activations")).activations
    one = x.sel(scenario="base", layer=3)
    other = x.sel(scenario=x.scenario.values[-1], layer=13)
    made = normalize(other, "zscore", fitted=fit(one, "zscore", dim="record"))
    rows = one.values.astype("f8")
    told = (other.values.astype("f8") - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(made.values, told.astype(made.dtype), rtol=1e-3)
    assert made.coords.to_dataset().identical(other.coords.to_dataset())


def test_labels_and_attributes_are_those_of_x() -> None:
    index = Labels("row", {"scenario": ["a", "a", "b"], "sample": [0, 1, 0]})
    x = array(drawn((3, 2, 4), "f4"), chunks=2).assign_coords(xr.Coordinates.from_xindex(index))
    x = x.assign_coords(layer=[3, 7]).assign_attrs(units="V")
    for how in HOW:
        dims = {"l2": "column", "whiten": ["row", "layer"]}.get(how, "row")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Loss)
            made = normalize(x, how, dim=dims)
        assert (made.name, made.attrs) == ("x", {"units": "V"})
        assert made.coords.to_dataset().identical(x.coords.to_dataset())
        assert made.sel(scenario="b", layer=7).shape == (1, 4)


def test_an_order_of_dims_of_their_own() -> None:
    values = drawn((6, 3, 4), "f4")
    x = array(values, chunks=(4, 2, 2))
    found = fit(x, "zscore", dim="row").transpose("column", "layer")
    made = normalize(x, "zscore", fitted=found)
    xr.testing.assert_identical(made, normalize(x, "zscore", dim="row"))


def test_packing_that_was_for_other_values_is_not_kept() -> None:
    x = array(drawn((6, 4), "f4"), "ab")
    x.encoding = {"dtype": "int16", "scale_factor": 10.0}
    assert "scale_factor" not in normalize(x, dim="b").encoding


# What is refused


X = array(drawn((6, 2, 4), "f4")).assign_coords(layer=[3, 13])
ZSCORE = fit(X, "zscore", dim="row")
TEXT = xr.DataArray(np.array(["a", "b"], object), dims="a", name="words")
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown way": (
        lambda: normalize(X, "foo", dim="row"),
        "how: found 'foo'; expected one of 'l2', 'zscore', 'center', 'minmax', 'whiten'",
    ),
    "unknown way to fit": (lambda: fit(X, "L2", dim="row"), "how: found 'L2'; expected one of"),
    "text": (lambda: normalize(TEXT, dim="a"), "words: found text; expected numbers"),
    "text to fit": (lambda: fit(TEXT, "zscore", dim="a"), "words: found text; expected numbers"),
    "no dims": (lambda: normalize(X), "dim: found None, expected the dims .* or fitted="),
    "unknown dim": (
        lambda: normalize(X, dim="hidden"),
        "x: found no dim hidden; expected of row, layer, column",
    ),
    "unknown dim to fit": (lambda: fit(X, "center", dim=["row", "r"]), "x: found no dim r;"),
    "whitening of matrices": (
        lambda: normalize(X, "whiten", dim="row"),
        r"x: found \['layer', 'column'\] beside \['row'\]; expected one dim",
    ),
    "whitening of numbers": (
        lambda: fit(X, "whiten", dim=...),
        r"x: found \[\] beside .*; expected one dim",
    ),
    "another width": (
        lambda: normalize(X.isel(column=slice(3)), "zscore", fitted=ZSCORE),
        "fitted: found column of size 4, x has 3; fit on values of the same width",
    ),
    "another dim": (
        lambda: normalize(X.rename(layer="depth"), "zscore", fitted=ZSCORE),
        "fitted: found layer of size 2, x has no such dim",
    ),
    "another way": (
        lambda: normalize(X, "center", fitted=ZSCORE),
        "fitted: found what was fitted for 'zscore', not 'center'",
    ),
    "another way than l2": (
        lambda: normalize(X, dim="column", fitted=ZSCORE),
        "fitted: found what was fitted for 'zscore', not 'l2'",
    ),
    "statistics of another kind": (
        lambda: normalize(X, "zscore", fitted=h5dask.summarize(X, "row")),
        "fitted: found what was fitted for None, not 'zscore'",
    ),
    "missing statistics": (
        lambda: normalize(X, "zscore", fitted=ZSCORE.drop_vars(["std", "mean"])),
        "fitted: found no mean, std; expected what fit",
    ),
    "other layers": (
        lambda: normalize(X.assign_coords(layer=[13, 3]), "zscore", fitted=ZSCORE),
        "fitted: found layer 3, 13, x has 13, 3; select the same of both",
    ),
    "all of it at once": (
        lambda: normalize(X[..., :2], "minmax", fitted=ZSCORE),
        r"(?s)fitted for 'zscore', not 'minmax'\nfitted: found no min, max.*\nfitted: found column",
    ),
}


@pytest.mark.parametrize(("ask", "text"), REFUSED.values(), ids=REFUSED)
def test_refusals(ask: Callable[[], Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        ask()
