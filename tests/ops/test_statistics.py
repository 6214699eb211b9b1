"""`summarize` against numpy in float64: any dtype, dims, groups, blocks; nothing read twice."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations
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
from xarray.backends import BackendArray
from xarray.core import indexing

import h5dask
from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.histograms import QUANTILES, RELATIVE_ERROR
from h5dask.ops.statistics import MORE, STATISTICS
from h5dask.testing import example_file
from tests.labelled import labelled

COUNTS = ("count", "nonfinite", "nan", "posinf", "neginf")
EXACT = (*COUNTS, "min", "max")
DTYPES = (
    *("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"),
    *(">f2", ">f4", ">f8", ">i2", ">i8", ">u4"),
)
DIMS = "abc"
Axes = tuple[int, ...]


def expected(values: NDArray[Any], axes: Axes | None = None) -> dict[str, Any]:
    """Return what numpy says in float64."""
    x = values.astype(np.float64)
    finite = np.isfinite(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where nothing is finite
        mean, std = (reduce(x, axes, where=finite) for reduce in (np.mean, np.std))
        rms = np.sqrt(np.mean(np.where(finite, x, 0) ** 2, axes, where=finite))
    seen = np.where(finite.any(axes), 0, np.nan)
    return {
        "count": finite.sum(axes),
        "nonfinite": (~finite).sum(axes),
        "nan": np.isnan(x).sum(axes),
        "posinf": np.isposinf(x).sum(axes),
        "neginf": np.isneginf(x).sum(axes),
        "mean": mean,
        "std": std,
        "min": np.min(x, axes, where=finite, initial=np.inf) + seen,
        "max": np.max(x, axes, where=finite, initial=-np.inf) + seen,
        "rms": rms,
    }


def check(found: Any, values: NDArray[Any], axes: Axes | None = None, rtol: float = 1e-12) -> None:
    """Compare statistics with numpy's."""
    told = expected(values, axes)
    for name in EXACT:
        assert np.array_equal(found[name], told[name], equal_nan=True), name
    scale = np.where(np.isnan(told["rms"]), 0, told["rms"])
    gap = np.abs(np.asarray(found["mean"]) - told["mean"])
    assert np.array_equal(np.isnan(gap), np.isnan(told["mean"]))
    assert np.all(np.nan_to_num(gap) <= rtol * scale)
    for name in ("std", "rms"):
        np.testing.assert_allclose(found[name], told[name], rtol=rtol, atol=1e-300, err_msg=name)


def lazy(values: Any, chunks: Any = 2, dims: Any = DIMS) -> xr.DataArray:
    values = np.asarray(values)
    array = da.from_array(values, chunks=chunks)
    return xr.DataArray(array, dims=tuple(dims[: values.ndim]), name="x")


def drawn(rng: np.random.Generator, shape: Axes, dtype: str) -> NDArray[Any]:
    values = rng.normal(20, 9, shape)
    if "f" in dtype:
        for what in (np.nan, np.inf, -np.inf):
            values[rng.random(shape) < 0.1] = what
        values[0] = np.nan
    elif dtype == "?":
        values = values > 20
    return np.abs(values).astype(dtype) if "u" in dtype else values.astype(dtype)


