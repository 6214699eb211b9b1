"""Whether distances, labels and ratios agree with the vectors, by brute force in numpy."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import h5dask
from h5dask import layouts
from h5dask.layouts._distances import CONVENTIONS, convention
from h5dask.testing import example

Array = np.ndarray[Any, Any]
LAYOUT = layouts.get("ann")
N, Q, D, K = 50, 9, 6, 4


def vectors(dtype: str, n: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind == "f":
        return (rng.standard_normal((n, D)) * 10).astype(dtype)
    return rng.integers(0 if kind in "ub" else -100, 2 if kind == "b" else 100, (n, D)).astype(
        dtype
    )


def stored(name: str, train: Array, test: Array) -> Array:
    """Return all distances by a convention, in plain loops."""
    one = CONVENTIONS[name]
    rows = [[one(a.astype("f8"), b.astype("f8")) for b in train] for a in test]
    return np.array(rows)


def benchmark(name: str, distance: str, dtype: str = "f4", kept: str = "f4") -> xr.Dataset:
    """Return a file's Dataset whose distances follow a convention."""
    train, test = vectors(dtype, N, 1), vectors(dtype, Q, 2)
    every = stored(name, train, test)
    ids = np.argsort(every, axis=1, kind="stable")[:, :K]
    return xr.Dataset(
        {
            "train": (("vector", "feature"), train),
            "test": (("query", "feature"), test),
            "neighbors": (("query", "neighbor"), ids),
            "distances": (("query", "neighbor"), np.take_along_axis(every, ids, 1).astype(kept)),
        },
        attrs={"distance": distance},
    )


def said(ds: xr.Dataset) -> list[str]:
    return [str(problem) for relation in LAYOUT.relations for problem in relation(ds, "f.h5")]


def test_conventions_are_the_documents() -> None:
    a, b = np.array([1.0, 2, 2]), np.array([3.0, 0, 4])
    values = {name: float(one(a, b)) for name, one in CONVENTIONS.items()}
    assert values == pytest.approx(
        {
            "euclidean, sqrt(sum (a-b)^2)": np.sqrt(12),
            "squared euclidean": 12,
            "ip of real vectors, 1 - a.b": -10,
            "ip of integer vectors, -a.b": -11,
            "plain inner product, a.b": 11,
            "angular, 1 - cos": 1 - 11 / 15,
            "cosine similarity": 11 / 15,
            "hamming, mean of a xor b": 1,
        }
    )


GOOD = [
    ("euclidean", "f4"), ("euclidean", "f2"), ("euclidean", "f8"), ("euclidean", "i1"),
    ("euclidean", "u1"), ("ip", "f4"), ("ip", "i1"), ("angular", "f4"), ("angular", "i1"),
    ("hamming", "?"),
]  # fmt: skip


@pytest.mark.parametrize(("distance", "dtype"), GOOD)
@pytest.mark.parametrize("kept", ["f4", "f8"])
def test_right_distances_are_accepted(distance: str, dtype: str, kept: str) -> None:
    name = convention(distance, np.dtype(dtype))
    assert name is not None
    assert said(benchmark(name, distance, dtype, kept)) == []


@pytest.mark.parametrize(
    ("name", "distance", "dtype"),
    [
        ("squared euclidean", "euclidean", "f4"),
        ("ip of integer vectors, -a.b", "ip", "f4"),
        ("ip of real vectors, 1 - a.b", "ip", "i1"),
        ("plain inner product, a.b", "ip", "f4"),
        ("cosine similarity", "angular", "f4"),
        ("euclidean, sqrt(sum (a-b)^2)", "angular", "f4"),
    ],
)
def test_another_convention_is_named(name: str, distance: str, dtype: str) -> None:
    (line,) = said(benchmark(name, distance, dtype))
    assert line.startswith("f.h5: /distances: 3")
    assert "of 36 sampled distances are not those to the rows" in line
    assert f"the values follow {name}: convert them" in line


def test_single_precision_arithmetic_is_accepted() -> None:
    ds = benchmark("euclidean, sqrt(sum (a-b)^2)", "euclidean")
    a, b = ds.test.values + 100, ds.train.values + 100
    ds["test"], ds["train"] = (("query", "feature"), a), (("vector", "feature"), b)
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    lossy = np.take_along_axis(np.sqrt(np.maximum(squares, 0)), ds.neighbors.values, 1)
    ds["distances"] = ("query", "neighbor"), lossy.astype("f4")
    assert said(ds) == []


