"""big-ann's ground truth: bytes as described, both ways, and no distance under a wrong name."""

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from h5dask import open_dataset
from h5dask.errors import Conflict, CorruptInput, LayoutError, Refused
from h5dask.indexes import RaggedIndex
from h5dask.vectors.bigann import read_truth, write_truth

KINDS = [("euclidean", None), ("ip", False), ("ip", True)]


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """Start no threads for arrays of a few values."""
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Folder of an object store in memory."""
    url = f"memory://h5dask-{tmp_path.name}"
    yield url
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(url, recursive=True)


def theirs(ids: Any, distances: Any) -> bytes:
    """Return a file of the nearest, by the format's own description."""
    ids, distances = np.asarray(ids, "<i4"), np.asarray(distances, "<f4")
    return struct.pack("<II", *ids.shape) + ids.tobytes() + distances.tobytes()


def ranged(counts: Any, ids: Any, distances: Any) -> bytes:
    """Return a file of pairs within a radius, by the format's own description."""
    head = struct.pack("<ii", len(counts), len(ids)) + np.asarray(counts, "<i4").tobytes()
    return head + np.asarray(ids, "<i4").tobytes() + np.asarray(distances, "<f4").tobytes()


def truth(ids: Any, distances: Any, **attrs: str) -> xr.Dataset:
    ids, distances = np.asarray(ids), np.asarray(distances, np.float64)
    dims = ("query", "neighbor")[: ids.ndim] if ids.ndim == 2 else ("pair",)
    return xr.Dataset({"neighbors": (dims, ids), "distances": (dims, distances)}, attrs=attrs)


IDS = [[3, 1, 2], [0, 7, 5]]
SQUARES = [[0.0, 0.25, 4.0], [1.0, 1.0, 9.0]]
PRODUCTS = [[4.0, 0.25, -1.0], [2.0, 2.0, 0.0]]


@pytest.mark.parametrize(
    ("metric", "integers", "stored", "ours"),
    [
        ("euclidean", None, SQUARES, [[0, 0.5, 2], [1, 1, 3]]),
        ("ip", False, PRODUCTS, [[-3, 0.75, 2], [-1, -1, 1]]),
        ("ip", True, PRODUCTS, [[-4, -0.25, 1], [-2, -2, 0]]),
    ],
)
def test_conventions(
    metric: str, integers: bool | None, stored: Any, ours: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(theirs(IDS, stored))
    ds = read_truth(path, metric, integers=integers)
    assert (ds.neighbors.dtype, ds.distances.dtype) == (np.int64, np.float64)
    xr.testing.assert_identical(ds.compute(), truth(IDS, ours, distance=metric))
    write_truth(ds, tmp_path / "b.bin", metric, integers=integers)
    assert (tmp_path / "b.bin").read_bytes() == path.read_bytes()


def drawn(data: st.DataObject, shape: tuple[int, ...], metric: str) -> np.ndarray:
    """Return stored distances of the metric, sorted as it sorts them."""
    low = 0.0 if metric == "euclidean" else -(2.0**100)
    numbers = st.floats(low, 2.0**100, width=32, allow_subnormal=metric == "euclidean")
    values = np.sort(data.draw(hnp.arrays("f4", shape, elements=numbers)))
    return values if metric == "euclidean" else values[:, ::-1]


@settings(max_examples=60)
@given(st.data())
def test_what_was_read_is_written_bit_for_bit(data: st.DataObject) -> None:
    metric, integers = data.draw(st.sampled_from(KINDS))
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 5)))
    assume(shape != (2, 1))
    values = drawn(data, shape, metric)
    if metric == "ip":  # smaller ones lose digits beside 1
        values = np.where(np.abs(values) < 2.0**-20, 0, values).astype("f4")
    ids = data.draw(hnp.arrays("i4", shape))
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "a.bin"), Path(folder, "b.bin")
        one.write_bytes(theirs(ids, values + np.float32(0)))
        chunks = data.draw(st.integers(1, 10))
        ds = read_truth(one, metric, integers=integers, chunks=chunks)
        xr.testing.assert_identical(
            ds.compute(), read_truth(one, metric, integers=integers).compute()
        )
        write_truth(ds.chunk(neighbor=1), other, metric, integers=integers)
        assert other.read_bytes() == one.read_bytes()


