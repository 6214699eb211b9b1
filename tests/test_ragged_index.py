"""`RaggedIndex` through xarray: rows and what they own are cut together, or not at all."""

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import LayoutError, Refused
from h5dask.indexes import Labels, RaggedIndex
from h5dask.ops.ragged import ragged_of, take
from tests.labelled import STRUCTURE, ragged


@given(st.data())
def test_it_equals_a_boolean_mask_in_both_dims(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
    sizes = [data.draw(st.integers(0, 3)) for _ in names]
    owners = np.repeat(names, sizes)
    index = RaggedIndex("row", "item", len(owners), {"name": names, "row_size": sizes})
    ds = xr.Dataset({"x": ("item", np.arange(len(owners)))}, xr.Coordinates.from_xindex(index))
    asked = data.draw(st.lists(st.sampled_from(names), unique=True))
    found = ds.sel(name=asked)
    assert found.name.values.tolist() == [name for name in names if name in asked]
    assert found.x.values.tolist() == np.flatnonzero(np.isin(owners, asked)).tolist()
    again = found.sel(row_size=slice(2, None)) if len(found.name) else found
    assert again.row_size.sum() == again.sizes["item"]


def test_sel_again_and_beside_another_dim() -> None:
    ds = ragged().assign_coords(aa=["A", "C"])
    found = ds.sel(structure=[17, 5], aa="C").sel(structure=5)
    assert found.logits.values.tolist() == [19.0]
    assert found.row_size.values.tolist() == [1]


def test_consecutive_rows_cut_a_slice_and_others_an_array() -> None:
    index = ragged().xindexes["structure"]
    assert isinstance(index.sel({"structure": 3}).dim_indexers["residue"], slice)
    cut = index.sel({"structure": [17, 5]}).dim_indexers["residue"]
    assert cut.dtype == np.int64
    assert cut.tolist() == [0, 1, 2, 3, 9]


def test_unknown_labels_are_named() -> None:
    with pytest.raises(KeyError, match="structure: no row has the label 4; found 17, 3, 5"):
        ragged().sel(structure=4)


def test_rows_cut_by_position_lose_the_index_and_keep_the_coords() -> None:
    ds = ragged().isel(sequence=slice(0, 2))
    assert not ds.xindexes
    assert ds.row_size.sum() != ds.sizes["residue"]


@given(st.data())
def test_rows_are_taken_with_what_they_own(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
    n = len(sizes)
    index = RaggedIndex("row", "item", None, {"name": np.arange(n), "row_size": sizes})
    ds = xr.Dataset(
        {"x": ("item", np.repeat(np.arange(n), sizes)), "y": ("row", np.arange(n))},
        xr.Coordinates.from_xindex(index),
    )
    rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=9))
    wanted = np.arange(n)[np.array(rows, int)]
    found = take(ds, rows)
    assert found.y.values.tolist() == found.name.values.tolist() == wanted.tolist()
    assert found.x.values.tolist() == [k for k in wanted for _ in range(sizes[k])]
    assert ragged_of(found).size == found.sizes["item"]
    mask = np.isin(np.arange(n), wanted)
    xr.testing.assert_identical(take(ds, mask), ds.sel(name=np.unique(wanted)))


def test_taking_reads_nothing_and_keeps_what_is_told(no_compute: None) -> None:
    ds = ragged().chunk()
    ds.structure.attrs["long_name"] = "number"
    ds.encoding["source"] = "a.h5"
    found = take(ds, [3, 0])
    assert found.logits.chunks is not None
    assert found.structure.attrs == {"long_name": "number"}
    assert found.encoding["source"] == "a.h5"
    assert found.sel(structure=5).sizes["residue"] == 1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [0, 4],
            "found int64 of shape (2,) from 0 to 4; expected positions from -4 to 3 along seq",
        ),
        (
            [True],
            "found bool of shape (1,); expected positions from -4 to 3 along sequence, or a m",
        ),
        ([0.5], "found float64 of shape (1,); expected"),
        (2, "found int64 of shape (); expected"),
        (xr.DataArray([1], dims="residue"), "found int64 of shape (1,) along residue; expected"),
    ],
)
def test_what_are_no_rows(rows: Any, told: str) -> None:
    with pytest.raises(Refused, match=f"^rows: {re.escape(told)}"):
        take(ragged(), rows)


