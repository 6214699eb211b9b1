"""What a scan found, in lines and in JSON: each kind, each dim, long lists cut."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import h5dask
from h5dask.results import open_any, write_result
from h5dask.telling.bad_rows import as_json, is_sound, lines_of
from h5dask.telling.tables import MOST_ROWS
from h5dask.testing import example_file


def dirty() -> xr.Dataset:
    x = np.ones((6, 2))
    x[1, 0], x[2], x[4, 1], x[5, 1] = np.nan, 0, np.inf, -np.inf
    ids = np.array(["a", "b", "b", "", "e", "f"], object)
    return xr.Dataset(
        {"x": (("row", "column"), x), "y": ("other", [1.0, np.nan, np.nan])},
        {"row_ids": ("row", ids)},
    )


def test_a_line_for_each_kind_and_each_dim() -> None:
    found = h5dask.scan(dirty())
    assert set(lines_of(found)) == {
        "x: 1 nan, the first in row 1",
        "y: 2 nan, the first in row 1",
        "x: 1 posinf, the first in row 4",
        "x: 1 neginf, the first in row 5",
        "x: 1 zero_rows, the first in row 2",
        "row_ids: 1 duplicates, the first in row 2",
        "row_ids: 1 empty, the first in row 3",
        "row: 4 of 6 are bad: 1-2, 4-5",
        "other: 2 of 3 are bad: 1-2",
    }
    assert list(lines_of(found))[-2].startswith("row:")
    assert not is_sound(found)


def test_kinds_that_were_ignored() -> None:
    found = h5dask.scan(dirty(), ignore=["nan", "empty", "duplicates", "zero_rows"])
    assert set(lines_of(found)) == {
        "x: 1 posinf, the first in row 4",
        "x: 1 neginf, the first in row 5",
        "row: 2 of 6 are bad: 4-5",
    }
    assert "nan" not in as_json(found)["variables"]["x"]
    assert is_sound(h5dask.scan(dirty()[["y"]], ignore=["nan"]))


def test_json_holds_counts_and_rows() -> None:
    made = json.loads(json.dumps(as_json(h5dask.scan(dirty())), allow_nan=False))
    assert made["bad_rows"] == {"row": [1, 2, 4, 5], "other": [1, 2]}
    x = made["variables"]["x"]
    assert (x["values"], x["nan"], x["zero_rows"], x["empty"]) == (12, 1, 1, 0)
    assert (x["first"]["posinf"], x["first"]["empty"]) == (4, -1)
    assert made["variables"]["row_ids"]["duplicates"] == 1


@pytest.mark.parametrize("layout", ["activations", "proteins", "ann", "episodes"])
def test_sound_files(layout: str) -> None:
    found = h5dask.scan(h5dask.open_dataset(example_file(layout))).compute()
    bad = any(any(rows) for rows in as_json(found)["bad_rows"].values())
    assert is_sound(found) == (not list(lines_of(found)))
    assert not (is_sound(found) and bad)


def test_a_scan_that_was_written_tells_the_same(tmp_path: object) -> None:
    found = h5dask.scan(dirty())
    for ending in ("nc", "zarr"):
        write_result(found, f"{tmp_path}/found.{ending}")
        read = open_any(f"{tmp_path}/found.{ending}").load()
        assert sorted(lines_of(read)) == sorted(lines_of(found))
        assert as_json(read) == as_json(found)


def rows_told(bad: list[bool]) -> str:
    found = h5dask.scan(xr.Dataset({"x": ("row", np.where(bad, np.nan, 1.0))}))
    return list(lines_of(found))[-1]


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=60).filter(any))
def test_rows_that_follow_each_other_are_a_range(bad: list[bool]) -> None:
    head, _, told = rows_told(bad).rpartition(": ")
    assert head == f"row: {sum(bad)} of {len(bad)} are bad"
    runs = [tuple(map(int, run.split("-"))) for run in told.split(", ")]
    named = [row for run in runs for row in range(run[0], run[-1] + 1)]
    assert named == np.flatnonzero(bad).tolist()
    assert all(len(run) == 1 or run[0] < run[1] for run in runs)
    assert all(other[0] > one[-1] + 1 for one, other in pairwise(runs))


def test_long_lists_are_cut() -> None:
    told = rows_told([at % 2 == 0 for at in range(4 * MOST_ROWS)])
    assert told.endswith(f", {2 * MOST_ROWS - 2}, ...")
    assert told.count(",") == MOST_ROWS
    whole = rows_told([at % 2 == 0 for at in range(2 * MOST_ROWS)])
    assert "..." not in whole