@given(st.integers(0, Q - 1), st.integers(0, K - 1), st.sampled_from([0.01, -0.5, np.nan]))
def test_one_wrong_distance_is_found(query: int, neighbor: int, error: float) -> None:
    ds = benchmark("euclidean, sqrt(sum (a-b)^2)", "euclidean")
    ds["distances"][query, neighbor] += error
    (line,) = said(ds)
    assert "1 of 36 sampled distances are not those to the rows" in line
    assert f"names: /distances[{query}, {neighbor}] is" in line
    assert line.endswith("compute the ground truth again")


def test_a_sample_of_many_queries_holds_the_first_and_the_last() -> None:
    ds = benchmark("angular, 1 - cos", "angular").isel(query=np.arange(900) % Q)
    assert said(ds) == []
    for at in (0, 899):
        wrong = ds.copy(deep=True)
        wrong["distances"][at] += 1
        assert len(said(wrong)) == 1


def test_ids_outside_and_zero_vectors_are_left_to_their_checks() -> None:
    ds = benchmark("angular, 1 - cos", "angular")
    ds["neighbors"][0, 0] = -1
    ds["neighbors"][1, 1] = N
    ds["train"][int(ds.neighbors[2, 2])] = 0
    assert said(ds) == []


def test_metrics_that_are_not_known_are_not_judged() -> None:
    ds = benchmark("squared euclidean", "euclidean")
    assert said(ds.assign_attrs(distance="manhattan")) == []
    assert said(ds.drop_attrs()) == []
    assert said(ds.drop_vars("distances")) == []
    assert said(ds.isel(query=slice(0))) == []


def labelled(train_labels: list[int], test_labels: list[int], ratios: Any = None) -> xr.Dataset:
    ds = benchmark("euclidean, sqrt(sum (a-b)^2)", "euclidean").drop_vars("distances")
    train, test = np.resize(train_labels, N), np.resize(test_labels, Q)
    ds["train_labels"], ds["test_labels"] = ("vector", train), ("query", test)
    rows = [np.flatnonzero(train == label)[:K] for label in test]
    if all(len(r) == K for r in rows):
        ds["neighbors"] = ("query", "neighbor"), np.array(rows)
    if ratios is not None:
        ds["valid_ratios"] = "label", np.array(ratios, "f4")
    return ds


@pytest.mark.parametrize("ratios", [None, [0.5, 0.5]])
def test_good_labels_are_accepted(ratios: Any) -> None:
    assert said(labelled([0, 1], [0, 1], ratios)) == []


def test_ratios_are_indexed_by_the_label_or_counted_once() -> None:
    assert said(labelled([0, 5], [0, 5], [0.5, 0, 0, 0, 0, 0.5])) == []
    (note,) = said(labelled([0, 5], [0, 5], [0.5, 0.5]))
    assert "2 values, one a distinct label, of which the largest is 5; expected 6" in note
    (length,) = said(labelled([0, 5], [0, 5], [0.5, 0.25, 0.25]))
    assert "3 values for 2 labels, of which the largest is 5; expected 6" in length


def test_wrong_ratios_are_named_by_label() -> None:
    first, second = said(labelled([0, 1], [0], [0.25, np.nan]))
    assert "0.25 for label 0; expected 0.5, its share of the 50 rows" in first
    assert "nan for label 1" in second


def test_neighbors_of_another_label_and_labels_of_too_few_rows() -> None:
    ds = labelled([0, 1], [0, 1])
    ds["test_labels"][3] = 0
    (line,) = said(ds)
    assert "4 of 36 sampled neighbors have another label than their query" in line
    assert "/neighbors[3, 0] has 1; expected 0" in line
    few = labelled([0] * 47 + [8, 8, 8], [0])
    few["test_labels"][0] = 8
    lines = said(few)
    assert "1 labels of queries with fewer rows than neighbors" in lines[1]
    assert "label 8 has 3 rows; expected at least 4" in lines[1]


@pytest.mark.parametrize(("name", "ours"), [("cosine", "angular"), ("L2", "euclidean")])
def test_other_names_of_metrics_are_told(name: str, ours: str, tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    h5dask.write_dataset(example("ann"), path)
    with h5py.File(path, "r+") as f:
        f.attrs["distance"] = name
    (problem,) = h5dask.validate(path)
    assert problem.way_out == f"{name.lower()} is {ours!r} here: write {ours!r}"


def test_zero_vectors_matter_to_angles_only() -> None:
    from h5dask import check

    block = np.array([[0, 0], [1, 0]], "f4")
    for distance, count in (("angular", 1), (b"angular", 1), ("euclidean", 0)):
        setting = check.Setting(attrs={"distance": distance})
        found = check.find(LAYOUT.checks, "test", block, 5, setting)
        assert sum(findings.count for findings in found) == count
