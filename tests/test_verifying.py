"""Benchmarks that are right are said to be so; each fault is found where it is, and repaired."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.errors import LayoutError, Refused
from h5dask.ops.judging import FAULTS, KINDS, repeated
from h5dask.testing import example
from h5dask.truth.verifying import is_right, repair, verify

F = np.float32
Change = Callable[[h5py.File], None]
DIGITS = "digits_int8_euclidean_labels.hdf5"
CANCER = "breast_cancer_standardized_euclidean.hdf5"
MINILM = "minilm_docstrings_angular_300.hdf5"


def changed(file: Path, folder: Path, change: Change) -> xr.Dataset:
    """Return a copy of a file with something in it changed."""
    copy = folder / "changed.h5"
    shutil.copy(file, copy)
    with h5py.File(copy, "r+") as f:
        change(f)
    return h5dask.open_dataset(copy)


def counts(found: xr.Dataset) -> dict[str, int]:
    """Return how many neighbors are of each kind that there is."""
    return {kind: n for kind in KINDS if (n := int(found[kind].sum()))}


def benchmark(
    train: NDArray[Any], test: NDArray[Any], distances: NDArray[Any], metric: str, k: int = 8
) -> xr.Dataset:
    """Return a benchmark by given distances of all pairs; equal ones are in the order of ids."""
    neighbors = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return xr.Dataset(
        {
            "train": (("vector", "feature"), train),
            "test": (("query", "feature"), test),
            "neighbors": (("query", "neighbor"), neighbors),
            "distances": (
                ("query", "neighbor"),
                np.take_along_axis(distances, neighbors, axis=1).astype(F),
            ),
        },
        attrs={"distance": metric},
    )


def test_real_files_are_right(small: Path) -> None:
    for name, convention in ((DIGITS, "euclidean"), (CANCER, "euclidean"), (MINILM, "1 - cos")):
        ds = h5dask.open_dataset(small / "ann" / name)
        found = verify(ds)
        assert is_right(found), name
        assert counts(found) == {}, name
        assert found.attrs["convention"] == found.attrs["expected_convention"] == convention
        assert found.attrs["largest_deviation"] < 3e-6
        np.testing.assert_array_equal(found.true_neighbors, ds.neighbors)
        np.testing.assert_allclose(found.true_distances, ds.distances, rtol=1e-5, atol=1e-6)


def test_real_files_of_the_samples_are_right(sample: Path) -> None:
    if h5dask.identify(sample) == "ann":
        found = verify(h5dask.open_dataset(sample))
        assert is_right(found)


def swap_ids(f: h5py.File) -> None:
    f["neighbors"][4, :2] = f["neighbors"][4, :2][::-1]


def swap_both(f: h5py.File) -> None:
    swap_ids(f)
    f["distances"][4, :2] = f["distances"][4, :2][::-1]


def put(value: int) -> Change:
    def change(f: h5py.File) -> None:
        f["neighbors"][4, 3] = value

    return change


def repeat(f: h5py.File) -> None:
    f["neighbors"][4, 3] = f["neighbors"][4, 1]
    f["distances"][4, 3] = f["distances"][4, 1]


def lose_the_nearest(f: h5py.File) -> None:
    """Leave out the nearest, as a search does that isn't exact: all others move up."""
    train, test = f["train"][:].astype("f8"), f["test"][4].astype("f8")
    squares = ((train - test) ** 2).sum(1)
    ids = np.argsort(squares, kind="stable")[1 : f["neighbors"].shape[1] + 1]
    f["neighbors"][4], f["distances"][4] = ids, np.sqrt(squares[ids])


def put_wrong_distance(f: h5py.File) -> None:
    f["distances"][4, 3] *= 1.0001


