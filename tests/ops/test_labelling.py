"""Labels become groups of rows: the same as numpy finds, whatever rows are asked for."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from h5dask.errors import Refused
from h5dask.indexes import Labels, RaggedIndex
from h5dask.ops.labelling import By, Labelling, labelling
from tests.labelled import BRANCH, SAMPLE, SCENARIO, STRUCTURE, labelled, ragged
from tests.made import text


def rows(found: Labelling, start: int, stop: int) -> list[int]:
    """Return the group of each row from start to stop."""
    lengths, codes = found.runs(start, stop)
    assert len(lengths) == len(codes)
    return np.repeat(codes, lengths).tolist()


def of(labels: Any, name: str = "kind") -> Labelling:
    x = xr.DataArray(np.zeros(len(labels)), dims="row", coords={name: ("row", labels)})
    return labelling(x, name, ["row"])


@given(st.lists(st.integers(-2, 2), max_size=20), st.data())
def test_any_rows_of_any_labels(labels: list[int], data: st.DataObject) -> None:
    found = of(np.array(labels, np.int32))
    names, codes = np.unique(np.array(labels, np.int32), return_inverse=True)
    assert np.array_equal(found.coords["kind"].values, names)
    assert found.n_groups == len(names)
    start, stop = sorted(data.draw(st.lists(st.integers(0, len(labels)), min_size=2, max_size=2)))
    assert rows(found, start, stop) == codes[start:stop].tolist()
    assert found.runs(start, stop)[0].sum() == stop - start
    assert len(found.codes) == np.count_nonzero(np.diff(codes)) + bool(labels)


@pytest.mark.parametrize(
    ("labels", "names", "codes"),
    [
        (text(["b", "", "b", "a"]), ["", "a", "b"], [2, 0, 2, 1]),
        (np.array(["b", "", "b", "a"]), ["", "a", "b"], [2, 0, 2, 1]),
        (np.array([b"y", b"x"]), [b"x", b"y"], [1, 0]),
        (np.array([True, False, True]), [False, True], [1, 0, 1]),
        (np.array([2.5, -1, 2.5], "f4"), [-1, 2.5], [1, 0, 1]),
        (np.array([2**63 + 1, 2**63, 2**63 + 1], "u8"), [2**63, 2**63 + 1], [1, 0, 1]),
        (np.array([3, 1, 3], ">i4"), [1, 3], [1, 0, 1]),
    ],
    ids=["text", "fixed text", "bytes", "bool", "float", "uint64", "big-endian"],
)
def test_labels_of_any_kind(labels: Any, names: list[Any], codes: list[int]) -> None:
    found = of(labels)
    assert found.coords["kind"].values.tolist() == names
    assert rows(found, 0, len(labels)) == codes


def test_times_stay_times() -> None:
    days = np.array(["2020-02-02", "2020-01-01", "2020-02-02"], "M8[s]")
    found = of(days)
    assert np.array_equal(found.coords["kind"].values, days[[1, 0]])
    assert rows(found, 0, 3) == [1, 0, 1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "labels",
    [
        np.array([np.nan, 2, 1, np.nan]),
        np.array([None, "b", "a", np.nan], object),
        np.array(["NaT", "2020-02-02", "2020-01-01", "NaT"], "M8[s]"),
    ],
    ids=["float", "text", "times"],
)
def test_rows_with_a_missing_label_belong_to_no_group(labels: Any) -> None:
    found = of(labels)
    assert found.n_groups == 2
    assert rows(found, 0, 4) == [-1, 1, 0, -1]
    assert rows(found, 3, 4) == [-1]


@pytest.mark.filterwarnings("error")
def test_where_every_label_is_missing_there_are_no_groups() -> None:
    found = of(np.full(3, np.nan))
    assert found.n_groups == 0
    assert rows(found, 0, 3) == [-1, -1, -1]


def test_several_coords_label_the_groups_that_there_are() -> None:
    found = labelling(labelled(), ["scenario", "branch"], ["record"])
    pairs = [*zip(SCENARIO, BRANCH, strict=True)]
    expected = sorted(set(pairs))
    assert found.group_dim == "group"
    made = [*zip(found.coords["scenario"].values, found.coords["branch"].values, strict=True)]
    assert made == expected
    assert rows(found, 0, 6) == [expected.index(pair) for pair in pairs]
    assert isinstance(found.coords.xindexes["scenario"], Labels)


@pytest.mark.filterwarnings("error")
def test_several_coords_one_of_which_is_missing() -> None:
    x = xr.Dataset(coords={"a": ("row", [1.0, np.nan, 1, 2]), "b": ("row", [5, 5, 6, 5])})
    found = labelling(x, ["a", "b"], ["row"])
    assert found.n_groups == 3
    assert rows(found, 0, 4) == [0, -1, 1, 2]


def test_a_list_of_one_names_the_dim() -> None:
    found = labelling(labelled(), ["sample"], ["record", "layer"])
    assert found.group_dim == "sample"
    assert found.dim == "record"
    assert rows(found, 0, 6) == SAMPLE.tolist()


def test_owners_label_what_they_own() -> None:
    found = labelling(ragged(), "structure", ["residue"])
    assert found.dim == "residue"
    assert found.coords["structure"].values.tolist() == sorted({*STRUCTURE})
    assert rows(found, 0, 10) == [2, 2, 2, 2, 0, 0, 0, 0, 0, 1]
    assert rows(found, 3, 5) == [2, 0]
    assert len(found.codes) == 3
    assert rows(labelling(ragged(), "row_size", ["residue", "aa"]), 0, 10) == [1] * 4 + [2] * 5 + [
        0
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_owners_of_nothing(owners: list[tuple[int, int]]) -> None:
    names, sizes = map(np.array, zip(*owners, strict=True))
    n = int(sizes.sum())
    index = RaggedIndex("row", "item", n, {"name": names, "row_size": sizes})
    ds = xr.Dataset({"x": ("item", np.zeros(n))}, xr.Coordinates.from_xindex(index))
    found = labelling(ds, "name", ["item"])
    expected = np.repeat(np.unique(names, return_inverse=True)[1], sizes)
    for start in range(n + 1):
        assert rows(found, start, n) == expected[start:].tolist()
        assert rows(found, 0, start) == expected[:start].tolist()


def test_labels_given_as_an_array_or_found_among_the_variables() -> None:
    ds = xr.Dataset(
        {"x": ("row", np.zeros(3)), "kind": ("row", da.from_array([7, 5, 7], chunks=1))}
    )
    labels = xr.DataArray([1, 0, 1], dims="row", name="own")
    assert rows(labelling(ds, "kind", ["row"]), 0, 3) == [1, 0, 1]
    assert rows(labelling(ds.x, ds.kind, ["row"]), 0, 3) == [1, 0, 1]
    both = labelling(ds, ["kind", labels], ["row"])
    assert set(both.coords) == {"kind", "own"}
    assert rows(both, 0, 3) == [1, 0, 1]


ROWS = xr.Dataset(
    {"x": (("row", "col"), np.zeros((3, 2)))},
    {
        "kind": ("row", [1, 1, 2]),
        "word": ("col", ["a", "b"]),
        "table": (("row", "col"), np.eye(3, 2)),
    },
)


@pytest.mark.parametrize(
    ("by", "dims", "text"),
    [
        ("knd", ["row"], "by: found 'knd'; expected one of kind$"),
        ("knd", ["depth"], "by: found 'knd'; expected one of none here$"),
        ("word", ["row"], r"by: 'word' is along \['col'\].*\['row'\]; expected one of kind"),
        ("table", ["row"], r"by: 'table' is along \['row', 'col'\]"),
        (["kind", "word"], ["row", "col"], "by: found kind along row, word along col; .*one dim"),
        (["knd", "word"], ["row"], "(?s)by: found 'knd'.*by: 'word' is along"),
        ([], ["row"], "by: found no coordinate; name one, or leave it out"),
        (
            xr.DataArray([1, 1, 1], dims="row"),
            ["row"],
            r"by: found labels without a name; rename\(\)",
        ),
        (xr.DataArray([1, 1], dims="z", name="q"), ["row"], r"by: .*'z'.*\['row'\]"),
        (xr.DataArray([1, 2], dims="row", name="q"), ["row"], "by: .*2.*3"),
        (xr.DataArray([1, 2, 1, 2], dims="row", name="q"), ["row"], "by: .*4.*3"),
        (xr.DataArray(np.eye(3, 2), dims=("row", "col"), name="q"), ["row"], "by: .*q"),
        (xr.DataArray(1, name="q"), ["row"], "by: .*q"),
    ],
)
def test_what_labels_no_rows_is_refused(by: By, dims: list[str], text: str) -> None:
    with pytest.raises(Refused, match=text):
        labelling(ROWS, by, dims)


def test_a_part_says_that_the_whole_may_have_the_label() -> None:
    text = "by: found 'nothing'; expected one of .*; pass ds where the coordinate lies there$"
    with pytest.raises(Refused, match=text):
        labelling(ROWS.x, "nothing", ["row"])
    with pytest.raises(Refused, match=r"by: found 'nothing'; expected one of [^;]*$"):
        labelling(ROWS, "nothing", ["row"])


def test_owners_cut_apart_from_what_they_own_are_refused() -> None:
    cut = ragged().isel(residue=slice(0, 3))
    with pytest.raises(Refused, match=r"row_size: .*10.*3; select rows by label \(sel\)"):
        labelling(cut, "structure", ["residue"])
