"""Whole benchmarks: known ones made again, and every way to make one, against the definition."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import h5dask
from h5dask.errors import Conflict, CorruptInput, LayoutError, Refused
from h5dask.truth.files import open_base, open_labels, write_made
from tests.ops import oracles

REAL = Path(__file__).parent / "real" / "ann"


def vectors(n: int = 40, width: int = 5, seed: int = 0, dim: str = "vector") -> xr.DataArray:
    values = np.random.default_rng(seed).standard_normal((n, width))
    return xr.DataArray(values.astype("f4"), dims=(dim, "feature"))


def asked(n: int = 7, seed: int = 1) -> xr.DataArray:
    return vectors(n, seed=seed, dim="query")


@pytest.mark.parametrize("path", sorted(REAL.glob("*.hdf5")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:.*/train. dtype int8 with 'euclidean':UserWarning")
def test_real_benchmarks_come_out_the_same(path: Path, tmp_path: Path) -> None:
    ds = h5dask.open_dataset(path)
    found = h5dask.ground_truth(ds, k=ds.sizes["neighbor"])
    for name in set(ds.data_vars):
        np.testing.assert_array_equal(found[name].values, ds[name].values)
        assert found[name].dtype == ds[name].dtype
    assert found.attrs["certified"] == ds.sizes["query"]
    target = tmp_path / "again.h5"
    write_made(found, str(target))
    assert [p for p in h5dask.validate(target, values=True) if p.level == "problem"] == []


@given(
    metric=st.sampled_from(["euclidean", "ip", "angular"]),
    dtype=st.sampled_from(["f2", "f4", "f8", "i1", "u1"]),
    k=st.integers(1, 20),
)
def test_stored_values_decide(metric: str, dtype: str, k: int) -> None:
    rng = np.random.default_rng(k)
    sides = [np.abs(rng.standard_normal((n, 4)) * 20 + 1).astype(dtype) for n in (20, 3)]
    base, query = (xr.DataArray(one, dims=(str(i), "f")) for i, one in enumerate(sides))
    found = h5dask.ground_truth(base, query, k=k, metric=metric)
    small = dtype in ("i1", "u1")
    assert found.train.dtype == found.test.dtype == (np.int8 if small else np.float32)
    stored = found.train.values, found.test.values
    ids, distances = oracles.nearest(*stored, k, metric)
    np.testing.assert_array_equal(found.neighbors.values, ids)
    np.testing.assert_array_equal(found.distances.values, distances.astype("f4"))
    assert found.attrs["distance"] == metric
    assert found.attrs["point_type"] == ("int8" if small else "float")
    assert (found.attrs["type"], found.attrs["dimension"]) == ("dense", 4)


def test_queries_are_taken_out_of_the_base() -> None:
    base = vectors().chunk(vector=11)
    labels = np.arange(40) % 3
    found = h5dask.ground_truth(base, k=2, test_size=0.2, seed=4, base_labels=labels)
    assert (found.sizes["query"], found.sizes["vector"]) == (8, 32)
    assert found.train.chunks is not None
    rows = np.concatenate([found.train.values, found.test.values])
    own = np.concatenate([found.train_labels.values, found.test_labels.values])
    there = {row.tobytes(): label for row, label in zip(base.values, labels, strict=True)}
    assert [there.pop(row.tobytes()) for row in rows] == own.tolist()
    again = h5dask.ground_truth(base, k=2, test_size=8, seed=4, base_labels=labels)
    xr.testing.assert_identical(found.compute(), again.compute())
    other = h5dask.ground_truth(base, k=2, test_size=8, seed=5, base_labels=labels)
    assert not np.array_equal(found.test.values, other.test.values)


def test_neighbors_have_the_label_of_their_query() -> None:
    theirs, own = np.arange(40) % 4, np.arange(7) % 3
    found = h5dask.ground_truth(vectors(), asked(), k=3, base_labels=theirs, query_labels=own)
    labels = found.train_labels.values[found.neighbors.values]
    np.testing.assert_array_equal(labels, np.broadcast_to(own[:, None], labels.shape))
    np.testing.assert_array_equal(found.valid_ratios.values, np.full(4, 0.25, "f4"))


def test_labels_are_numbered() -> None:
    theirs, own = np.array(["b", "a", "d", "b"] * 10), np.array(["d", "b"] * 3 + ["a"])
    base, query = vectors(), asked()
    found = h5dask.ground_truth(
        base, query, k=1, base_labels=theirs, query_labels=own, relabel=True
    )
    assert found.train_labels.values[:4].tolist() == [1, 0, 2, 1]
    assert found.test_labels.values[:2].tolist() == [2, 1]
    with pytest.raises(Refused, match=r"^base_labels: found <U1; expected whole numbers.*relabel"):
        h5dask.ground_truth(base, query, k=1, base_labels=theirs, query_labels=own)


def test_first_rows_only() -> None:
    found = h5dask.ground_truth(vectors(), asked(), k=4, base_rows=6)
    ids, _ = oracles.nearest(vectors().values[:6], asked().values, 4, "euclidean")
    np.testing.assert_array_equal(found.neighbors.values, ids)
    assert found.sizes["vector"] == 6


def test_rounded_to_bytes() -> None:
    base, query = vectors().chunk(vector=7), asked()
    found = h5dask.ground_truth(base, query, k=4, quantize="int8")
    scale = 127 / max(np.abs(base.values).max(), np.abs(query.values).max())
    assert found.attrs["scale"] == pytest.approx(scale)
    np.testing.assert_array_equal(found.train.values, np.rint(base.values * scale).astype("i1"))
    assert np.abs(np.concatenate([found.train.values, found.test.values])).max() == 127
    ids, _ = oracles.nearest(found.train.values, found.test.values, 4, "euclidean")
    np.testing.assert_array_equal(found.neighbors.values, ids)


def test_k_is_lowered_where_asked_for() -> None:
    theirs = np.repeat([0, 1], [35, 5])
    given: dict[str, Any] = {"base_labels": theirs, "query_labels": np.arange(7) % 2}
    found = h5dask.ground_truth(vectors(), asked(), k=9, clip_k=True, **given)
    assert found.sizes["neighbor"] == 5
    expected = r"^train_labels: found 5 base vectors with the label 1; expected at least k = 9"
    with pytest.raises(Refused, match=rf"{expected}(?s:.*)lower k to 5 \(clip_k=True, --clip-k\)"):
        h5dask.ground_truth(vectors(), asked(), k=9, **given)


def three(n: int, fill: int = 0) -> NDArray[np.int64]:
    return np.full(n, fill)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": None}, "^query: found none; give queries, or test_size"),
        ({"test_size": 3}, "^test_size: found 3 beside queries; give one of the two"),
        ({"query": None, "test_size": 40}, "^test_size: found 40, of 40 base vectors; expected"),
        ({"query": None, "test_size": 1.5}, r"^test_size: found 1\.5, of 40 base vectors"),
        ({"base_rows": 41}, "^base_rows: found 41; expected 1 to 40, the base vectors"),
        ({"quantize": "int4"}, "^quantize: found 'int4'; expected int8"),
        ({"metric": "cosine"}, "^metric: found 'cosine'; expected one of 'euclidean', 'ip'"),
        (
            {"base": "a.npy", "query": "q.npy"},
            r"^base: found 'a\.npy'; expected vectors; open them",
        ),
        ({"query": [[1]]}, "^query: found a list; expected an array of vectors"),
        ({"k": 41}, "^k: found 41; expected 1 to 40, the number of base vectors"),
        ({"base_labels": three(40)}, "^query_labels: found none beside the others"),
        (
            {"base_labels": three(39), "query_labels": three(7)},
            r"^base_labels: found the shape \(39,\); expected \(40,\)",
        ),
        (
            {"base_labels": three(40, -1), "query_labels": three(7)},
            "^base_labels: found -1 to -1; expected 0 to 1000000, .*relabel",
        ),
        (
            {"base_labels": three(40, 10**6 + 1), "query_labels": three(7)},
            "^base_labels: found 1000001 to 1000001; expected 0 to 1000000",
        ),
        (
            {"base_labels": three(40), "query_labels": three(7, 5)},
            "^train_labels: found 0 base vectors with the label 5.*(?s:.*)drop those queries",
        ),
    ],
)
def test_what_cannot_be_made(change: dict[str, Any], message: str) -> None:
    given = {"base": vectors(), "query": asked(), "k": 3, **change}
    with pytest.raises(Refused, match=message):
        h5dask.ground_truth(**given)


@pytest.mark.parametrize("lazy", [False, True])
def test_arrays_of_numpy_and_dask_are_vectors(lazy: bool) -> None:
    base, query = (
        da.from_array(x.values, (9, 5)) if lazy else x.values for x in (vectors(), asked())
    )
    xr.testing.assert_identical(
        h5dask.ground_truth(base, query, k=3).compute(),
        h5dask.ground_truth(vectors(), asked(), k=3),
    )
    assert h5dask.ground_truth(base, k=3, test_size=4).sizes["query"] == 4


def test_bytes_above_127_are_no_int8() -> None:
    base = xr.DataArray(np.array([[1, 2], [3, 200], [0, 130]], "u1"), dims=("vector", "feature"))
    query = xr.DataArray(np.array([[1, 2]], "u1"), dims=("query", "feature"))
    for sides in ((base, query), (base.chunk(vector=1), query)):
        with pytest.raises(Refused, match=r"^train: found uint8 values that int8 can't hold, up"):
            h5dask.ground_truth(*sides, k=1)


def test_numbers_too_large_for_float32() -> None:
    base = vectors().astype("f8")
    base[3, 1] = 1e200
    with pytest.raises(Refused, match=r"^train: found float64 values that float32 .* in rows 3;"):
        h5dask.ground_truth(base, asked(), k=1)


def test_a_dataset_that_is_no_benchmark() -> None:
    with pytest.raises(Refused, match=r"^base: found a Dataset of \['x'\] without train and test"):
        h5dask.ground_truth(vectors().to_dataset(name="x"), k=1)


def test_files_by_their_endings(tmp_path: Path) -> None:
    path = next(REAL.glob("digits*"))
    assert isinstance(open_base(path), xr.Dataset)
    assert isinstance(open_base(path, variable="test"), xr.DataArray)
    ds = h5dask.ground_truth(vectors(), asked(), k=3)
    write_made(ds, str(tmp_path / "a.bin"))
    assert (tmp_path / "a.bin").stat().st_size == 8 + 7 * 3 * 8
    with pytest.raises(Conflict, match=r"a\.bin: "):
        write_made(ds, str(tmp_path / "a.bin"))


def test_labels_from_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    np.save(path, np.array(["a", "b"]))
    assert open_labels(path).tolist() == ["a", "b"]
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(LayoutError, match=r"found float64 of shape \(2, 2\); expected whole"):
        open_labels(path)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(CorruptInput, match=r"expected labels in a \.npy"):
        open_labels(path)
    path.write_bytes(b"")
    with pytest.raises(CorruptInput, match=r"expected labels in a \.npy"):
        open_labels(path)
