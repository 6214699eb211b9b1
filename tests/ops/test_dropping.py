"""Datasets without their bad rows: what is left is aligned, and can be written and opened."""

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import h5dask
from h5dask.errors import Refused
from h5dask.indexes import Labels, RaggedIndex
from h5dask.ops.dropping import drop_bad_rows, rows_to_drop
from h5dask.ops.scanning import scan
from h5dask.testing import example_file, refuse_to_compute
from tests.labelled import OWNER, RAGGED, labelled, ragged

PREFILLED = "matching_few_shot_prefilled"


def with_nan(ds, name, row):
    """Return a Dataset with one NaN in a row of a variable."""
    variable = ds[name]
    hit = xr.DataArray(np.arange(variable.shape[0]) == row, dims=variable.dims[0])
    return ds.assign({name: variable.where(~hit, np.nan).astype(variable.dtype)})


def written(ds, folder):
    """Return what is opened of a Dataset that was written."""
    path = str(folder / "left.h5")
    h5dask.write_dataset(ds, path)
    assert h5dask.validate(path, values=True) == ()
    return h5dask.open_dataset(path).compute()


def test_activations(tmp_path):
    ds = h5dask.open_dataset(example_file("activations"))
    scenario, sample = ds.scenario.values, ds["sample"].values
    row = int(np.flatnonzero((scenario == PREFILLED) & (ds.branch.values == "matching"))[1])
    left = drop_bad_rows(with_nan(ds, "activations", row))
    kept = np.flatnonzero((scenario != scenario[row]) | (sample != sample[row]))
    assert len(kept) == ds.sizes["record"] - 2  # of both branches
    assert left.sizes == {**ds.sizes, "record": len(kept)}
    xr.testing.assert_identical(left.compute(), ds.isel(record=kept).compute())
    assert left.sel(scenario=PREFILLED, branch="nonmatching").sizes["record"] == 1
    again = written(left, tmp_path)
    for name in ds.data_vars:
        np.testing.assert_array_equal(again[name], ds[name].values[kept])


def test_a_bad_record_alone(tmp_path):
    ds = h5dask.open_dataset(example_file("activations"))
    base = np.flatnonzero(ds.scenario.values == "base")
    left = drop_bad_rows(with_nan(ds, "logits", int(base[0])))
    assert left.sizes["record"] == ds.sizes["record"] - 1
    assert (left.scenario.values == "base").sum() == len(base) - 1
    assert written(left, tmp_path).sizes == left.sizes


def test_proteins(tmp_path):
    ds = h5dask.open_dataset(example_file("proteins"))
    index = ds.xindexes["structure"]
    residue = int(index.offsets[5]) + 1
    left = drop_bad_rows(with_nan(ds, "logits", residue))
    same = (ds.structure.values != ds.structure.values[5]) | (
        ds["sample"].values != ds["sample"].values[5]
    )
    kept = np.flatnonzero(same)
    owned = np.flatnonzero(np.repeat(same, ds.row_size.values))
    assert len(kept) == 6  # a sample of both noises
    assert left.encoding["h5dask"] == ds.encoding["h5dask"]
    assert isinstance(left.xindexes["structure"], RaggedIndex)
    for name in ("sequences", "logits"):
        np.testing.assert_array_equal(left[name], ds[name].values[owned])
    number = int(ds.structure.values[5])
    assert left.sel(structure=number).sizes["residue"] == 12
    again = written(left, tmp_path)
    assert again.sizes == left.sizes
    np.testing.assert_array_equal(again.logits, ds.logits.values[owned])


def test_a_sequence_alone():
    ds = with_nan(h5dask.open_dataset(example_file("proteins")), "logits", 7)
    left = drop_bad_rows(ds, across=())
    assert (left.sizes["sequence"], left.sizes["residue"]) == (7, 39)
    np.testing.assert_array_equal(left.noise, np.delete(ds.noise.values, 1))