def each_dims(ndim: int) -> list[Axes]:
    return [axes for n in range(1, ndim + 1) for axes in combinations(range(ndim), n)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


# What is counted and summed


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dtype_over_any_dims(dtype: str) -> None:
    values = drawn(np.random.default_rng(0), (4, 5, 6), dtype)
    x = lazy(values, (3, 5, 4))
    choices = each_dims(3)
    made = [h5dask.summarize(x, [DIMS[axis] for axis in axes]) for axes in choices]
    for axes, found in zip(choices, dask.compute(*made), strict=True):
        assert tuple(found) == STATISTICS
        for name, one in found.items():
            assert one.dims == tuple(DIMS[axis] for axis in range(3) if axis not in axes)
            told = np.dtype(np.int64 if name in COUNTS else np.float64)
            told = values.dtype if name in {"min", "max"} else told
            assert one.dtype.newbyteorder("=") == told.newbyteorder("=")
        check(found, values, axes)
    whole, by_name = h5dask.summarize(x, ...), h5dask.summarize(x, "b")
    assert whole.identical(h5dask.summarize(x, ["c", "a", "b"]))
    check(by_name, values, (1,))


@pytest.mark.parametrize("dims", [[], ()])
def test_no_dims_reduce_nothing(dims: Any) -> None:
    values = np.array([[1.0, np.nan], [np.inf, -3.0]])
    check(h5dask.summarize(lazy(values, 1), dims), values, ())


def test_all_dims_of_a_single_number() -> None:
    check(h5dask.summarize(xr.DataArray(np.float32(7), name="x"), ...), np.float32(7))


@pytest.mark.parametrize(("dtype", "offset"), [("f8", 1e4), ("f4", 1e4), ("f2", 1e3)])
def test_an_offset_costs_no_digits(dtype: str, offset: float) -> None:
    values = (np.random.default_rng(0).standard_normal((1000, 4)) + offset).astype(dtype)
    if dtype == "f2":
        with np.errstate(over="ignore", invalid="ignore"):
            assert not np.isfinite(values.var(0, dtype=dtype)).any()
            assert not np.isfinite(values.mean(0, dtype=dtype)).any()
    for chunks in (1, 7, 1000):
        check(h5dask.summarize(lazy(values, (chunks, 2)), "a").compute(), values, (0,))
        check(h5dask.summarize(lazy(values, (chunks, 2)), ...).compute(), values)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_blocks_cost_no_digits_of_numbers_with_an_offset(dtype: str) -> None:
    offset = 1e3 if dtype == "f2" else 1e4
    values = (np.random.default_rng(1).standard_normal((60, 30)) + offset).astype(dtype)
    for chunks in (1, 2, 3, 60):
        check(h5dask.summarize(lazy(values, (chunks, 30)), "a"), values, (0,), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
@pytest.mark.parametrize("first", [6e4, -6e4])
def test_a_first_value_that_is_unlike_the_others(dtype: str, first: float) -> None:
    values = np.random.default_rng(0).uniform(0.5, 1.5, (3000, 3))
    values[0] = first
    values = values.astype(dtype)
    labels = xr.DataArray(np.arange(3000) > 0, dims="a", name="rest")
    for chunks in (500, 3000):
        x = lazy(values, (chunks, 3))
        check(h5dask.summarize(x, "a"), values, (0,))
        check(h5dask.summarize(x, ...), values)
        rest = h5dask.summarize(x, "a", by=labels).isel(rest=1)
        check(rest, values[1:], (0,))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e4 + 0.1, 65504, -7])
def test_constant_columns_deviate_by_nothing(value: float) -> None:
    values = np.full((120, 3), value)
    for chunks in (1, 7, 50, 120):
        found = h5dask.summarize(lazy(values, (chunks, 3)), "a").compute()
        assert not found["std"].values.any()
        for name in ("mean", "min", "max"):
            assert np.all(found[name].values == value)
        assert not h5dask.summarize(lazy(values, (chunks, 2)), ...)["std"].values.any()


def test_what_is_not_finite_is_counted_apart() -> None:
    values = np.array([[1, np.nan], [np.inf, np.nan], [-np.inf, np.nan], [np.inf, np.nan]])
    found = h5dask.summarize(lazy(values, 1), "a").compute()
    told = {name: found[name].values.tolist() for name in COUNTS}
    nonfinite = {"nan": [0, 4], "posinf": [2, 0], "neginf": [1, 0]}
    assert told == {"count": [1, 0], "nonfinite": [3, 4], **nonfinite}
    for name in ("mean", "min", "max", "rms"):
        assert np.array_equal(found[name], [1, np.nan], equal_nan=True)
    assert np.array_equal(found["std"], [0, np.nan], equal_nan=True)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i4", "u8", "?"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_dims_of_length_0(dtype: str, shape: Axes) -> None:
    values = np.empty(shape, dtype)
    x = lazy(values, -1)
    for axes in each_dims(2):
        found = h5dask.summarize(x, [DIMS[axis] for axis in axes], more=MORE).compute()
        check(found, values, axes)
        assert not found["histogram"].values.any()
        assert found["quantiles"].isnull().all()
        assert found["min"].dtype == (dtype if "f" in dtype else np.float64)


