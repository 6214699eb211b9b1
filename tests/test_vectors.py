"""Vectors of every kind of file: what is read is what was written; lazy; whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import h5dask
from h5dask import layouts, open_vectors, write_vectors
from h5dask.errors import (
    Conflict,
    CorruptInput,
    InputChanged,
    LayoutError,
    NotFound,
    OutOfSpace,
    Refused,
)
from h5dask.storage.vectors import DTYPES
from h5dask.testing import example, example_file

HOLDS = {
    ".npy": DTYPES,
    ".zarr": DTYPES,
    ".fbin": ("float32",),
    ".u8bin": ("uint8",),
    ".i8bin": ("int8",),
    ".fvecs": ("float32",),
    ".bvecs": ("uint8",),
}
PAIRS = [(ending, dtype) for ending, dtypes in HOLDS.items() for dtype in dtypes]


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


def vectors(n: int = 11, d: int = 5, dtype: str = "float32") -> xr.DataArray:
    values = np.random.default_rng(n * d).integers(0, 100, (n, d)).astype(dtype)
    return xr.DataArray(values, dims=("vector", "feature"))


def same(found: xr.DataArray, expected: np.ndarray) -> None:
    assert found.dims == ("vector", "feature")
    assert isinstance(found.data, da.Array)
    assert found.dtype == expected.dtype
    assert found.values.tobytes() == np.ascontiguousarray(expected).tobytes()


# What is read is what was written


@pytest.mark.parametrize(("ending", "dtype"), PAIRS)
def test_there_and_back(ending: str, dtype: str, tmp_path: Path) -> None:
    x = vectors(dtype=dtype)
    write_vectors(x, tmp_path / f"a{ending}")
    same(open_vectors(tmp_path / f"a{ending}"), x.values)
    assert os.listdir(tmp_path) == [f"a{ending}"]


@settings(max_examples=40)
@given(st.data())
def test_blocks_never_change_a_value(data: st.DataObject) -> None:
    ending, dtype = data.draw(st.sampled_from(PAIRS))
    shape = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 6)))
    values = data.draw(hnp.arrays(dtype, shape))
    cuts = tuple(data.draw(st.integers(1, size)) for size in shape)
    x = xr.DataArray(da.from_array(values, cuts), dims=("row", "column"))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a{ending}"
        write_vectors(x, path)
        for chunks in ("auto", data.draw(st.integers(1, 25)), "24 B"):
            same(open_vectors(path, chunks=chunks), values)


def test_files_are_those_of_numpy(tmp_path: Path) -> None:
    x = vectors(dtype="float64").chunk(vector=2)
    write_vectors(x, tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", x.values)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_features_that_lie_end_to_end(tmp_path: Path) -> None:
    x = vectors(50, 3)
    np.save(tmp_path / "a.npy", np.asfortranarray(x.values))
    found = open_vectors(tmp_path / "a.npy", chunks=7)
    same(found, x.values)
    assert found.chunks == ((7,) * 7 + (1,), (3,))


def test_other_orders_of_bytes(tmp_path: Path) -> None:
    x = vectors().astype(">f4")
    for ending in (".npy", ".fbin", ".fvecs"):
        write_vectors(x, tmp_path / f"a{ending}")
        same(open_vectors(tmp_path / f"a{ending}"), x.values.astype("<f4"))


def test_no_rows(tmp_path: Path) -> None:
    x = vectors(0, 4)
    for ending in (".npy", ".fbin"):
        write_vectors(x, tmp_path / f"a{ending}")
        assert open_vectors(tmp_path / f"a{ending}").compute().shape == (0, 4)
    with pytest.raises(Refused, match="found no rows, which counted rows can't say the width of"):
        write_vectors(x, tmp_path / "a.fvecs")


def test_zarr_keeps_ids(tmp_path: Path) -> None:
    ids = np.array([f"é{i}" for i in range(11)], object)
    x = vectors().assign_coords(id=("vector", ids)).chunk(vector=(4, 1, 6))
    write_vectors(x, tmp_path / "a.zarr")
    found = open_vectors(tmp_path / "a.zarr", chunks=5)
    same(found, x.values)
    assert found.id.values.tolist() == ids.tolist()
    assert found.chunks == ((5, 5, 1), (5,))


def test_zarr_of_others(tmp_path: Path) -> None:
    x = vectors()
    zarr.create_array(tmp_path / "bare.zarr", data=x.values, chunks=(2, 5))
    same(open_vectors(tmp_path / "bare.zarr", chunks=3), x.values)
    xr.Dataset({"a": x, "b": x + 1, "c": x[0]}).to_zarr(tmp_path / "two.zarr", consolidated=False)
    same(open_vectors(tmp_path / "two.zarr", variable="b"), x.values + 1)
    with pytest.raises(Refused, match=r"found 2 variables of two dims \(a, b\), expected one"):
        open_vectors(tmp_path / "two.zarr")
    with pytest.raises(LayoutError, match=r"c has the dims \('feature',\), expected rows"):
        open_vectors(tmp_path / "two.zarr", variable="c")
    (tmp_path / "no.zarr").mkdir()
    with pytest.raises(NotFound, match=r"no\.zarr: not found"):
        open_vectors(tmp_path / "no.zarr")
    (tmp_path / "no.zarr" / "zarr.json").write_text("{")
    with pytest.raises(CorruptInput, match=r"no\.zarr: zarr can't open it"):
        open_vectors(tmp_path / "no.zarr")


def parquet(path: Path, x: xr.DataArray, rows: int = 4) -> Path:
    table = pa.table({"id": np.arange(len(x)) * 3, "emb": list(x.values)})
    pq.write_table(table, path, row_group_size=rows)
    return path


def test_parquet(tmp_path: Path) -> None:
    x = vectors()
    found = open_vectors(parquet(tmp_path / "a.parquet", x))
    same(found, x.values)
    assert found.id.values.tolist() == list(range(0, 33, 3))
    assert open_vectors(tmp_path / "a.parquet", variable="emb", chunks=3).chunks[0] == (3, 3, 3, 2)
    with pytest.raises(LayoutError, match="id: found one value a row, expected lists"):
        open_vectors(tmp_path / "a.parquet", variable="id")


def test_row_groups_are_blocks(tmp_path: Path) -> None:
    x = vectors(100, 8)
    with dask.config.set({"h5dask.block-size": 320}):  # ten rows
        for rows, expected in ((3, 9), (25, 25), (100, 80)):
            found = open_vectors(parquet(tmp_path / "a.parquet", x, rows))
            assert found.chunks[0][0] == expected
            same(found, x.values)


@pytest.mark.parametrize("ending", [".npy", ".fbin", ".bvecs", ".zarr"])
def test_a_store(ending: str, store: str) -> None:
    x = vectors(dtype="uint8" if ending == ".bvecs" else "float32").chunk(vector=4)
    write_vectors(x, f"{store}/a{ending}")
    same(open_vectors(f"{store}/a{ending}"), x.values)
    with pytest.raises(Conflict, match=rf"a\{ending}: exists already"):
        write_vectors(x, f"{store}/a{ending}")
    write_vectors(x + 1, f"{store}/a{ending}", overwrite=True)
    same(open_vectors(f"{store}/a{ending}"), x.values + 1)


def test_an_open_file(tmp_path: Path) -> None:
    write_vectors(vectors(), tmp_path / "a.fbin")
    with (tmp_path / "a.fbin").open("rb") as file:
        same(open_vectors(file), vectors().values)


# Layouts


def test_layouts_that_have_vectors() -> None:
    named = {layout.name: layout.vectors for layout in layouts.all_layouts()}
    for name, variable in named.items():
        if variable is None:
            continue
        expected = example(name)[variable]
        given = {dim: expected[dim].values[-1] for dim in expected.dims[1:-1]}
        for chunks in ("auto", 2, "64 B"):
            same(open_vectors(example_file(name), select=given, chunks=chunks),
                 expected.sel(given).values)  # fmt: skip
    assert {name for name, variable in named.items() if variable} == {
        *("activations", "ann", "episodes"),
    }


def test_a_layout_without_vectors() -> None:
    text = "a file of proteins, which holds no vectors; expected one of activations, ann, episodes"
    with pytest.raises(Refused, match=text):
        open_vectors(example_file("proteins"))
    same(
        open_vectors(example_file("proteins"), variable="logits"), example("proteins").logits.values
    )


def test_one_layer_of_several() -> None:
    file, ds = example_file("activations"), example("activations")
    with pytest.raises(Refused, match=r"has 2 of 'layer' \(3, 13\), expected one; choose it with"):
        open_vectors(file)
    x = open_vectors(file, select={"layer": 13, "scenario": "base"})
    same(x, ds.activations.sel(layer=13, scenario="base").values)
    assert x.sample.values.tolist() == [0, 1, 2]
    assert (x.layer.item(), x.scenario.dims, dict(x.xindexes)) == (13, ("vector",), {})
    for wrong in ({"layer": 4}, {"scenario": "none"}, {"nothing": 1}, {"hidden": 99}):
        with pytest.raises(NotFound, match=r"select=\{.*finds nothing .*; labels are those of"):
            open_vectors(file, select=wrong)


def test_the_only_layer(tmp_path: Path) -> None:
    ds = example("activations").isel(layer=[1])
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    same(open_vectors(tmp_path / "a.h5"), ds.activations[:, 0].values)


def test_ids_stay_coords() -> None:
    x, ds = open_vectors(example_file("episodes")), example("episodes")
    assert x.episode_ids.dims == ("vector",)
    assert x.episode_ids.values.tolist() == ds.episode_ids.values.tolist()


def test_several_files_end_to_end() -> None:
    files = [example_file("episodes", seed) for seed in (0, 1)]
    x = open_vectors(files)
    same(x, np.concatenate([example("episodes", seed).embeddings for seed in (0, 1)]))
    assert x.source.values.tolist() == [files[0]] * 6 + [files[1]] * 6


def test_other_variables() -> None:
    file = example_file("ann")
    same(open_vectors(file, variable="test"), example("ann").test.values)
    with pytest.raises(NotFound, match="no variable 'nothing' in ann; there are train, test"):
        open_vectors(file, variable="nothing")
    with pytest.raises(
        LayoutError, match="neighbors: found dtype 'int64', expected one of float32"
    ):
        open_vectors(file, variable="neighbors")
    with pytest.raises(
        LayoutError, match=r"train_labels has the dims \('vector',\), expected rows"
    ):
        open_vectors(file, variable="train_labels")


REAL = sorted((Path(__file__).parent / "real").rglob("*.h*5"))


def as_stored(path: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield what is selected and what h5py reads, for the vectors that a real file has."""
    with h5py.File(path) as file:
        match path.parent.name:
            case "ann":
                yield {}, file["train"][:]
            case "episodes":
                yield {}, file["embeddings"][:]
            case "activations":
                scenario = next(iter(file["scenarios"]))
                data = file[f"scenarios/{scenario}/data"]
                for name in (name for name in data if name.startswith("activations_layer_")):
                    layer = int(name.rpartition("_")[2])
                    labels = {"layer": layer, "scenario": scenario, "branch": ""}
                    yield labels, data[name][:]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_files(path: Path, tmp_path: Path) -> None:
    there_and_back(path, tmp_path)