def test_episodes(tmp_path):
    ds = h5dask.open_dataset(example_file("episodes"))
    ids = ds.episode_ids.values.copy()
    ids[4] = ids[0]
    bad = with_nan(ds, "embeddings", 1).assign_coords(episode_ids=("episode", ids))
    zero = xr.DataArray(np.arange(6) == 5, dims="episode")
    bad = bad.assign(embeddings=bad.embeddings.where(~zero, 0))
    left = drop_bad_rows(bad)
    kept = [0, 2, 3]
    again = written(left, tmp_path)
    for name in ds.variables:
        np.testing.assert_array_equal(again[name], ds[name].values[kept])


def test_vectors_and_queries(tmp_path):
    ds = h5dask.open_dataset(example_file("ann"))
    left = drop_bad_rows(with_nan(with_nan(ds, "train", 3), "test", 0))
    assert left.sizes == {**ds.sizes, "vector": 29, "query": 4}
    np.testing.assert_array_equal(left.train, np.delete(ds.train.values, 3, axis=0))
    np.testing.assert_array_equal(left.neighbors, ds.neighbors.values[1:])
    np.testing.assert_array_equal(left.test_labels, ds.test_labels.values[1:])


@pytest.mark.parametrize("layout", ["activations", "proteins", "ann", "episodes"])
def test_nothing_is_dropped_of_what_is_sound(layout):
    ds = h5dask.open_dataset(example_file(layout))
    found = scan(ds).compute()
    with dask.config.set(scheduler=refuse_to_compute):
        left = drop_bad_rows(ds, found)
    xr.testing.assert_identical(left.compute(), ds.compute())
    assert list(left.xindexes) == list(ds.xindexes)
    assert left.encoding == ds.encoding


def test_only_masks_are_computed():
    ds = with_nan(h5dask.open_dataset(example_file("activations")), "activations", 1)
    found = scan(ds).compute()
    with dask.config.set(scheduler=refuse_to_compute):
        left = drop_bad_rows(ds, found)
    assert left.attrs == ds.attrs
    assert left.encoding["h5dask"] == ds.encoding["h5dask"]
    xr.testing.assert_identical(left.compute(), drop_bad_rows(ds).compute())


def test_kinds_that_were_ignored_stay():
    ds = with_nan(labelled(), "activations", 0)
    assert drop_bad_rows(ds, across=()).sizes["record"] == 5
    assert drop_bad_rows(ds, scan(ds, ignore=["nan"])).sizes["record"] == 6


def test_of_rows_that_are_there_twice_the_first_of_each_branch_is_kept():
    labels = {"branch": ["m", "n", "m", "n", "m"], "sample": [0, 0, 0, 0, 1]}
    x = ("record", [1.0, 2.0, 3.0, 4.0, 5.0])
    ds = xr.Dataset({"x": x}, xr.Coordinates.from_xindex(Labels("record", labels)))
    assert drop_bad_rows(ds).x.values.tolist() == [1, 2, 5]
    once = ds.isel(record=[0, 1, 2, 4])
    assert drop_bad_rows(once).x.values.tolist() == [1, 2, 5]
    assert drop_bad_rows(with_nan(ds, "x", 0)).x.values.tolist() == [5]


def test_branches_without_other_labels_have_nothing_in_common():
    index = Labels("record", {"branch": ["m", "n"]})
    ds = xr.Dataset({"x": ("record", [1.0, np.nan])}, xr.Coordinates.from_xindex(index))
    assert drop_bad_rows(ds).x.values.tolist() == [1]