def put_nan(f: h5py.File) -> None:
    f["distances"][4, 3] = np.nan


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (swap_ids, {"misplaced": 2, "wrong_distances": 2}),
        (swap_both, {"misplaced": 2, "unsorted": 1}),
        (put(-1), {"out_of_range": 1}),
        (put(469), {"out_of_range": 1}),
        (put(2**62), {"out_of_range": 1}),
        (repeat, {"repeated": 1, "unsorted": 1}),
        (lose_the_nearest, {"misplaced": 19, "wrong": 1}),
        (put_wrong_distance, {"wrong_distances": 1}),
        (put_nan, {"wrong_distances": 1}),
    ],
)
def test_a_fault_is_found_in_its_row(
    change: Change, expected: dict[str, int], small: Path, tmp_path: Path
) -> None:
    ds = changed(small / "ann" / CANCER, tmp_path, change)
    found = verify(ds)
    assert counts(found) == expected
    assert not is_right(found)
    for kind in expected:
        assert np.flatnonzero(found[kind]).tolist() == [4]
    again = verify(repair(ds))
    assert is_right(again)
    np.testing.assert_array_equal(again.neighbors, found.true_neighbors)


def test_one_wrong_id_is_wrong_and_its_distance_too(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        squares = ((f["train"][:].astype("f8") - f["test"][4]) ** 2).sum(1)
        f["neighbors"][4, 3] = int(squares.argmax())

    found = verify(changed(small / "ann" / CANCER, tmp_path, change))
    assert counts(found) == {"wrong": 1, "wrong_distances": 1}
    assert float(found.exact_distances[4, 3]) > float(found.true_distances[4, -1])


def test_the_same_id_out_of_range_twice_is_out_of_range_twice() -> None:
    ds = example("ann").load()
    ds.neighbors[2, 1:] = -1
    assert counts(verify(ds)) == {"out_of_range": 2}


def test_faults_are_bits_with_their_names(small: Path, tmp_path: Path) -> None:
    found = verify(changed(small / "ann" / CANCER, tmp_path, repeat))
    names = found.faults.attrs["flag_meanings"].split()
    masks = dict(zip(names, found.faults.attrs["flag_masks"].tolist(), strict=True))
    for kind in KINDS:
        bits = (found.faults.values & masks[kind]) > 0
        np.testing.assert_array_equal(bits.sum(axis=1), found[kind])
    assert found.faults.values[4, 3] == masks["repeated"] | masks["unsorted"]


def test_another_label_is_found(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        label = f["test_labels"][4]
        f["neighbors"][4, 3] = int(np.flatnonzero(f["train_labels"][:] != label)[0])

    found = verify(changed(small / "ann" / DIGITS, tmp_path, change))
    assert counts(found) == {"other_label": 1, "wrong_distances": 1}
    assert np.flatnonzero(found.other_label).tolist() == [4]


def test_neighbors_that_ignore_the_labels_are_of_another_label(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        f["test_labels"][4] = (f["test_labels"][4] + 1) % 10

    found = verify(changed(small / "ann" / DIGITS, tmp_path, change))
    assert counts(found) == {"other_label": 10}


def test_ties_in_another_order_are_right(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        stored = f["distances"][:]
        (row, *_), (place, *_) = np.nonzero(stored[:, 1:] == stored[:, :-1])
        pair = f["neighbors"][row, place : place + 2]
        f["neighbors"][row, place : place + 2] = pair[::-1]

    found = verify(changed(small / "ann" / DIGITS, tmp_path, change))
    assert counts(found) == {"tied": 2}
    assert is_right(found)


CONVENTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "euclidean": lambda q, x: np.sqrt(((q[:, None] - x) ** 2).sum(-1)),
    "squared euclidean": lambda q, x: ((q[:, None] - x) ** 2).sum(-1),
    "1 - a.b": lambda q, x: 1 - q @ x.T,
    "-a.b": lambda q, x: -(q @ x.T),
    "a.b": lambda q, x: q @ x.T,
    "1 - cos": lambda q, x: 1 - (q @ x.T) / np.outer(*(np.linalg.norm(v, axis=1) for v in (q, x))),
    "cos": lambda q, x: (q @ x.T) / np.outer(*(np.linalg.norm(v, axis=1) for v in (q, x))),
}
ORDERS = {"euclidean": "euclidean", "ip": "1 - a.b", "angular": "1 - cos"}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("metric", ORDERS)
def test_the_convention_of_distances_is_told(metric: str, convention: str) -> None:
    rng = np.random.default_rng(3)
    train, test = (rng.standard_normal((n, 12)).astype(F) + F(0.2) for n in (80, 9))
    both = test.astype("f8"), train.astype("f8")
    ds = benchmark(train, test, CONVENTIONS[ORDERS[metric]](*both), metric)
    values = np.take_along_axis(CONVENTIONS[convention](*both), ds.neighbors.values, axis=1)
    found = verify(ds.assign(distances=(("query", "neighbor"), values.astype(F))))
    assert found.attrs["convention"] == convention
    assert found.attrs["expected_convention"] == ORDERS[metric]
    assert found.attrs["largest_deviation"] < 1e-5
    assert is_right(found) == (convention == ORDERS[metric])
    assert not any(found[kind].any() for kind in FAULTS if kind != "unsorted")


def test_integers_have_products_without_the_one() -> None:
    rng = np.random.default_rng(3)
    train, test = (rng.integers(-128, 128, (n, 12)).astype("i1") for n in (80, 9))
    both = test.astype("f8"), train.astype("f8")
    right = benchmark(train, test, CONVENTIONS["-a.b"](*both), "ip")
    assert is_right(verify(right))
    found = verify(benchmark(train, test, CONVENTIONS["1 - a.b"](*both), "ip"))
    assert (found.attrs["convention"], found.attrs["expected_convention"]) == ("1 - a.b", "-a.b")


def test_distances_of_no_convention_are_unknown_and_wrong() -> None:
    ds = example("ann").load()
    found = verify(ds.assign(distances=ds.distances * 0 + F(0.123)))
    assert found.attrs["convention"] == "unknown"
    assert not is_right(found)
    assert int(found.wrong_distances.sum()) == ds.distances.size


def float32_distances(q: NDArray[Any], x: NDArray[Any], metric: str) -> NDArray[Any]:
    """Compute distances in float32 by differences or products, term after term."""
    squares, products = (np.zeros((len(q), len(x)), F) for _ in range(2))
    own, sizes = np.zeros(len(q), F), np.zeros(len(x), F)
    for a, b in zip(q.T, x.T, strict=True):
        squares += (a[:, None] - b) ** 2
        products += a[:, None] * b
        own += a * a
        sizes += b * b
    return {
        "euclidean": np.sqrt(squares),
        "ip": F(1) - products,
        "angular": F(1) - products / np.sqrt(own[:, None] * sizes),
    }[metric]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    metric=st.sampled_from(sorted(ORDERS)),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    spread=st.sampled_from([1.0, 1e-6, 1e-7]),
)
def test_what_float32_orders_by_differences_is_right(
    seed: int, metric: str, offset: float, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((6, 10))
    train = middle[rng.integers(0, 6, 60)] + spread * rng.standard_normal((60, 10)) + offset
    test = rng.standard_normal((5, 10)) + offset
    train, test = train.astype(F), test.astype(F)
    found = verify(benchmark(train, test, float32_distances(test, train, metric), metric))
    assert is_right(found), counts(found)


@pytest.mark.parametrize(("roundings", "kinds"), [
    (0, {}), (4, {"tied": 2}), (14, {"tied": 2}), (18, {"misplaced": 2, "unsorted": 1}),
])  # fmt: skip
def test_two_are_tied_within_the_rounding_of_both(roundings: int, kinds: dict[str, int]) -> None:
    # Of one feature, and at 1: four roundings of the square and four of its root, of each.
    train = np.array([[1 + roundings * 2.0**-24], [1], [3]], F)
    ds = benchmark(train, np.zeros((1, 1), F), np.abs(train.T).astype("f8"), "euclidean", k=2)
    for name in ("neighbors", "distances"):
        ds[name][0] = ds[name].values[0, ::-1] if roundings else ds[name].values[0]
    found = verify(ds)
    assert counts(found) == kinds
    assert is_right(found) == ("misplaced" not in kinds)


def test_what_a_long_vector_displaces_is_tied_with_it() -> None:
    # Float32 may put the long one anywhere; the others are then one place farther.
    train = np.array([[10, 0], [9.875, 0], [9.75 - 2**20, 2**20], [5, 0]], F)
    products = train.astype("f8").sum(axis=1)
    ds = benchmark(train, np.ones((1, 2), F), 1 - products[np.newaxis], "ip", k=3)
    assert ds.neighbors.values.tolist() == [[0, 1, 2]]
    for name in ("neighbors", "distances"):
        ds[name][0] = ds[name].values[0, [2, 0, 1]]
    assert counts(verify(ds)) == {"tied": 3}


def test_what_float32_orders_by_norms_and_products_is_wrong() -> None:
    rng = np.random.default_rng(5)
    train, test = (rng.standard_normal((n, 16)).astype(F) + F(1000) for n in (200, 10))
    own, sizes = (np.square(v).sum(1, dtype=F) for v in (test, train))
    squares = np.maximum(own[:, None] + sizes - 2 * (test @ train.T), 0)
    ds = benchmark(train, test, np.sqrt(squares), "euclidean")
    exact = CONVENTIONS["euclidean"](test.astype("f8"), train.astype("f8"))
    truth = np.argsort(exact, axis=1, kind="stable")[:, :8]
    found = verify(ds)
    np.testing.assert_array_equal(found.true_neighbors, truth)
    assert not is_right(found)
    assert int(found.wrong.sum()) == int(
        sum(len(set(row) - set(true)) for row, true in zip(ds.neighbors.values, truth, strict=True))
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 99), chunks=st.tuples(st.integers(1, 30), st.integers(1, 5)))
def test_chunks_change_nothing(seed: int, chunks: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    ds = example("ann").load()
    ds.neighbors[:] = rng.integers(-1, 31, ds.neighbors.shape)
    lazy = ds.chunk(vector=chunks[0], query=chunks[1])
    xr.testing.assert_identical(verify(ds), verify(lazy))


def test_kinds_are_those_of_a_plain_look(small: Path) -> None:
    rng = np.random.default_rng(8)
    ds = h5dask.open_dataset(small / "ann" / DIGITS).load()
    ids = ds.neighbors.values
    hit = rng.random(ids.shape) < 0.3
    ids[hit] = rng.integers(-3, len(ds.train) + 3, int(hit.sum()))
    found = verify(ds)
    outside = (ids < 0) | (ids >= len(ds.train))
    seen = np.array([[i in row[:at] for at, i in enumerate(row)] for row in ids.tolist()])
    alike = ds.train_labels.values[np.where(outside, 0, ids)] == ds.test_labels.values[:, None]
    np.testing.assert_array_equal(found.out_of_range, outside.sum(1))
    np.testing.assert_array_equal(found.repeated, (seen & ~outside).sum(1))
    np.testing.assert_array_equal(found.other_label, (~alike & ~outside & ~seen).sum(1))
    q, x = (ds[name].values.astype("f8") for name in ("test", "train"))
    apart = np.sqrt(((q[:, None] - x[np.where(outside, 0, ids)]) ** 2).sum(-1))
    far = apart > found.true_distances.values[:, -1:] * (1 + 1e-6)
    np.testing.assert_array_equal(found.wrong, (far & alike & ~outside & ~seen).sum(1))


def test_a_sample_is_of_rows_of_the_file(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        f["neighbors"][::3, 2] = -1

    ds = changed(small / "ann" / DIGITS, tmp_path, change)
    whole, found = verify(ds), verify(ds, sample=50, seed=1)
    rows = found["query"].values
    assert len(set(rows)) == 50
    assert (np.diff(rows) > 0).all()
    same = whole.sel(query=rows)
    for name in found:
        np.testing.assert_array_equal(found[name], same[name])
    assert found.attrs["n_queries"] == 200
    np.testing.assert_array_equal(verify(ds, sample=50, seed=1)["query"], rows)
    assert (verify(ds, sample=50, seed=2)["query"].values != rows).any()
    assert verify(ds, sample=1000).sizes["query"] == 200


def test_labels_of_too_few_are_told(small: Path, tmp_path: Path) -> None:
    def change(f: h5py.File) -> None:
        labels = f["train_labels"][:]
        labels[np.flatnonzero(labels == 3)[4:]] = 2
        f["train_labels"][:] = labels
        f["test_labels"][0] = 77

    ds = changed(small / "ann" / DIGITS, tmp_path, change)
    found = verify(ds)
    own = ds.test_labels.values
    few = np.isin(own, [3, 77])
    np.testing.assert_array_equal(found.legal.values[few], np.where(own[few] == 3, 4, 0))
    assert (found.true_neighbors.values[few] == -1).all()
    assert np.isnan(found.true_distances.values[few]).all()
    assert (found.other_label.values[few] >= 6).all()
    assert not found.tied.values[few].any()
    assert not is_right(found)
    with pytest.raises(Refused, match="77"):
        repair(ds)


def test_where_no_query_has_enough_nothing_is_searched() -> None:
    ds = example("ann").load()
    found = verify(ds.assign(test_labels=ds.test_labels + 50))
    assert (found.legal == 0).all()
    assert (found.other_label == 3).all()


def test_clipped_repair_has_fewer_neighbors() -> None:
    ds = example("ann").load()
    labels = np.where(np.arange(30) < 2, 1, 0)
    ds = ds.assign(train_labels=("vector", labels))
    repaired = repair(ds, clip_k=True)
    assert repaired.sizes["neighbor"] == 2
    assert is_right(verify(repaired))


def with_nan(ds: xr.Dataset) -> xr.Dataset:
    train = ds.train.values.copy()
    train[7, 1] = np.nan
    return ds.assign(train=(ds.train.dims, train))


def drop(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.drop_vars(name)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (drop("train"), LayoutError, "train: missing; expected it, of dims"),
        (drop("distances"), LayoutError, "distances: missing"),
        (drop("test_labels"), LayoutError, "test_labels: missing beside train_labels"),
        (lambda ds: ds.assign_attrs(distance="hamming"), Refused, "metric: found 'hamming'"),
        (lambda ds: ds.assign_attrs(distance=7), Refused, "metric: found '7'"),
        (lambda ds: ds.isel(vector=slice(2)), Refused, "neighbors: found 3 .* expected 1 to 2"),
        (
            lambda ds: ds.isel(neighbor=slice(0)),
            Refused,
            "neighbors: found 0 for each query; expected 1 to 30",
        ),
        (
            lambda ds: ds.assign(neighbors=("query", np.zeros(5, int))),
            LayoutError,
            r"neighbors: found dims \('query',\) \(5,\); expected",
        ),
        (
            lambda ds: ds.assign(neighbors=ds.neighbors.astype("f4")),
            LayoutError,
            "neighbors: found float32; expected whole numbers",
        ),
        (
            with_nan,
            Refused,
            "base: found NaN or infinite values in rows 7",
        ),
    ],
)
def test_what_cannot_be_verified_is_refused(
    change: Callable[[xr.Dataset], xr.Dataset], error: type[Exception], says: str
) -> None:
    ds = change(example("ann").load())
    with pytest.raises(error, match=says):
        verify(ds)
    with pytest.raises(error, match=says):
        repair(ds)


def test_no_sample_is_refused() -> None:
    with pytest.raises(Refused, match="sample: found 0; expected 1 or more"):
        verify(example("ann"), sample=0)


@given(st.lists(st.lists(st.integers(-2, 4), min_size=5, max_size=5), min_size=1))
def test_repeated_ids_are_those_seen_before(rows: list[list[int]]) -> None:
    expected = [[i in row[:at] for at, i in enumerate(row)] for row in rows]
    np.testing.assert_array_equal(repeated(np.array(rows)), expected)
