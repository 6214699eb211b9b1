"""What a Dataset becomes in a file: fields of any type, forms that travel, and what is refused."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import LayoutError, NotFound
from h5dask.testing import example, example_file
from tests.files.same import differences
from tests.rewriting import opened, written

Change = Callable[[xr.Dataset], xr.Dataset]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No test may leave a temporary file beside its targets."""
    yield
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([3, 3], "labels 3, 3 along layer; expected whole numbers from 0, each once"),
        ([-1, 3], "labels -1, 3 along layer"),
        ([3.0, 4.0], r"labels 3\.0, 4\.0 along layer"),
        (["a", "b"], "labels a, b along layer"),
    ],
)
def test_layers_are_whole_numbers(labels: list[Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=text):
        h5dask.write_dataset(example("activations").assign_coords(layer=labels), tmp_path / "a.h5")


FIELDS: dict[str, Any] = {
    **{kind: np.arange(6).astype(kind) for kind in ("i1", "u2", "<i4", ">i8", "f2", "f4", ">f8")},
    "bool": np.arange(6) % 2 == 0,
    "complex": np.arange(6) * 1j,
    "text": np.array(["a", "ü", "", "d", "漢", "f" * 999], object),
    "fixed text": np.array(list("abcdef")),
    "bytes": np.array([b"a", b"bc", b"", b"d", b"e", b"f"]),
}


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("lazy", [False, True], ids=["memory", "lazy"])
def test_a_field_that_the_user_added(kind: str, lazy: bool, tmp_path: Path) -> None:
    values = da.from_array(FIELDS[kind], chunks=4) if lazy else FIELDS[kind]
    ds = h5dask.open_dataset(example_file("episodes"))
    back = written(ds.assign(metadata_robot_id=("episode", values)), tmp_path / "a.h5")
    expected = FIELDS[kind]
    if expected.dtype.kind in "SU":
        expected = np.array([t.decode() if kind == "bytes" else str(t) for t in expected], object)
    assert np.array_equal(back.metadata_robot_id, expected)
    assert back.metadata_robot_id.dtype == expected.dtype.newbyteorder("=")
    h5dask.write_dataset(back, tmp_path / "b.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []


UNFIT: dict[str, tuple[str, Change, str]] = {
    "length": (
        "episodes",
        lambda ds: ds.assign(metadata_robot_id=("other", np.arange(3))),
        r"metadata_robot_id has dims \('other',\), expected \('episode',\)",
    ),
    "rank": (
        "episodes",
        lambda ds: ds.assign(metadata_a=(("episode", "k"), np.ones((6, 2)))),
        r"metadata_a has dims \('episode', 'k'\)",
    ),
    "times": (
        "episodes",
        lambda ds: ds.assign(metadata_at=("episode", np.arange(6).astype("M8[s]"))),
        r"metadata_at has dtype datetime64\[s\]; convert it to numbers or text",
    ),
    "a layer without its dim": (
        "activations",
        lambda ds: ds.sel(layer=13),
        r"activations has dims .* \(keep the dim: sel\(layer=\[13\]\)\)",
    ),
    "dims of other names": (
        "ann",
        lambda ds: ds.rename(vector="base", feature="dim"),
        r"train has dims .* \(rename\(base='vector', dim='feature'\)\); test .*\(rename\(dim='fea",
    ),
    "no text": (
        "episodes",
        lambda ds: ds.assign(metadata_a=("episode", np.array([1, "a"] * 3, object))),
        r"'/metadata/a' row 0 is 1, expected text",
    ),
    "NUL": (
        "episodes",
        lambda ds: ds.assign(metadata_a=("episode", np.array(["ok", "a\0b"] * 3, object))),
        r"a\.h5: '/metadata/a' row 1 holds a NUL character at byte 1.*remove it",
    ),
    "unknown variable": (
        "ann",
        lambda ds: ds.assign(recall=1.0),
        r"recall is no variable of ann; leave it out with ds\.drop_vars\('recall'\)",
    ),
    "missing variable": (
        "ann",
        lambda ds: h5dask.open_dataset(example_file("ann")).drop_vars("distances"),
        r"distances \('query', 'neighbor'\) is missing",
    ),
    "dtype": (
        "ann",
        lambda ds: ds.assign(train=ds.train.astype(str)),
        "train has dtype <U.*, expected float32 or int8",
    ),
    "overflow": (
        "ann",
        lambda ds: ds.assign(distances=ds.distances.astype("f8") * 1e300),
        r"/distances: 15 values of float64 don't fit float32; convert them with astype",
    ),
    "metric": (
        "ann",
        lambda ds: ds.assign_attrs(distance="hamming"),
        "attribute 'distance' is 'hamming', expected 'euclidean' or 'ip' or 'angular'",
    ),
    "letters": ("proteins", lambda ds: ds.isel(aa=slice(20)), "aa is 20, expected 21"),
    "half cut": (
        "proteins",
        lambda ds: ds.isel(sequence=slice(4)),
        r"labels count 20 rows along residue, which has 44.*ds\.sel\(structure=",
    ),
    "no labels": (
        "proteins",
        lambda ds: ds.drop_indexes(list(ds.xindexes)).drop_vars(["row_size", "structure"]),
        r"without \['structure', 'row_size'\]; add them as coordinates",
    ),
    "no grid": (
        "proteins",
        lambda ds: ds.isel(sequence=slice(1, None), residue=slice(5, None)),
        "structure 3: 3 sequences, expected each of .* 2 x 2 x 1 once; drop or add whole samples",
    ),
    "no rows": ("activations", lambda ds: ds.isel(record=[]), "no rows at all: record is 0"),
    "slash": (
        "activations",
        lambda ds: ds.drop_indexes(["scenario", "branch", "sample"]).assign_coords(
            scenario=("record", ["a/b"] * 7)
        ),
        "scenario 'a/b' .*expected a name without '/'",
    ),
    "several": (
        "ann",
        lambda ds: ds.assign(a=1, b=2).drop_vars("test"),
        "(?s)a is no variable.*b is no variable.*test .* is missing",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_written_says_why(name: str, tmp_path: Path) -> None:
    layout, change, text = UNFIT[name]
    with pytest.raises(LayoutError, match=text):
        h5dask.write_dataset(change(example(layout)), tmp_path / "a.h5", layout=layout)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("source", ["hand", "file"])
def test_missing_attributes_are_named_all_at_once(source: str, tmp_path: Path) -> None:
    path = example_file("activations")
    ds = example("activations") if source == "hand" else h5dask.open_dataset(path)
    with pytest.raises(
        LayoutError,
        match=r"lacks attributes that activations needs: model_name, dataset_name, .*dataset_info, "
        r"model_info, scenarios; set them in ds\.attrs",
    ):
        h5dask.write_dataset(ds.drop_attrs(deep=False), tmp_path / "a.h5")
    with pytest.raises(LayoutError, match=r"distance \(one of 'euclidean', 'ip', 'angular'\)"):
        h5dask.write_dataset(example("ann").drop_attrs(), tmp_path / "a.h5")


KEEPING: dict[str, Change] = {
    "isel": lambda ds: ds.isel(episode=slice(None)),
    "sel": lambda ds: ds.sel(episode=slice(None)),
    "assign": lambda ds: ds.assign(metadata_success=~ds.metadata_success),
    "assign_attrs": lambda ds: ds.assign_attrs(),
    "copy": lambda ds: ds.copy(deep=True),
    "compute": lambda ds: ds.compute(),
    "chunk": lambda ds: ds.chunk(3),
    "pickle": lambda ds: pickle.loads(pickle.dumps(ds)),
    "arithmetic": lambda ds: ds.assign(embeddings=ds.embeddings * 2),
    "transpose": lambda ds: ds.transpose(),
}
DROPPING: dict[str, Change] = {
    "where": lambda ds: ds.where(ds.metadata_success.compute(), drop=True),
    "map": lambda ds: ds.map(lambda x: x),
    "by hand": lambda ds: xr.Dataset(ds.variables, attrs=ds.attrs).set_coords("episode_ids"),
}


@pytest.mark.parametrize("name", KEEPING)
def test_the_form_survives(name: str, tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "episodes", "gzip")
    h5dask.write_dataset(KEEPING[name](ds), tmp_path / "b.h5")
    with h5py.File(tmp_path / "a.h5") as old, h5py.File(tmp_path / "b.h5") as new:
        assert new["embeddings"].compression == "gzip"
        assert new["embeddings"].chunks == old["embeddings"].chunks


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.parametrize("kind", ["dataset", "path", "contents"])
def test_like_brings_the_form_back(name: str, kind: str, tmp_path: Path) -> None:
    source = opened(tmp_path / "a.h5", "episodes", "gzip")
    like = {"dataset": source, "path": tmp_path / "a.h5", "contents": source.encoding["h5dask"]}
    ds = DROPPING[name](source)
    assert "h5dask" not in ds.encoding
    ds["metadata_success"] = ds.metadata_success.astype(bool)
    ds["metadata_episode_length"] = ds.metadata_episode_length.astype("i4")
    h5dask.write_dataset(ds, tmp_path / "plain.h5", layout="episodes")
    h5dask.write_dataset(ds, tmp_path / "b.h5", layout="episodes", like=like[kind])
    with h5py.File(tmp_path / "plain.h5") as plain, h5py.File(tmp_path / "b.h5") as new:
        assert plain["embeddings"].chunks is None
        assert new["embeddings"].compression == "gzip"


def test_like_brings_attributes_and_what_is_unknown_too(tmp_path: Path) -> None:
    source = opened(tmp_path / "a.h5", "ann", "unknown_members")
    made = xr.Dataset(source.variables)
    h5dask.write_dataset(made, tmp_path / "b.h5", like=tmp_path / "a.h5")
    assert differences(tmp_path / "a.h5", tmp_path / "b.h5") == []
    with pytest.raises(LayoutError, match="was not opened from a file; name a path instead"):
        h5dask.write_dataset(made, tmp_path / "c.h5", like=example("ann"))
    with pytest.raises(NotFound, match=r"nowhere\.h5: no such file"):
        h5dask.write_dataset(made, tmp_path / "c.h5", like=tmp_path / "nowhere.h5")


@pytest.mark.parametrize("asked", ["lzf", 10, -1, ("gzip", 11), ("gzip",), 2.5, ("gzip", "much")])
def test_compression_is_asked_for_clearly(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"expected 'gzip', a level from 0 to 9, \('gzip', level"):
        h5dask.write_dataset(example("ann"), tmp_path / "a.h5", compression=asked)