def test_large_real_files(sample: Path, tmp_path: Path) -> None:
    there_and_back(sample, tmp_path)


def there_and_back(path: Path, folder: Path) -> None:
    for labels, stored in as_stored(path):
        if not len(stored):
            continue
        x = open_vectors(path, select=labels)
        same(x, stored)
        for ending in (ending for ending, dtype in PAIRS if dtype == stored.dtype.name):
            write_vectors(x, folder / f"a{ending}", overwrite=True)
            same(open_vectors(folder / f"a{ending}"), stored)


# Laziness


@pytest.mark.parametrize("ending", [".npy", ".fbin", ".fvecs", ".zarr", ".parquet"])
def test_nothing_is_read_but_metadata(
    ending: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        parquet(path, vectors())
    else:
        write_vectors(vectors(), path)
    request.getfixturevalue("no_compute")
    first, again = open_vectors(path), open_vectors(path)
    assert first.data.name.startswith(("read-vectors-", "read-emb-"))
    assert (first.data.name == again.data.name) or ending == ".zarr"
    assert open_vectors(path, chunks=2).data.name != first.data.name


def test_layouts_are_lazy(no_compute: None) -> None:
    open_vectors(example_file("activations"), select={"layer": 3, "scenario": "base"})
    open_vectors(example_file("ann"))


def test_names_tell_another_state_of_the_file(tmp_path: Path) -> None:
    write_vectors(vectors(), tmp_path / "a.fbin")
    before = open_vectors(tmp_path / "a.fbin")
    write_vectors(vectors() + 1, tmp_path / "a.fbin", overwrite=True)
    assert open_vectors(tmp_path / "a.fbin").data.name != before.data.name
    with pytest.raises(InputChanged, match=r"a\.fbin: changed since it was opened"):
        before.compute()


def test_blocks_of_the_usual_size(tmp_path: Path) -> None:
    with (tmp_path / "a.fbin").open("wb") as file:
        file.write(np.array([2**20, 64], "<u4").tobytes())
        file.truncate(8 + 2**20 * 256)
    x = open_vectors(tmp_path / "a.fbin")
    assert set(x.chunks[0]) == {2**16}
    assert open_vectors(tmp_path / "a.fbin", chunks="4 MiB").chunks[0][0] == 2**14
    assert x[-1].values.tolist() == [0] * 64


# Whole or not at all


@pytest.mark.parametrize("ending", HOLDS)
def test_the_target_may_be_the_input(ending: str, tmp_path: Path) -> None:
    x = vectors(dtype=HOLDS[ending][0])
    path = tmp_path / f"a{ending}"
    write_vectors(x, path)
    with pytest.raises(Conflict, match=rf"a\{ending}: exists already"):
        write_vectors(x, path)
    write_vectors(open_vectors(path, chunks=3)[::-1], path, overwrite=True)
    same(open_vectors(path), x.values[::-1])
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", HOLDS)
def test_nothing_is_left_of_what_failed(ending: str, tmp_path: Path) -> None:
    def fail(block: np.ndarray, block_id: tuple[int, int] | None = None) -> np.ndarray:
        if block_id == (3, 0):
            raise RuntimeError("no such luck")
        return block

    x = vectors(dtype=HOLDS[ending][0])
    write_vectors(x, tmp_path / f"a{ending}")
    bad = x.copy(data=da.from_array(x.values, (2, 5)).map_blocks(fail, dtype=x.dtype))
    with pytest.raises(RuntimeError, match="no such luck"):
        write_vectors(bad, tmp_path / f"a{ending}", overwrite=True)
    assert os.listdir(tmp_path) == [f"a{ending}"]
    same(open_vectors(tmp_path / f"a{ending}"), x.values)


def test_a_full_disk(tmp_path: Path) -> None:
    x = xr.DataArray(da.zeros((2**40, 2**10), chunks=(2**28, -1), dtype="f4"))
    with pytest.raises(OutOfSpace, match=r"/a\.npy: (needs 4,503,599,627,370,\d+ bytes|File too)"):
        write_vectors(x, tmp_path / "a.npy")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", HOLDS)
@pytest.mark.parametrize("dtype", [*DTYPES, "int64", "bool", "complex64"])
def test_what_a_file_cannot_hold(ending: str, dtype: str, tmp_path: Path) -> None:
    if dtype in HOLDS[ending]:
        return
    text = rf"a\{ending}: found values of {dtype}, a \{ending} holds {' or '.join(HOLDS[ending])}"
    with pytest.raises(Refused, match=text):
        write_vectors(vectors(dtype=dtype), tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    ("x", "name", "error", "text"),
    [
        (vectors(), "a.h5", Refused, "found the ending '.h5', expected one of .npy, .fbin"),
        (vectors(), "a.parquet", Refused, "found the ending '.parquet', expected one of"),
        (vectors(), "a.ivecs", Refused, "ids of neighbors, .*; h5dask ground-truth -o a.ivecs wr"),
        (vectors().astype(int), "a.npy", Refused, "are they ids of neighbors[?] np.save writes th"),
        (vectors()[0], "a.npy", LayoutError, r"found the shape \(5,\), expected rows"),
        (vectors(4, 0), "a.fbin", LayoutError, r"found the shape \(4, 0\), expected rows and 1"),
        (vectors(), "no/a.npy", NotFound, "found no folder"),
        (
            xr.DataArray(da.zeros((2**32, 1), chunks=2**28, dtype="f4")),
            *("a.fbin", Refused, "found more than the 4,294,967,295 rows"),
        ),
    ],
)
def test_what_cannot_be_written(
    x: xr.DataArray, name: str, error: Any, text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        write_vectors(x, tmp_path / name)
    assert os.listdir(tmp_path) == []


# What can't be opened


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"chunks": 0}, "found chunks=0, expected 1 row or more"),
        ({"chunks": "many"}, "chunks='many' is no size of blocks"),
        ({"select": {"layer": 1}}, r"found select=\{'layer': 1\}, variable=None, but such a file"),
        ({"variable": "x"}, "variable='x', but such a file has neither labels nor names"),
    ],
)
def test_what_is_asked_in_vain(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    write_vectors(vectors(), tmp_path / "a.npy")
    with pytest.raises(Refused, match=text):
        open_vectors(tmp_path / "a.npy", **options)


def test_ids_are_no_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3, dtype="i4"))
    with pytest.raises(
        LayoutError, match=r"'int32', .* ids of neighbors\? h5dask\.recall takes them"
    ):
        open_vectors(tmp_path / "a.npy")


def test_several_files_of_rows(tmp_path: Path) -> None:
    for name in "ab":
        write_vectors(vectors(), tmp_path / f"{name}.npy")
    with pytest.raises(Refused, match=r"a\.npy: one of 2 files, where one is opened; name one"):
        open_vectors(tmp_path / "*.npy")
    with pytest.raises(NotFound, match=r"c\.npy: no such file"):
        open_vectors(tmp_path / "c.npy")
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(CorruptInput, match=r"a\.txt: not an HDF5 file"):
        open_vectors(tmp_path / "a.txt")


def test_parquet_that_would_never_end(tmp_path: Path) -> None:
    values = pa.FixedSizeListArray.from_arrays(np.zeros(80_000_000, "i1"), 4000)
    pq.write_table(pa.table({"emb": values}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(Refused, match=r"of shape \(20000, 4000\) takes .* bytes, the file has"):
        open_vectors(tmp_path / "a.parquet")
