"""Described files -> one Dataset: which dims, labels and blocks, and what is read for a block."""

from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Refused
from h5dask.storage.array import StoredArray
from h5dask.testing import example, example_file
from tests.files import LAYOUTS, activations, proteins
from tests.files.variant import Variant, read
from tests.rewriting import WIDE, with_base

VARIANTS = [
    pytest.param(layout, variant, id=f"{layout}-{name}")
    for layout, module in LAYOUTS.items()
    for name, variant in module.VARIANTS.items()
]


def rows_of(values: Any, n_trailing: int) -> Any:
    """Lay the leading axes of a stored array end to end."""
    return values.reshape(-1, *values.shape[values.ndim - n_trailing :])


@pytest.mark.parametrize("name", activations.VARIANTS)
def test_scenarios_lie_in_their_listed_order_then_branch_then_sample(
    name: str, tmp_path: Path
) -> None:
    arrays = activations.VARIANTS[name].write(tmp_path / "a.h5")
    ds = h5dask.open_dataset(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as f:
        scenarios = list(f["scenarios"])
    at = 0
    for scenario in scenarios:
        folder = f"scenarios/{scenario}/data"
        for branch in ("", "matching", "nonmatching"):
            held = f"{folder}/prefilled/{branch}" if branch else folder
            held = held if f"{held}/logits" in arrays else f"{folder}/prefilled_{branch}"
            logits = arrays.get(f"{held}/logits", np.empty((0, 1)))
            part = ds.isel(record=slice(at, at + len(logits)))
            at += len(logits)
            if not len(logits):
                continue
            assert part.logits.values.tobytes() == logits.astype(part.logits.dtype).tobytes()
            assert set(part.scenario.values) == {scenario}
            assert set(part.branch.values) == {branch}
            assert part.sample.values.tolist() == list(range(len(logits)))
            text = arrays[f"scenarios/{scenario}/text/matching_answers"]
            assert part.matching_answers.values.tolist() == text.tolist()
    assert at == ds.sizes["record"]


@pytest.mark.parametrize("name", proteins.VARIANTS)
def test_structures_lie_by_their_numbers_each_in_c_order(name: str, tmp_path: Path) -> None:
    arrays = proteins.VARIANTS[name].write(tmp_path / "a.h5")
    ds = h5dask.open_dataset(tmp_path / "a.h5")
    keys = [path.partition("/")[0] for path in arrays if path.endswith("/sequences")]
    keys = sorted(keys, key=lambda key: int(key.removeprefix("structure_"))) or [""]
    for variable, n_trailing in (("sequences", 0), ("logits", 1), ("pseudo_perplexity", 0)):
        held = [arrays.get(f"{key}/{variable}".strip("/")) for key in keys]
        if variable in ds:
            expected = np.concatenate([rows_of(x, n_trailing) for x in held if x is not None])
            assert np.array_equal(ds[variable], expected, equal_nan=variable != "sequences")
        else:
            assert held == [None] * len(keys)
    sequences = [arrays[f"{key}/sequences".strip("/")] for key in keys]
    sizes = [n for x in sequences for n in [x.shape[-1]] * int(np.prod(x.shape[:-1]))]
    assert ds.row_size.values.tolist() == sizes
    cells = zip(
        *(ds[n].values.tolist() for n in ds.row_size.coords if n != "row_size"), strict=True
    )
    assert len(set(cells)) == ds.sizes["sequence"]


@pytest.mark.parametrize(("layout", "variant"), VARIANTS)
def test_every_dataset_of_the_layout_is_in_a_variable(
    layout: str, variant: Variant, tmp_path: Path
) -> None:
    variant.write(tmp_path / "a.h5")
    ds = h5dask.open_dataset(tmp_path / "a.h5")
    lazy = h5dask.open_dataset(tmp_path / "a.h5", chunks=None)
    for name in ds.variables:
        one, other = ds[name], lazy[name]
        assert one.dtype == other.dtype
        assert one.dtype.isnative
        assert one.dtype.kind not in "US" or one.dims == ("aa",)
        if one.dtype.kind in "iufb":
            assert one.values.tobytes() == other.values.tobytes()
    assert ds.encoding["source"] == str(tmp_path / "a.h5")
    assert set(ds.chunks) <= set(ds.dims)
    for x in ds.data_vars.values():
        assert "chunks" not in x.encoding  # it would break to_zarr


@settings(max_examples=30)
@given(st.data())
def test_any_selection_equals_numpy(draw: st.DataObject) -> None:
    layout = draw.draw(st.sampled_from(["activations", "ann", "episodes"]))
    chunks = draw.draw(st.sampled_from([None, {}, 2]))
    ds, expected = h5dask.open_dataset(example_file(layout), chunks=chunks), example(layout)
    name = draw.draw(st.sampled_from(sorted(map(str, expected.data_vars))))
    keys: dict[Any, Any] = {}
    for dim, n in expected[name].sizes.items():
        cut = st.slices(n)
        some = st.lists(st.integers(-n, n - 1), max_size=4)
        keys[dim] = draw.draw(st.one_of(cut, some, st.integers(-n, n - 1)))
    found = ds[name].isel(keys).values
    assert np.array_equal(found, expected[name].isel(keys).values)


def test_a_lane_is_read_alone(tmp_path: Path) -> None:
    activations.VARIANTS["several_layers"].write(tmp_path / "a.h5")
    arrays = read(tmp_path / "a.h5")
    ds = h5dask.open_dataset(tmp_path / "a.h5").sel(scenario="base")
    assert ds.layer.values.tolist() == [0, 3, 13, 31]
    for layer in (31, 3):
        stored = arrays[f"scenarios/base/data/activations_layer_{layer}"]
        assert np.array_equal(ds.activations.sel(layer=layer), stored)
    both = ds.activations.sel(layer=[31, 0])
    assert np.array_equal(both[:, 0], arrays["scenarios/base/data/activations_layer_31"])


def test_blocks_of_about_the_configured_size(tmp_path: Path) -> None:
    path = with_base(tmp_path / "a.h5", WIDE)
    with dask.config.set({"h5dask.block-size": "2.4kB"}):
        ds = h5dask.open_dataset(path)
    assert ds.chunks["vector"] == (100,) * 10
    assert h5dask.open_dataset(path).chunks["vector"] == (1000,)
    assert h5dask.open_dataset(path, chunks="4800B").chunks["vector"] == (200,) * 5


def test_stored_chunks(tmp_path: Path) -> None:
    path = with_base(tmp_path / "a.h5", WIDE, chunks=(300, 2))
    assert h5dask.open_dataset(path, chunks={}).chunks["vector"] == (300, 300, 300, 100)
    lazy = h5dask.open_dataset(path, chunks=None)
    assert lazy.train.encoding["preferred_chunks"]["vector"] == (1000,)


def test_blocks_end_where_datasets_end() -> None:
    with dask.config.set({"h5dask.block-size": 500}):
        ds = h5dask.open_dataset(example_file("activations"))
    ends = np.cumsum(ds.chunks["record"]).tolist()
    assert set(ends) <= {3, 5, 7}
    assert len(ends) > 1


def test_small_groups_share_blocks_and_text_counts_as_measured(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for number in range(400):
            proteins.structure(f, number, (1, 1, 50))
    ds = h5dask.open_dataset(tmp_path / "a.h5")
    assert ds.chunks["residue"] == (20_000,)
    with dask.config.set({"h5dask.block-size": 50 * 21 * 4 * 100}):
        ds = h5dask.open_dataset(tmp_path / "a.h5")
    assert ds.chunks["residue"] == (5000,) * 4
    long = example("episodes").assign(metadata_task=("episode", np.array(["x" * 5000] * 6, object)))
    h5dask.write_dataset(long, tmp_path / "b.h5")
    with dask.config.set({"h5dask.block-size": 10_500}):
        assert h5dask.open_dataset(tmp_path / "b.h5").chunks["episode"] == (2, 2, 2)


def test_wide_rows_are_cut_into_columns(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["embeddings"] = np.arange(8000, dtype="f4").reshape(2, 4000)
        f["episode_ids"] = ["a", "b"]
    with dask.config.set({"h5dask.block-size": 1600}):
        ds = h5dask.open_dataset(tmp_path / "a.h5")
    assert ds.chunks == {"episode": (1, 1), "feature": (400,) * 10}
    assert np.array_equal(ds.embeddings, np.arange(8000).reshape(2, 4000))


@pytest.mark.parametrize("size", ["much", "16 stones"])
def test_a_size_of_blocks_that_is_none(size: str) -> None:
    with pytest.raises(Refused, match=f"{size}.* is no size of blocks"):
        h5dask.open_dataset(example_file("ann"), chunks=size)
    with dask.config.set({"h5dask.block-size": size}), pytest.raises(Refused, match="is no size"):
        h5dask.open_dataset(example_file("ann"))


def test_attributes_of_any_string_type_are_text(tmp_path: Path) -> None:
    LAYOUTS["ann"].VARIANTS["fixed_length_attributes"].write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as f:
        f.attrs["words"] = np.array([b"a", b"bc"])
        f.attrs["none"] = h5py.Empty("f4")
    ds = h5dask.open_dataset(tmp_path / "a.h5")
    assert ds.attrs["distance"] == "angular"
    assert ds.attrs["words"].tolist() == ["a", "bc"]
    assert "none" not in ds.attrs
    xr.testing.assert_identical(ds.compute(), h5dask.open_dataset(tmp_path / "a.h5").compute())


def test_a_variable_is_one_array_however_many_datasets_it_has() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    graph = ds.activations.data.__dask_graph__()
    held = [x for x in dict(graph).values() if isinstance(x, StoredArray)]
    assert len(held) <= 1
    assert len(dict(graph)) <= 3


@pytest.mark.soak
def test_many_groups_make_few_tasks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for number in range(20_000):
            proteins.structure(f, number, (1, 1, 5))
    ds = h5dask.open_dataset(tmp_path / "a.h5")
    assert sum(x.data.npartitions for x in ds.data_vars.values()) <= 400