@pytest.mark.parametrize("dtype", ["i8", "u8", ">i8"])
def test_extremes_of_64_bits_keep_every_digit(dtype: str) -> None:
    ends = np.iinfo(dtype)
    values = np.array([[ends.max - 1, ends.min + 2], [ends.max - 3, ends.min + 1]] * 3, dtype)
    for chunks in (1, 4):
        found = h5dask.summarize(lazy(values, chunks), "a").compute()
        assert found["min"].values.tolist() == [ends.max - 3, ends.min + 1]
        assert found["max"].values.tolist() == [ends.max - 1, ends.min + 2]
        whole = h5dask.summarize(lazy(values, chunks), ...).compute()
        assert (whole["min"].item(), whole["max"].item()) == (ends.min + 1, ends.max - 1)


# Groups


GROUPINGS = {
    "contiguous": np.repeat([3, 1, 2], [5, 9, 10]),
    "random": np.random.default_rng(0).integers(0, 4, 24),
    "groups of one": np.random.default_rng(1).permutation(24),
    "one group": np.zeros(24, int),
    "missing": np.where(np.arange(24) % 5, np.arange(24.0) % 3, np.nan),
}


@pytest.mark.parametrize("labels", GROUPINGS.values(), ids=GROUPINGS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "i8", "u1"])
def test_groups(labels: NDArray[Any], dtype: str) -> None:
    values = drawn(np.random.default_rng(0), (24, 3, 4), dtype)
    values[labels == 3] = np.nan if dtype[0] == "f" else 3
    for chunks in ((5, 2, 4), (24, 3, 3)):
        x = lazy(values, chunks).assign_coords(kind=("a", labels))
        choices = [axes for axes in each_dims(3) if 0 in axes]
        made = [h5dask.summarize(x, [DIMS[axis] for axis in axes], by="kind") for axes in choices]
        for axes, found in zip(choices, dask.compute(*made), strict=True):
            names = np.unique(labels[~np.isnan(labels)])
            assert np.array_equal(found.kind, names)
            assert found["mean"].dims == ("kind", *(DIMS[i] for i in range(3) if i not in axes))
            for at, name in enumerate(names):
                check(found.isel(kind=at), values[labels == name], axes)


def test_groups_along_another_dim_than_the_first() -> None:
    values = drawn(np.random.default_rng(0), (4, 9, 6), "f4")
    labels = np.array([1, 0, 2, 1, 1, 0])
    x = lazy(values, (3, 5, 2)).assign_coords(kind=("c", labels))
    for dims in (["c"], ["a", "c"], ["b", "c"]):
        found = h5dask.summarize(x, dims, by="kind").compute()
        for at in range(3):
            axes = tuple(map(DIMS.index, dims))
            check(found.sel(kind=at), values[..., labels == at], axes)


def test_several_coords_label_groups_together() -> None:
    ds = labelled()
    found = h5dask.summarize(ds.chunk(record=2), "record", by=["scenario", "branch"])
    assert found.activations_mean.dims == ("group", "layer")
    for scenario, branch in {*zip(ds.scenario.values, ds.branch.values, strict=True)}:
        rows = ds.activations.values[(ds.scenario == scenario) & (ds.branch == branch)]
        one = found.sel(scenario=scenario, branch=branch).isel(group=0)
        check({name: one[f"activations_{name}"] for name in STATISTICS}, rows, (0,))


def test_labels_of_ones_own() -> None:
    values = np.arange(10.0).reshape(5, 2)
    labels = xr.DataArray(["x", "y", "x", None, "y"], dims="a", name="own")
    found = h5dask.summarize(lazy(values, (2, 2)), "a", by=labels).compute()
    assert found.own.values.tolist() == ["x", "y"]
    check(found.sel(own="x"), values[[0, 2]], (0,))


@pytest.mark.parametrize("name", ["b", "kind"])
def test_a_group_may_bear_the_name_of_a_dim_that_is_reduced(name: str) -> None:
    values = np.arange(12.0).reshape(3, 4)
    labels = [2, 1, 2, 1]
    x = lazy(values).assign_coords({name: ("b", labels), "other": ("b", list("wxyz"))})
    found = h5dask.summarize(x, ["a", "b"], by=name).compute()
    assert found[name].values.tolist() == [1, 2]
    assert found["mean"].values.tolist() == [6, 5]
    assert "other" not in found.coords


