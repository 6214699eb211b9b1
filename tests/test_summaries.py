"""Statistics of whole files as one Dataset and one table: which variables, groups, dims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import H5daskError, NotFound, Refused
from h5dask.ops.statistics import STATISTICS
from h5dask.telling.summaries import frame, numbers_in, summaries
from h5dask.testing import example_file, refuse_to_compute


def opened(layout: str) -> xr.Dataset:
    return h5dask.open_dataset(example_file(layout))


def small() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {"x": ("row", rng.random(6)), "y": (("row", "column"), rng.integers(0, 9, (6, 3))),
         "z": ("other", rng.random(4)), "words": ("row", list("abcdef"))},
        {"kind": ("row", list("uvuvuv")), "side": ("row", [1, 1, 1, 2, 2, 2])},
    )  # fmt: skip


def test_every_variable_of_numbers() -> None:
    ds = small()
    found = summaries(ds)
    assert set(found) == {f"{name}_{what}" for name in "xyz" for what in STATISTICS}
    assert found.sizes == {}
    assert found.y_mean == pytest.approx(ds.y.values.mean())
    table = frame(found.compute())
    assert list(table) == ["variable", *STATISTICS]
    assert table["variable"].tolist() == ["x", "y", "z"]
    assert table["max"].tolist() == [ds[name].values.max() for name in "xyz"]


def test_variables_that_are_named() -> None:
    found = summaries(small(), variables=["z", "x"])
    assert set(found) == {f"{name}_{what}" for name in "xz" for what in STATISTICS}


def test_dims_that_are_kept_by_the_variables_that_have_them() -> None:
    ds = small()
    found = summaries(ds, keep=["column"])
    assert (found.x_mean.dims, found.y_mean.dims) == ((), ("column",))
    np.testing.assert_allclose(found.y_mean, ds.y.values.mean(0))
    table = frame(found.compute())
    assert table["column"].tolist() == ["", 0, 1, 2, ""]
    np.testing.assert_allclose(table["mean"][1:4], ds.y.values.mean(0))
    every = summaries(ds, keep=["row", "column"], variables=["y"])
    np.testing.assert_array_equal(every.y_max, ds.y)


def test_groups_of_what_they_label_and_nothing_else() -> None:
    ds = small()
    found = summaries(ds, by=["kind"])
    assert {name.rpartition("_")[0] for name in map(str, found)} == {"x", "y"}
    np.testing.assert_allclose(found.x_mean, [ds.x.values[::2].mean(), ds.x.values[1::2].mean()])
    table = frame(found.compute())
    assert table["kind"].tolist() == ["u", "v"] * 2
    assert table["variable"].tolist() == ["x", "x", "y", "y"]
    both = summaries(ds, by=["kind", "side"], variables=["x"])
    assert both.x_count.values.tolist() == [2, 1, 1, 2]
    assert frame(both.compute())[["kind", "side"]].values.tolist() == [
        ["u", 1], ["u", 2], ["v", 1], ["v", 2]
    ]  # fmt: skip


def test_more_on_request() -> None:
    found = summaries(small(), variables=["x"], more=["quantiles", "histogram"])
    assert set(found) == {f"x_{what}" for what in (*STATISTICS, "quantiles", "histogram")}
    assert list(frame(found.compute())) == ["variable", *STATISTICS]


def test_names_that_end_like_statistics() -> None:
    ds = xr.Dataset({"token_count": ("row", [1, 2, 3]), "a_mean": ("row", [1.0, 2, 3])})
    table = frame(summaries(ds).compute())
    assert table["variable"].tolist() == ["token_count", "a_mean"]
    assert table["mean"].tolist() == [2, 2]


@pytest.mark.parametrize("layout", ["activations", "proteins", "ann", "episodes"])
def test_files_of_every_layout(layout: str) -> None:
    ds = opened(layout)
    with dask.config.set(scheduler=refuse_to_compute):
        found = summaries(ds)
    held, table = found.compute(), frame(found.compute())
    names = list(numbers_in(ds).data_vars)
    assert table["variable"].tolist() == names
    for name in names:
        values = ds[name].values.astype("f8")
        assert held[f"{name}_count"] == np.isfinite(values).sum()
        assert held[f"{name}_max"] == values[np.isfinite(values)].max()


def test_groups_of_real_labels() -> None:
    ds = opened("activations")
    found = summaries(ds, by=["scenario", "branch"], keep=["layer"]).compute()
    table = frame(found)
    assert set(table["variable"]) == {"activations", "logits"}
    for row in table.itertuples():
        values = ds[row.variable].sel(scenario=row.scenario, branch=row.branch)
        if row.layer != "":
            values = values.sel(layer=row.layer)
        assert values.values.astype("f8").mean() == pytest.approx(row.mean, rel=1e-12)
    owned = summaries(opened("proteins"), by=["structure"]).compute()
    assert set(frame(owned)["structure"]) == set(opened("proteins").structure.values.tolist())


REFUSED: dict[str, tuple[Callable[[], Any], type[H5daskError], str]] = {
    "an unknown variable": (
        lambda: summaries(small(), variables=["x", "u", "v"]),
        NotFound,
        "variable: found 'u', 'v'; expected of x, y, z, words",
    ),
    "text": (
        lambda: summaries(small(), variables=["x", "words"]),
        Refused,
        "words: found text; expected numbers; name another variable",
    ),
    "text alone": (
        lambda: numbers_in(small()[["words"]]),
        Refused,
        "found no variable of numbers among words",
    ),
    "nothing": (
        lambda: summaries(xr.Dataset()),
        Refused,
        "found no variable of numbers among none",
    ),
    "an unknown dim": (
        lambda: summaries(small(), keep=["layer"]),
        NotFound,
        "keep: found 'layer'; expected of column, other, row",
    ),
    "an unknown label": (
        lambda: summaries(small(), by=["knd"]),
        Refused,
        "by: found 'knd'; expected one of",
    ),
    "labels of none": (
        lambda: summaries(small()[["z", "kind"]], by=["kind"]),
        Refused,
        "by: 'kind' is along",
    ),
    "labels that a named variable lacks": (
        lambda: summaries(small(), by=["kind"], variables=["x", "z"]),
        Refused,
        "by: 'kind' is along",
    ),
    "labels along what is kept": (
        lambda: summaries(small(), by=["kind"], keep=["row"]),
        Refused,
        "by: 'kind' is along",
    ),
}


@pytest.mark.parametrize(("ask", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_refusals(ask: Callable[[], Any], error: type[H5daskError], text: str) -> None:
    with pytest.raises(error, match=text):
        ask()
