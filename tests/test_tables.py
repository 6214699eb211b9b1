"""Results as tables and as JSON: nothing is lost or misplaced between labels and values."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rich.console import Console

import h5dask
from h5dask.indexes import Labels
from h5dask.telling.tables import MOST_ROWS, as_json, frame_of, table_of
from h5dask.testing import example_file


def told(frame: pd.DataFrame, width: int = 200) -> list[str]:
    """Return the lines that a person sees."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table_of(frame))
    return [line.strip() for line in out.getvalue().splitlines() if line.strip()]


def result() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("pair", "layer")
    return xr.Dataset(
        {"norm": (dims, rng.random((2, 3))), "count": (dims, np.arange(6).reshape(2, 3)),
         "vector": ((*dims, "hidden"), rng.random((2, 3, 4)))},
        {"pair": ["p", "q"], "layer": [3, 7, 9], "first": ("pair", ["a", "b"]), "seed": 5},
    )  # fmt: skip


def test_a_row_for_each_place() -> None:
    found = result()
    frame = frame_of(found, ["norm", "count"])
    assert list(frame) == ["pair", "layer", "first", "norm", "count"]
    assert frame["layer"].tolist() == [3, 7, 9] * 2
    assert frame["pair"].tolist() == ["p"] * 3 + ["q"] * 3
    assert frame["first"].tolist() == ["a"] * 3 + ["b"] * 3
    for row in frame.itertuples():
        one = found.sel(pair=row.pair, layer=row.layer)
        assert (one.norm.item(), one["count"].item()) == (row.norm, row.count)


def test_labels_that_are_asked_for_and_dims_that_have_none() -> None:
    found = result()
    frame = frame_of(found, ["vector"], labels=["layer"])
    assert list(frame) == ["pair", "hidden", "layer", "vector"]
    assert frame["pair"].unique().tolist() == [0, 1]
    assert len(frame) == 24
    at = frame.iloc[17]
    assert found.vector.values[int(at.pair), [3, 7, 9].index(at.layer), int(at.hidden)] == at.vector


def test_variables_of_other_orders_of_dims() -> None:
    found = result()
    found["turned"] = found.norm.transpose() * 2
    found["by_layer"] = found.norm.sum("pair")
    frame = frame_of(found, ["norm", "turned", "by_layer"])
    np.testing.assert_allclose(frame["turned"], 2 * frame["norm"])
    sums = frame.groupby("layer")["norm"].sum()
    np.testing.assert_allclose(frame["by_layer"], sums[frame["layer"]])


def test_labels_of_one_index_and_of_nothing() -> None:
    index = Labels("group", {"scenario": ["a", "b"], "branch": ["", "m"]})
    found = xr.Dataset({"x": ("group", [1, 2])}, xr.Coordinates.from_xindex(index))
    assert frame_of(found, ["x"]).to_dict("list") == {
        "scenario": ["a", "b"], "branch": ["", "m"], "x": [1, 2]
    }  # fmt: skip
    alone = frame_of(xr.Dataset({"x": 3.5, "n": 2}), ["x", "n"])
    assert alone.to_dict("list") == {"x": [3.5], "n": [2]}
    assert len(frame_of(found.isel(group=slice(0)), ["x"])) == 0


def test_a_table_a_person_can_read() -> None:
    frame = pd.DataFrame({
        "name": ["a", "b", "c"], "n": [1234567, -3, 0], "x": [0.123456789, np.nan, 1e-9],
        "y": [np.inf, 123456.0, -0.0], "bad": [True, False, True],
    })  # fmt: skip
    lines = told(frame)
    assert lines[0].split() == ["name", "n", "x", "y", "bad"]
    rows = [line.split() for line in lines[2:]]
    assert rows == [
        ["a", "1,234,567", "0.1235", "inf", "yes"],
        ["b", "-3", "1.235e+05", "no"],
        ["c", "0", "1e-09", "-0", "yes"],
    ]


@pytest.mark.parametrize("n", [0, 1, MOST_ROWS, MOST_ROWS + 1, 5000])
def test_a_long_table_says_what_is_left(n: int) -> None:
    lines = told(pd.DataFrame({"the numbers of rows that are shown": np.arange(n)}))
    shown = lines[2:-1] if n > MOST_ROWS else lines[2:]
    assert shown == [f"{at:,}" for at in range(min(n, MOST_ROWS))]
    if n > MOST_ROWS:
        assert lines[-1] == f"{n - MOST_ROWS:,} more; -o FILE keeps all"


def test_a_narrow_terminal_loses_no_text() -> None:
    name = "a_scenario_with_a_rather_long_name"
    lines = told(pd.DataFrame({"name": [name], "x": [1.0]}), width=24)
    assert "".join(line.split()[0] for line in lines[2:]) == name


def test_json_holds_every_value() -> None:
    found = xr.Dataset(
        {"half": ("at", np.array([1.5, np.nan, np.inf], "f2")), "n": ("at", np.arange(3)),
         "bad": ("at", [True, False, True]), "mean": np.float32(0.1), "none": np.nan,
         "empty": ("nothing", np.zeros(0))},
        {"name": ("at", np.array(["a", "b", ""], object)), "layer": ("layer", [3])},
    )  # fmt: skip
    made: dict[str, Any] = json.loads(json.dumps(as_json(found), allow_nan=False))
    values = {name: one["values"] for name, one in made["variables"].items()}
    assert values == {
        "half": [1.5, None, None], "n": [0, 1, 2], "bad": [True, False, True],
        "mean": float(np.float32(0.1)), "none": None, "empty": [],
    }  # fmt: skip
    assert made["variables"]["half"]["dims"] == ["at"]
    assert made["dims"] == {"at": 3, "nothing": 0, "layer": 1}
    assert made["coords"] == {
        "name": {"dims": ["at"], "values": ["a", "b", ""]},
        "layer": {"dims": ["layer"], "values": [3]},
    }


def test_json_of_results() -> None:
    ds = h5dask.open_dataset(example_file("activations"))
    for found in (h5dask.contrast(ds), h5dask.summarize(ds, "record", by="scenario")):
        held = found.compute()
        made = json.loads(json.dumps(as_json(held), allow_nan=False))
        assert set(made["variables"]) == set(map(str, held.data_vars))
        for name, one in made["variables"].items():
            values = np.array(one["values"], held[name].dtype)
            np.testing.assert_array_equal(values, held[name].where(np.isfinite(held[name])))
