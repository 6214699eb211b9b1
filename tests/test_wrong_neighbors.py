"""What verify found, in a sentence, a table and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from h5dask.telling.wrong_neighbors import as_json, differences, sentence, shown
from h5dask.testing import example
from h5dask.truth.verifying import verify


@pytest.fixture
def ds() -> xr.Dataset:
    return example("ann").load()


def test_what_is_right_is_one_sentence(ds: xr.Dataset) -> None:
    assert sentence(verify(ds)) == "All 5 queries right; distances are euclidean"
    assert sentence(verify(ds, sample=1)).startswith("All 1 sampled query right; ")


def test_ties_are_told(ds: xr.Dataset) -> None:
    train = ds.train.values
    ids = ds.neighbors.values[2]
    ids[:2] = np.sort(ids[:2])
    train[ids[1]] = train[ids[0]]
    first = float(np.sqrt(((train[ids[0]].astype("f8") - ds.test.values[2]) ** 2).sum()))
    ds.distances[2, :2] = first
    swapped = ds.neighbors.values.copy()
    swapped[2, :2] = ids[:2][::-1]
    told = sentence(verify(ds.assign(neighbors=(ds.neighbors.dims, swapped))))
    assert "2 neighbors tied within float32 rounding" in told


def test_what_is_wrong_is_counted_and_listed(ds: xr.Dataset) -> None:
    right = ds.neighbors.values.copy()
    exact = ds.distances.values.copy()
    ds.neighbors[1, 2] = -1
    ds.neighbors[3, :2] = ds.neighbors.values[3, 1::-1]
    found = verify(ds)
    assert sentence(found) == (
        "2 of 5 queries wrong: 2 neighbors misplaced, 1 out of range, 2 with a wrong distance; "
        "distances are euclidean"
    )
    table = differences(found)
    assert table["query"].tolist() == [1, 3, 3]
    assert table["place"].tolist() == [2, 0, 1]
    assert table["id"].tolist() == [-1, right[3, 1], right[3, 0]]
    assert table["right id"].tolist() == [right[1, 2], right[3, 0], right[3, 1]]
    np.testing.assert_allclose(table["exact"], [np.nan, exact[3, 1], exact[3, 0]], rtol=1e-6)
    assert table["wrong"].tolist() == ["out of range"] + ["misplaced, with a wrong distance"] * 2
    text = shown(table)
    assert text["exact"][0] == ""
    assert np.float32(text["distance"][1]) == exact[3, 0]


def test_the_row_of_a_sample_is_that_of_the_file(ds: xr.Dataset) -> None:
    ds.neighbors[4, 2] = -1
    found = verify(ds, sample=3, seed=0)
    rows = found["query"].values
    assert differences(found)["query"].tolist() == [4] * (4 in rows)
    assert len(differences(verify(ds, sample=5))) == 1


def test_another_convention_is_told_with_all_neighbors(ds: xr.Dataset) -> None:
    found = verify(ds.assign(distances=ds.distances**2))
    assert sentence(found) == (
        "Neighbors of 5 queries right; distances are squared euclidean, not euclidean"
    )
    table = differences(found)
    assert len(table) == ds.neighbors.size
    assert set(table["wrong"]) == {"convention"}
    np.testing.assert_allclose(table["distance"], table["exact"] ** 2, rtol=1e-6)


def test_labels_of_too_few_are_told(ds: xr.Dataset) -> None:
    found = verify(ds.assign(test_labels=ds.test_labels + 50))
    assert "5 have fewer than 3 base vectors of their label" in sentence(found)
    assert sentence(found).startswith("5 of 5 queries wrong: 15 neighbors of another label")


def test_json_holds_counts_and_the_first(ds: xr.Dataset) -> None:
    ds.neighbors[1, 2] = -1
    ds.distances[0, 2] = np.inf
    told = as_json(verify(ds))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["right"] is False
    assert told["neighbors"]["out_of_range"] == 1
    assert told["largest_deviation"] is None
    assert [row["query"] for row in told["first"]] == [0, 1]
    assert told["first"][1]["exact"] is None
    assert as_json(verify(example("ann")))["first"] == []