@settings(max_examples=60)
@given(hnp.arrays("f4", (3, 4), elements=st.floats(2.0**-60, 2.0**60, width=32)))
def test_roots_rounded_to_float32_come_back_within_two_units(values: np.ndarray) -> None:
    squares = np.sort(values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.bin")
        path.write_bytes(theirs(np.zeros((3, 4)), squares))
        ds = read_truth(path, "euclidean")
        ds["distances"] = ds.distances.astype(np.float32)
        write_truth(ds, path, "euclidean", overwrite=True)
        back = np.frombuffer(path.read_bytes(), "<f4")[14:].reshape(3, 4)
    assert (np.abs(back - squares) <= 2 * np.spacing(squares)).all()


@pytest.mark.parametrize(("metric", "integers"), KINDS)
def test_pairs_within_a_radius(metric: str, integers: bool | None, tmp_path: Path) -> None:
    content = ranged([2, 0, 3], [5, 1, 9, 9, 0], [4.0, 1.0, 0.25, 9.0, 1.0])
    (tmp_path / "a.bin").write_bytes(content)
    ds = read_truth(tmp_path / "a.bin", metric, integers=integers, chunks=2)
    assert ds.neighbors.dims == ds.distances.dims == ("pair",)
    assert ds.row_size.dims == ("query",)
    assert isinstance(ds.xindexes["row_size"], RaggedIndex)
    assert ds.row_size.values.tolist() == [2, 0, 3]
    assert ds.neighbors.values.tolist() == [5, 1, 9, 9, 0]
    if metric == "euclidean":
        assert ds.distances.values.tolist() == [2.0, 1.0, 0.5, 3.0, 1.0]
    write_truth(ds, tmp_path / "b.bin", metric, integers=integers)
    assert (tmp_path / "b.bin").read_bytes() == content


def test_no_pair_within_a_radius(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(ranged([0, 0, 0], [], []))
    ds = read_truth(tmp_path / "a.bin", "euclidean")
    assert (ds.sizes["pair"], ds.row_size.values.tolist()) == (0, [0, 0, 0])
    write_truth(ds, tmp_path / "b.bin", "euclidean")
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_ids_alone(tmp_path: Path) -> None:
    ds = truth([[3, -1], [2**31 - 1, 0]], SQUARES[:1][0][:2] * np.ones((2, 1)))
    write_truth(ds, tmp_path / "a.ivecs")
    rows = np.array([[2, 3, -1], [2, 2**31 - 1, 0]], "<i4")
    assert (tmp_path / "a.ivecs").read_bytes() == rows.tobytes()
    found = read_truth(tmp_path / "a.ivecs", chunks=1)
    xr.testing.assert_identical(found.compute(), ds[["neighbors"]])


def test_a_store(store: str) -> None:
    ds = truth(IDS, np.sqrt(SQUARES), distance="euclidean")
    for name, options in (("a.bin", ("euclidean",)), ("a.ivecs", ())):
        write_truth(ds, f"{store}/{name}", *options)
        assert read_truth(f"{store}/{name}", *options).neighbors.values.tolist() == IDS
        with pytest.raises(Conflict, match="exists already"):
            write_truth(ds, f"{store}/{name}", *options)


def test_nothing_is_read_but_metadata(tmp_path: Path, no_compute: None) -> None:
    (tmp_path / "a.bin").write_bytes(theirs(IDS, SQUARES))
    ds = read_truth(tmp_path / "a.bin", "euclidean")
    again = read_truth(tmp_path / "a.bin", "euclidean")
    assert ds.distances.data.name == again.distances.data.name
    assert ds.distances.data.name.startswith("convert-distances-")
    assert read_truth(tmp_path / "a.bin", "ip", integers=True).distances.data.name != (
        ds.distances.data.name
    )


@pytest.mark.parametrize("name", ["breast_cancer_standardized_euclidean"])
def test_real_ground_truth(name: str, small: Path, tmp_path: Path) -> None:
    ds = open_dataset(small / "ann" / f"{name}.hdf5")
    write_truth(ds, tmp_path / "a.bin", ds.attrs["distance"])
    found = read_truth(tmp_path / "a.bin", ds.attrs["distance"])
    n, k = ds.neighbors.shape
    raw = np.frombuffer((tmp_path / "a.bin").read_bytes(), "<f4")[2 + n * k :].reshape(n, k)
    train, test = (ds[x].values.astype(np.float64) for x in ("train", "test"))
    squares = np.square(train[ds.neighbors.values] - test[:, None]).sum(-1)
    np.testing.assert_allclose(raw, squares, rtol=1e-5)
    assert found.neighbors.values.tolist() == ds.neighbors.values.tolist()
    np.testing.assert_allclose(found.distances, ds.distances, rtol=3e-7)


# Files that lie


@pytest.mark.parametrize(
    "content",
    [
        theirs(IDS, SQUARES)[:-1],
        theirs(IDS, SQUARES) + b"\0",
        struct.pack("<II", 2**32 - 1, 2**32 - 1) + bytes(100),
        struct.pack("<II", 3, 0) + bytes(4),
        ranged([2, 0, 3], [5, 1, 9, 9, 0], [0.0] * 5)[:-4],
        ranged([2, 0, 4], [5, 1, 9, 9, 0], [0.0] * 5),
        ranged([-1, 6, 0], [5, 1, 9, 9, 0], [0.0] * 5),
    ],
)
def test_a_size_that_disagrees_with_the_header(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    text = rf"a\.bin: found {len(content):,} bytes, expected .* neighbors of .*add up to that"
    with pytest.raises(CorruptInput, match=text):
        read_truth(tmp_path / "a.bin", "euclidean")


def test_hardly_a_byte(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\1\0\0")
    with pytest.raises(CorruptInput, match="found 3 bytes, expected 8 at least for the numbers of"):
        read_truth(tmp_path / "a.bin", "euclidean")


def test_what_both_forms_fit(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(theirs([[1], [0]], [[0.0], [0.0]]))
    with pytest.raises(Refused, match="found 24 bytes for 2 queries and 1, which fits both"):
        read_truth(tmp_path / "a.bin", "euclidean")
    (tmp_path / "a.bin").write_bytes(theirs([[1], [7]], [[4.0], [0.0]]))
    assert read_truth(tmp_path / "a.bin", "euclidean").distances.values.tolist() == [[2], [0]]


@pytest.mark.parametrize(
    ("metric", "integers", "stored", "text"),
    [
        ("euclidean", None, [[0, 1], [1, -0.5]], r"row 1: found the distance -0.5, expected none"),
        ("euclidean", None, [[0, np.nan]], "row 0: found the distance nan"),
        ("ip", True, [[np.nan, 0]], "row 0: found the distance nan"),
        ("euclidean", None, [[9, 4, 1], [5, 4, 0]], "queries 0 to 1: .* of 2 descend, expected"),
        ("ip", False, SQUARES, "queries 0 to 1: the distances of 2 ascend, expected descending"),
    ],
)
def test_distances_that_contradict_the_metric(
    metric: str, integers: bool | None, stored: Any, text: str, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(theirs(np.zeros(np.shape(stored)), stored))
    ds = read_truth(tmp_path / "a.bin", metric, integers=integers)
    with pytest.raises(LayoutError, match=rf"a\.bin: {text}"):
        ds.distances.compute()


def test_rounding_alone_contradicts_nothing(tmp_path: Path) -> None:
    stored = np.full((4, 2), 100, "f4")
    stored[:, 1] = np.nextafter(stored[:, 0], 0)
    (tmp_path / "a.bin").write_bytes(theirs(np.zeros((4, 2)), stored))
    found = read_truth(tmp_path / "a.bin", "euclidean").distances.values
    assert (found == np.sqrt(stored.astype(np.float64))).all()


@pytest.mark.parametrize(
    ("metric", "integers", "text"),
    [
        (None, None, "found no metric, expected one of 'euclidean', 'ip', which are all"),
        ("angular", None, "found metric='angular', expected one of 'euclidean', 'ip'"),
        ("l2", None, "found metric='l2'"),
        ("ip", None, "found metric='ip' alone, expected integers=True where"),
    ],
)
def test_metrics_that_say_too_little(
    metric: str | None, integers: bool | None, text: str, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(theirs(IDS, SQUARES))
    with pytest.raises(Refused, match=text):
        read_truth(tmp_path / "a.bin", metric, integers=integers)
    with pytest.raises(Refused, match=text):
        write_truth(truth(IDS, SQUARES), tmp_path / "b.bin", metric, integers=integers)
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("ds", "error", "text"),
    [
        (truth([[2**31]], [[1]]), Refused, "row 0: found the id 2147483648, expected int32"),
        (truth([[0, 1]] * 3 + [[0, -(2**40)]], np.ones((4, 2))), Refused, "row 3: found the id"),
        (truth([[0]], [[-1.0]]), LayoutError, r"row 0: found the distance -1.0"),
        (truth([[0]], [[np.nan]]), LayoutError, "row 0: found the distance nan"),
        (truth([[0, 1]], [[3, 2]]), LayoutError, "the distances of 1 descend, expected ascending"),
        (
            truth([[0]], [[1e30]]),
            Refused,
            r"found the distance 1e\+30, expected one that big-ann's",
        ),
        (truth([[0]], [[1]], distance="ip"), Refused, "found metric='euclidean', expected 'ip' as"),
        (truth([[0]], [[1]])[["neighbors"]], LayoutError, "found distances: nothing; expected the"),
        (truth([[0]], [[1]]).transpose(), LayoutError, r"found neighbors: \('neighbor', 'query'\)"),
        (
            truth([0, 1], [1, 1]).assign_coords(row_size=("query", [1, 2])),
            *(LayoutError, "found a row_size that adds up to 3, expected 2, the number of pairs"),
        ),
    ],
)
def test_what_cannot_be_written(ds: xr.Dataset, error: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=text):
        write_truth(ds.chunk(), tmp_path / "a.bin", "euclidean")
    assert os.listdir(tmp_path) == []


def test_a_row_is_named_in_any_block(tmp_path: Path) -> None:
    distances = da.from_array(np.r_[np.ones((70, 2)), [[1, np.nan]]], (8, 1))
    ds = truth(np.zeros((71, 2), int), np.ones((71, 2)))
    ds["distances"] = (("query", "neighbor"), distances)
    with pytest.raises(LayoutError, match="row 70: found the distance nan"):
        write_truth(ds, tmp_path / "a.bin", "euclidean")


def test_other_endings(tmp_path: Path) -> None:
    text = r"expected one of \.bin, \.ivecs, \.npy, which hold ground truth"
    with pytest.raises(Refused, match=text):
        read_truth(tmp_path / "a", "euclidean")
    for name in ("a.npy", "a"):
        with pytest.raises(Refused, match=r"expected one of \.bin, \.ivecs"):
            write_truth(truth(IDS, SQUARES), tmp_path / name, "euclidean")


@pytest.mark.parametrize("dtype", ["<i4", ">i8", "<u4", "<u8"])
def test_ids_of_numpy(dtype: str, tmp_path: Path) -> None:
    ids = np.arange(21).reshape(7, 3).astype(dtype)
    for name, values in {"a": ids, "b": np.asfortranarray(ids)}.items():
        np.save(tmp_path / f"{name}.npy", values)
        found = read_truth(tmp_path / f"{name}.npy", chunks=2)
        assert found.neighbors.dtype == np.int64
        assert found.neighbors.values.tolist() == ids.tolist()


def test_vectors_are_no_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    with pytest.raises(
        LayoutError,
        match=r"found dtype 'float64', expected one of int32, int64.*"
        "name the file that holds ids",
    ):
        read_truth(tmp_path / "a.npy")