def test_taking_needs_all_that_rows_own() -> None:
    with pytest.raises(Refused, match=r"the Dataset: found none; .* or by position \(take\)"):
        take(ragged().isel(sequence=[0]), [0])
    with pytest.raises(Refused, match=r"has the length 3; select rows by label"):
        take(ragged().isel(residue=slice(3)), [0])


def test_an_index_shown_both_cuts_stays_where_they_agree() -> None:
    index = ragged().xindexes["structure"]
    cut = index.isel({"sequence": [0, 3], "residue": [0, 1, 9]})
    assert isinstance(cut, RaggedIndex)
    assert (cut.size, cut.table["structure"].values.tolist()) == (3, [17, 5])
    assert index.isel({"sequence": [0, 3], "residue": [0, 1, 8]}) is None
    assert index.isel({"sequence": slice(None)}).equals(index)
    assert index.isel({"sequence": 0}) is None


def test_residues_cut_by_position_never_look_right_again() -> None:
    ds = ragged().isel(residue=slice(1, None))
    for structure in STRUCTURE:
        found = ds.sel(structure=structure)
        assert found.row_size.sum() == found.sizes["residue"] + 1


def test_what_has_no_residues_is_selected_by_rows() -> None:
    ds = ragged()
    assert ds.pseudo_perplexity.sel(structure=17).values.tolist() == [0.0, 1.0]
    assert ds[["pseudo_perplexity"]].sel(structure=3).pseudo_perplexity == 2.0
    both = ds.pseudo_perplexity.set_xindex(["structure"], Labels)
    assert both.sel(structure=[3, 17]).values.tolist() == [0.0, 1.0, 2.0]
    assert ds.pseudo_perplexity.groupby("structure").mean().values.tolist() == [2.0, 3.0, 0.5]
    doubled = ds.assign(pseudo_perplexity=2 * ds.pseudo_perplexity)
    assert doubled.xindexes["structure"].equals(ds.xindexes["structure"])


def test_arithmetic_of_equal_rows_only() -> None:
    ds = ragged()
    assert (ds + ds).logits.equals(2 * ds.logits)
    with pytest.raises(Refused, match=r"differ, and what they own .*structure: 17 and 17, 3, 5"):
        ds + ds.sel(structure=17)


def test_concat_lays_rows_end_to_end() -> None:
    ds = ragged()
    parts = [ds.sel(structure=label).xindexes["structure"] for label in (5, 17)]
    joined = RaggedIndex.concat(parts, "sequence")
    assert joined.table["row_size"].values.tolist() == [1, 2, 2]
    assert (joined.size, joined.ragged_dim) == (5, "residue")


def test_roll_and_rename() -> None:
    ds = ragged()
    assert not ds.roll(sequence=1, roll_coords=True).xindexes
    assert ds.roll(sequence=4, roll_coords=True).identical(ds)
    renamed = ds.rename(sequence="row", residue="item", row_size="n", structure="name")
    assert renamed.sel(name=3).sizes["item"] == 5
    assert not renamed.xindexes["name"].equals(ds.xindexes["structure"])


@pytest.mark.parametrize(
    ("size", "coords", "message"),
    [
        (9, {"row_size": [1, 2]}, "row_size: found sizes of sum 3, but item has the length 9"),
        (1, {"row_size": [-1, 2]}, "row_size: found int64 labels -1, 2; sizes must be"),
        (3, {"row_size": [1.0, 2.0]}, "row_size: found float64 labels 1.0, 2.0; sizes must"),
        (3, {"name": [1, 2]}, r"row: found coords \['name'\], among which 'row_size' must be"),
    ],
)
def test_sizes_that_do_not_fit(size: int, coords: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        RaggedIndex("row", "item", size, coords)