def test_residues_by_the_structures_that_own_them() -> None:
    ds = h5dask.open_dataset(example_file("proteins"))
    for chunks in ({}, {"residue": 7, "aa": 5}):
        found = h5dask.summarize(ds.chunk(chunks), "residue", by="structure").compute()
        assert found.structure.values.tolist() == [3, 7]
        for structure in (3, 7):
            rows = ds.sel(structure=structure)
            one = found.sel(structure=structure)
            for name in ("logits", "sequences"):
                told = {what: one[f"{name}_{what}"] for what in STATISTICS}
                check(told, rows[name].values, (0,))
    again = h5dask.summarize(ds.sel(structure=7), "residue", by="noise").compute()
    assert again.sequences_count.values.tolist() == [12, 12]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["f4", "i4", "i8", "?"])
def test_owners_of_nothing_have_no_extremes(dtype: str) -> None:
    names = {"kind": [1, 2, 3, 1], "row_size": [5, 0, 4, 0]}
    ds = xr.Dataset(
        {"x": ("item", np.ones(9, dtype))},
        xr.Coordinates.from_xindex(RaggedIndex("row", "item", 9, names)),
    )
    found = h5dask.summarize(ds, "item", by="kind").compute()
    assert found.x_count.values.tolist() == [5, 0, 4]
    for name in ("min", "max", "mean", "std", "rms"):
        assert found[f"x_{name}"].isnull().values.tolist() == [False, True, False]


def test_rows_none_of_which_has_a_label() -> None:
    x = lazy(np.ones((4, 2))).assign_coords(kind=("a", np.full(4, np.nan)))
    found = h5dask.summarize(x, "a", by="kind", more=MORE).compute()
    assert found["count"].shape == (0, 2)
    assert found.sizes["kind"] == 0