def test_ragged_rows_and_what_they_own():
    ds = ragged().isel(sequence=[1, 2, 3], residue=slice(2, None))
    sizes = {"structure": [17, 3, 5], "row_size": [2, 5, 1]}
    ds = ds.drop_vars(RAGGED).assign_coords(
        xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", 8, sizes))
    )
    ds.structure.attrs["long_name"] = "its number"
    left = drop_bad_rows(with_nan(ds, "logits", 4))
    assert left.structure.values.tolist() == [17, 5]
    np.testing.assert_array_equal(left.logits, ds.logits.values[[0, 1, 7]])
    assert left.structure.attrs == ds.structure.attrs
    left = drop_bad_rows(with_nan(ds, "pseudo_perplexity", 0))
    np.testing.assert_array_equal(left.logits, ds.logits.values[2:])
    np.testing.assert_array_equal(left.pseudo_perplexity, [2, 3])
    xr.testing.assert_identical(left.sel(structure=5), ds.sel(structure=5))


def test_ragged_rows_that_own_nothing():
    sizes = {"structure": [1, 2, 2, 3], "row_size": [0, 2, 0, 1]}
    ds = xr.Dataset(
        {"x": ("residue", [1.0, np.nan, 3.0])},
        xr.Coordinates.from_xindex(RaggedIndex("sequence", "residue", 3, sizes)),
    )
    rows = rows_to_drop(ds, scan(ds))
    # The second is bad by what it owns, the third by its label.
    assert rows["sequence"].tolist() == [False, True, True, False]
    assert rows["residue"].tolist() == [True, True, False]
    left = drop_bad_rows(ds, scan(ds, ignore=["nan"]))
    assert left.sizes == {"residue": 3, "sequence": 3}
    assert isinstance(left.xindexes["structure"], RaggedIndex)


def test_ragged_rows_without_what_they_own():
    ds = with_nan(ragged().drop_vars("logits"), "pseudo_perplexity", 2)
    left = drop_bad_rows(ds, scan(ds, ignore=["duplicates"]))
    assert left.pseudo_perplexity.values.tolist() == [0, 1, 3]
    assert isinstance(left.xindexes["structure"], RaggedIndex)
    assert left.row_size.values.tolist() == [2, 2, 1]


def test_everything_may_be_bad():
    ds = with_nan(h5dask.open_dataset(example_file("episodes")).isel(episode=[0]), "embeddings", 0)
    left = drop_bad_rows(ds)
    assert left.sizes == {"episode": 0, "feature": 8}
    assert left.compute().embeddings.shape == (0, 8)


@given(st.lists(st.integers(0, 9), max_size=4), st.sets(st.sampled_from(["branch", "noise"])))
def test_what_is_left_is_sound(residues, across):
    ds = ragged().drop_indexes(RAGGED).drop_vars(RAGGED)
    labels = {"structure": [1, 1, 2, 2], "noise": [0, 1, 0, 1], "row_size": [2, 2, 5, 1]}
    index = RaggedIndex("sequence", "residue", 10, labels)
    ds = ds.assign_coords(xr.Coordinates.from_xindex(index))
    for residue in residues:
        ds = with_nan(ds, "logits", residue)
    left = drop_bad_rows(ds, across=across)
    assert not scan(left).nonfinite.any()
    lost = set(OWNER[residues])
    structures = np.array(labels["structure"])
    if "noise" in across:
        lost = set(np.flatnonzero(np.isin(structures, structures[list(lost)])))
    kept = [row for row in range(4) if row not in lost]
    np.testing.assert_array_equal(left.pseudo_perplexity, kept)
    np.testing.assert_array_equal(left.logits, ds.logits.values[np.isin(OWNER, kept)])


def test_what_was_found_in_another_dataset():
    ds = labelled()
    with pytest.raises(Refused, match=r"found: found bad_record of shape \(5,\); expected .*6"):
        drop_bad_rows(ds, scan(ds.isel(record=slice(5))))
    with pytest.raises(Refused, match=r"found: found bad_record of shape \(\); expected"):
        drop_bad_rows(ds, scan(ragged()))


def test_sizes_that_do_not_add_up():
    with pytest.raises(Refused, match=r"row_size: found sizes of sum 10, but residue has .* 4;"):
        drop_bad_rows(ragged().isel(residue=slice(4)))
