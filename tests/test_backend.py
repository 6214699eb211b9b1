"""xarray opens the layouts by `engine="h5dask"`, with its usual keywords."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from xarray.backends.plugins import guess_engine, list_engines

import h5dask
from h5dask import layouts
from h5dask.backend import H5daskBackend
from h5dask.errors import LayoutError, NotFound
from h5dask.storage.array import StoredArray
from h5dask.testing import example, example_file

NAMES = layouts.names()
ENGINE = "h5dask"


def test_the_engine_is_listed_and_never_guessed() -> None:
    assert isinstance(list_engines()[ENGINE], H5daskBackend)
    assert guess_engine(example_file("ann")) != ENGINE
    assert not H5daskBackend().guess_can_open(example_file("ann"))


@pytest.mark.parametrize("layout", NAMES)
def test_without_chunks_everything_is_lazily_indexed(layout: str) -> None:
    with xr.open_dataset(example_file(layout), engine=ENGINE) as ds:
        assert ds.chunks == {}
        lazy = [name for name in ds.data_vars if not ds[name].variable._in_memory]
        assert lazy == list(ds.data_vars)
        xr.testing.assert_equal(ds.load(), example(layout))


@pytest.mark.parametrize("layout", NAMES)
def test_empty_chunks_are_ours(layout: str) -> None:
    ours = h5dask.open_dataset(example_file(layout))
    with xr.open_dataset(example_file(layout), engine=ENGINE, chunks={}) as ds:
        assert ds.chunks == ours.chunks
        xr.testing.assert_identical(ds.compute(), ours.compute())
        for name, x in ds.data_vars.items():
            assert isinstance(x.data, da.Array)
            assert name in x.data.name


@pytest.mark.filterwarnings("ignore:The specified chunks separate:UserWarning")
def test_chunks_of_any_kind() -> None:
    for chunks in ("auto", 3, {"vector": 7}, {"vector": (10, 20)}):
        with xr.open_dataset(example_file("ann"), engine=ENGINE, chunks=chunks) as ds:
            assert ds.chunks
            xr.testing.assert_equal(ds.compute(), example("ann"))


def test_orthogonal_and_vectorized_selection_before_loading() -> None:
    expected = example("ann")
    ds = xr.open_dataset(example_file("ann"), engine=ENGINE)
    for keys in (
        {"vector": 3},
        {"vector": slice(20, 2, -5), "feature": [2, 0]},
        {"vector": [7, 7, 1], "feature": slice(1, None)},
        {"vector": xr.DataArray([1, 29], dims="p"), "feature": xr.DataArray([3, 0], dims="p")},
        {"vector": []},
    ):
        xr.testing.assert_equal(ds.train.isel(keys).load(), expected.train.isel(keys))
    mask = expected.train_labels == 1
    xr.testing.assert_equal(ds.train[mask.values].load(), expected.train[mask.values])


def test_variables_left_out_and_groups() -> None:
    path = example_file("activations")
    with xr.open_dataset(path, engine=ENGINE, drop_variables=["logits", "prompts"]) as ds:
        assert not {"logits", "prompts"} & set(ds)
    with xr.open_dataset(path, engine=ENGINE, drop_variables="logits") as ds:
        assert "logits" not in ds
    with xr.open_dataset(path, engine=ENGINE, group="scenarios/base") as ds:
        assert set(ds.scenario.values) == {"base"}
    with xr.open_dataset(path, engine=ENGINE, layout="activations") as ds:
        assert ds.sizes["record"] == 7


def test_labels_select_without_dask() -> None:
    with xr.open_dataset(example_file("proteins"), engine=ENGINE) as ds:
        part = ds.sel(structure=7, sample=0)
        assert not part.logits.variable._in_memory
        expected = example("proteins").sel(structure=7, sample=0)
        assert np.array_equal(part.logits, expected.logits)


@pytest.mark.parametrize("layout", ["activations", "proteins"])
def test_a_tree(layout: str) -> None:
    path = example_file(layout)
    ours = h5dask.open_datatree(path)
    for chunks in (None, {}):
        with xr.open_datatree(path, engine=ENGINE, chunks=chunks) as tree:
            xr.testing.assert_equal(tree.compute(), ours.compute())
    name = next(iter(ours.children))
    with xr.open_datatree(path, engine=ENGINE, drop_variables="logits") as tree:
        assert "logits" not in tree[name].dataset
    groups = xr.open_groups(path, engine=ENGINE)
    assert list(groups) == [f"/{child}" for child in ours.children]


def test_one_group_of_a_tree() -> None:
    path = example_file("proteins")
    with xr.open_datatree(path, engine=ENGINE, group="structure_7") as tree:
        assert list(tree.children) == ["structure_7"]
    with xr.open_datatree(path, engine=ENGINE, group="/") as tree:
        assert list(tree.children) == ["structure_3", "structure_7"]
    with pytest.raises(NotFound, match="no group 'structure_9'"):
        xr.open_datatree(path, engine=ENGINE, group="structure_9")


def test_a_layout_without_groups_is_a_tree_of_one_node() -> None:
    with xr.open_datatree(example_file("ann"), engine=ENGINE) as tree:
        assert list(tree.children) == []
        xr.testing.assert_equal(tree.to_dataset().load(), example("ann"))


def test_several_files(tmp_path: Path) -> None:
    path = example_file("episodes")
    with xr.open_mfdataset(
        [path, path], engine=ENGINE, combine="nested", concat_dim="episode"
    ) as ds:
        assert ds.sizes["episode"] == 12
        assert np.array_equal(ds.embeddings[6:], example("episodes").embeddings)


def test_files_and_objects() -> None:
    path = example_file("ann")
    with open(path, "rb") as file:
        xr.testing.assert_equal(xr.load_dataset(file, engine=ENGINE), example("ann"))
    with pytest.raises(NotFound, match=r"nowhere\.h5: no such file"):
        xr.open_dataset("/nowhere.h5", engine=ENGINE)
    with pytest.raises(LayoutError, match="no layout is recognised"):
        xr.open_dataset(_other(path), engine=ENGINE)


def _other(path: str) -> str:
    other = str(Path(path).with_name("other.nc"))
    xr.Dataset({"x": ("y", [1.0])}).to_netcdf(other, engine="h5netcdf")
    return other


def test_dtype_and_shape_are_known_without_reading() -> None:
    with xr.open_dataset(example_file("ann"), engine=ENGINE) as ds:
        found = ds.train.variable._data
        while not isinstance(found, StoredArray):
            found = found.array
        assert (found.shape, found.dtype) == ((30, 4), np.float32)