def test_two_groupings_at_once() -> None:
    values = np.arange(24.0).reshape(12, 2)
    x = lazy(values).assign_coords(p=("a", np.arange(12) % 3), q=("a", np.arange(12) // 4))
    p, q = dask.compute(*(h5dask.summarize(x, "a", by=by) for by in "pq"))
    for at in range(3):
        check(p.isel(p=at), values[at::3], (0,))
        check(q.isel(q=at), values[4 * at : 4 * at + 4], (0,))


# Blocks


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 6)),
    st.sampled_from(["f2", "f4", "f8", "i2", "u8"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_blocks_never_change_a_result(
    shape: tuple[int, int], dtype: str, grouped: bool, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    values = drawn(rng, shape, dtype)
    labels = xr.DataArray(rng.integers(0, 3, shape[0]), dims="a", name="kind")
    dims = data.draw(st.sampled_from(["a", ["a", "b"]] if grouped else ["a", "b", ["a", "b"]]))
    more = data.draw(st.sampled_from([(), MORE]))

    def summarized(chunks: Any) -> xr.Dataset:
        return h5dask.summarize(
            lazy(values, chunks), dims, by=labels if grouped else None, more=more
        ).compute()

    cut = [data.draw(st.lists(st.integers(1, n), min_size=1, max_size=n)) for n in shape]
    ends = [
        sorted({*np.minimum(np.cumsum(c), n).tolist(), n}) for c, n in zip(cut, shape, strict=True)
    ]
    whole = summarized(-1)
    found = summarized(tuple(tuple(np.diff([0, *one]).tolist()) for one in ends))
    for name in (*EXACT, *more):
        assert found[name].identical(whole[name])
    scale = whole["rms"].fillna(0)
    for name, digits in (("mean", 0), ("std", 1e-15 * scale), ("rms", 0)):
        gap = np.abs(found[name] - whole[name]).fillna(0)
        size = scale if name == "mean" else np.abs(whole[name]).fillna(0)
        assert (gap <= 1e-13 * size + digits).all(), name


class Source:
    """An array that counts how often it is read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.ndim = values.ndim
        self.n_reads = 0

    def __getitem__(self, at: Any) -> NDArray[Any]:
        block = self.values[at]
        self.n_reads += block.size > 0  # dask looks at none of the values, to learn the type
        return block


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("more", [(), MORE], ids=["plain", "more"])
@pytest.mark.parametrize("by", [None, "kind"])
@pytest.mark.parametrize("n_blocks", [5, 300])
def test_each_block_is_read_once(
    n_blocks: int, by: str | None, more: tuple[str, ...], scheduler: str
) -> None:
    source = Source(np.random.default_rng(0).standard_normal((2 * n_blocks, 3)))
    x = lazy_of(source, (2, 3)).assign_coords(kind=("a", np.arange(2 * n_blocks) % 3))
    found = h5dask.summarize(x, "a", by=by, more=more)
    assert source.n_reads == 0
    computed = found.compute(scheduler=scheduler)
    assert source.n_reads == n_blocks
    for at in range(3):
        rows = source.values[at::3] if by else source.values
        check(computed.isel(kind=at) if by else computed, rows, (0,))
    found["std"].compute()
    assert source.n_reads == 2 * n_blocks


def lazy_of(source: Source, chunks: Axes) -> xr.DataArray:
    return xr.DataArray(da.from_array(source, chunks=chunks), dims=tuple("abc"[: source.ndim]))


def test_many_blocks_are_few_tasks_and_a_small_graph() -> None:
    source = Source(np.random.default_rng(0).standard_normal((2000, 50)))
    x = lazy_of(source, (1, 50)).assign_coords(kind=("a", np.arange(2000) % 3))
    for by in (None, "kind"):
        found = h5dask.summarize(x, "a", by=by)
        (optimized,) = dask.optimize(found)
        assert len(dict(optimized.__dask_graph__())) <= 2000 // 16 + 8 + 1 + len(STATISTICS) + 1
        assert len(pickle.dumps(found)) < source.values.nbytes + 2000 * 1000
    computed = found.compute()
    assert source.n_reads == 2000
    check(computed.isel(kind=1), source.values[1::3], (0,))


def test_only_the_blocks_that_are_asked_for_are_read() -> None:
    source = Source(np.arange(60.0).reshape(6, 10))
    found = h5dask.summarize(lazy_of(source, (2, 5)), "a")
    assert found["mean"].isel(b=7).compute() == source.values[:, 7].mean()
    assert source.n_reads == 3


@pytest.fixture
def files() -> dict[str, str]:
    """Paths of example files, which are written before anything is proven lazy."""
    return {layout: example_file(layout) for layout in ("activations", "proteins")}


def test_nothing_is_computed_before_it_is_asked_for(
    files: dict[str, str], no_compute: None
) -> None:
    ds, owned = (h5dask.open_dataset(path) for path in files.values())
    for found in (
        h5dask.summarize(ds, "record", by=["scenario", "branch"]),
        h5dask.summarize(ds.activations, ..., more=MORE),
        h5dask.summarize(owned, "residue", by="structure"),
    ):
        assert all(isinstance(one.data, da.Array) for one in found.values())
    with pytest.raises(AssertionError, match="should have stayed lazy"):
        found.compute()


def test_what_is_in_memory_gives_what_is_in_memory() -> None:
    values = drawn(np.random.default_rng(0), (6, 5), "f4")
    x = xr.DataArray(values, dims=("a", "b"), coords={"kind": ("a", list("xyxyxy"))})
    for found in (h5dask.summarize(x, "a"), h5dask.summarize(x, "a", by="kind", more=MORE)):
        assert all(isinstance(one.data, np.ndarray) for one in found.variables.values())
    check(h5dask.summarize(x, "a"), values, (0,))
    mixed = xr.Dataset({"x": x, "y": x.chunk()})
    assert isinstance(h5dask.summarize(mixed, "a").x_mean.data, da.Array)


class Backend(BackendArray):
    """Values that are read when they are asked for."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.n_read = 0

    def __getitem__(self, key: Any) -> Any:
        basic = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, basic, self._read)

    def _read(self, key: Any) -> NDArray[Any]:
        block = self.values[key]
        self.n_read += block.size
        return block


def test_what_is_not_read_yet_is_read_once() -> None:
    source = Backend(np.random.default_rng(0).standard_normal((50, 4)))
    x = xr.DataArray(xr.Variable(("a", "b"), indexing.LazilyIndexedArray(source)))
    check(h5dask.summarize(x, "a").compute(), source.values, (0,))
    assert source.n_read == source.values.size


def test_labels_are_read_once() -> None:
    labels = Source(np.arange(20) % 3)
    variables = {name: ("a", da.ones(20, chunks=5)) for name in "xyz"}
    ds = xr.Dataset(variables, {"kind": ("a", da.from_array(labels, chunks=10))})
    assert h5dask.summarize(ds, "a", by="kind").z_count.values.tolist() == [7, 7, 6]
    assert labels.n_reads == 2


def test_schedulers_agree(cluster: distributed.Client) -> None:
    values = drawn(np.random.default_rng(0), (300, 6), "f2")
    x = lazy(values, (2, 3)).assign_coords(kind=("a", np.arange(300) % 7))
    made = h5dask.summarize(x, "a", by="kind", more=MORE)
    told = made.compute(scheduler="sync")
    for at in range(7):
        check(told.isel(kind=at), values[at::7], (0,))
    assert made.compute(scheduler="threads").identical(told)
    assert made.compute(scheduler=cluster).identical(told)
    again = pickle.loads(pickle.dumps(made))
    assert again.compute().identical(told)


def test_the_same_question_has_the_same_keys() -> None:
    x = xr.DataArray(da.ones((6, 2), chunks=2, name="x"), dims=("a", "b"))
    x = x.assign_coords(kind=("a", list("xyxyxz")))
    one, other = (h5dask.summarize(x, "a", by="kind") for _ in range(2))
    assert one["mean"].data.name == other["mean"].data.name


# Datasets, coordinates


def test_variables_of_numbers_that_have_the_dims() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    found = h5dask.summarize(ds, "record")
    named = {f"{name}_{what}" for name in ("activations", "logits") for what in STATISTICS}
    assert set(found.data_vars) == named
    check({what: found[f"logits_{what}"] for what in STATISTICS}, ds.logits.values, (0,))
    one = h5dask.summarize(ds, ["record", "hidden"], more=["histogram"])
    assert set(one) == {f"activations_{what}" for what in (*STATISTICS, "histogram")}
    assert not found.attrs
    every = h5dask.summarize(h5dask.open_dataset(example_file("ann")), ...)
    assert every.sizes == {}
    assert len(every) == 7 * len(STATISTICS)


def test_dims_may_come_from_an_iterator() -> None:
    ds = xr.Dataset({"x": ("a", np.ones(3)), "y": (("a", "b"), np.ones((3, 2)))})
    found = h5dask.summarize(ds, iter(["a"]))
    assert (found.x_count.item(), found.y_count.dims) == (3, ("b",))


def test_coords_along_kept_dims_are_kept_with_their_indexes() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    found = h5dask.summarize(ds, "hidden")
    assert found.xindexes.keys() == ds.xindexes.keys()
    taken = found.sel(scenario="base", layer=13)
    rows = ds.activations.sel(scenario="base", layer=13).values
    check({what: taken[f"activations_{what}"] for what in STATISTICS}, rows, (1,))
    grouped = h5dask.summarize(ds.activations, ["record", "hidden"], by="scenario")
    assert set(grouped.coords) == {"scenario", "layer"}
    assert grouped.sel(scenario="base", layer=3)["count"].compute() == 48


def test_what_rows_own_is_found_by_their_labels_still() -> None:
    ds = h5dask.open_dataset(example_file("proteins"))
    found = h5dask.summarize(ds, "aa").sel(structure=7)
    check(
        {what: found[f"logits_{what}"] for what in STATISTICS},
        ds.sel(structure=7).logits.values,
        (1,),
    )


# Histograms and quantiles


def test_histograms_and_quantiles() -> None:
    values = drawn(np.random.default_rng(0), (500, 3), "f4")
    labels = np.arange(500) % 2
    x = lazy(values, (70, 2)).assign_coords(kind=("a", labels))
    found = h5dask.summarize(x, "a", by="kind", more=["quantiles", "histogram"]).compute()
    assert found["histogram"].dims == ("kind", "b", "bin")
    assert found["quantiles"].dims == ("kind", "b", "quantile")
    assert np.array_equal(found["quantile"], QUANTILES)
    assert np.array_equal(found["histogram"].sum("bin"), found["count"])
    borders = np.append(found["bin"].values, 2.0**128)
    error = found["quantiles"].attrs["relative_error"]
    assert error == RELATIVE_ERROR
    for kind, column in np.ndindex(2, 3):
        mine = values[labels == kind, column].astype(np.float64)
        mine = mine[np.isfinite(mine)]
        one = found.isel(kind=kind, b=column)
        assert np.array_equal(one["histogram"], np.histogram(mine, borders)[0])
        true = np.quantile(mine, QUANTILES, method="lower")
        assert np.all(np.abs(one["quantiles"] - true) <= error * np.abs(true))


def test_only_what_is_asked_for_is_added() -> None:
    x = lazy(np.ones((4, 2)))
    assert tuple(h5dask.summarize(x, ...)) == STATISTICS
    assert tuple(h5dask.summarize(x, ..., more=["quantiles"])) == (*STATISTICS, "quantiles")


# What is refused


TEXT = xr.DataArray(np.array(["a", "b"], object), dims="a", name="words")
TIMES = xr.DataArray(np.array(["2020-01-01"], "M8[s]"), dims="a", name="days")
NUMBERS = xr.Dataset(
    {"x": (("a", "b"), np.ones((4, 300))), "words": ("a", list("wxyz"))},
    {"kind": ("a", [1, 1, 2, 2]), "letter": ("b", np.arange(300))},
)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: h5dask.summarize(TEXT, "a"), "words: found text; expected numbers"),
    "times": (lambda: h5dask.summarize(TIMES, "a"), r"days: found datetime64\[s\]; expected num"),
    "complex": (
        lambda: h5dask.summarize(xr.DataArray([1j], dims="a"), "a"),
        "values: found complex128; expected numbers",
    ),
    "no numbers": (
        lambda: h5dask.summarize(NUMBERS[["words"]], "a"),
        "dim: found no variable of numbers that has 'a'; .*there are words",
    ),
    "unknown dim": (
        lambda: h5dask.summarize(NUMBERS.x, ["a", "c"]),
        "x: found no dim c; expected of a, b",
    ),
    "unknown dim of all": (
        lambda: h5dask.summarize(NUMBERS, "c"),
        r"dim: found no variable of numbers that has 'c'; .*there are x float64 \('a', 'b'\)",
    ),
    "unknown by": (
        lambda: h5dask.summarize(NUMBERS, "a", by="knd"),
        "by: found 'knd'; expected one of .*kind",
    ),
    "by along another dim": (
        lambda: h5dask.summarize(NUMBERS, "b", by="kind"),
        r"by: 'kind' is along \['a'\].*\['b'\]; expected one of .*letter",
    ),
    "labels of another length": (
        lambda: h5dask.summarize(NUMBERS, "a", by=xr.DataArray([1, 2], dims="a", name="own")),
        "by: .*own.*2.*4",
    ),
    "labels without a name": (
        lambda: h5dask.summarize(NUMBERS, "a", by=xr.DataArray([1, 2, 3, 4], dims="a")),
        "by: found labels without a name",
    ),
    "groups named like a kept dim": (
        lambda: h5dask.summarize(NUMBERS, "a", by=NUMBERS.kind.rename("b")),
        "by: .*'b'",
    ),
    "unknown more": (
        lambda: h5dask.summarize(NUMBERS, "a", more=["median", "mode"]),
        "more: found 'median', 'mode'; expected of .*histogram.*quantiles",
    ),
    "too many histograms": (
        lambda: h5dask.summarize(NUMBERS, "a", more=["histogram"]),
        "x: found 300 histograms to make; expected at most 256; reduce more dims",
    ),
    "too many groups": (
        lambda: h5dask.summarize(NUMBERS, ["a", "b"], by="letter", more=["quantiles"]),
        "x: found 300 histograms to make; .*fewer groups",
    ),
}


@pytest.mark.parametrize(("ask", "text"), REFUSED.values(), ids=REFUSED)
def test_refusals(ask: Callable[[], Any], text: str) -> None:
    with pytest.raises(Refused, match=text):
        ask()
