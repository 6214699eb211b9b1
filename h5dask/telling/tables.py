"""Results as a person reads them on a terminal, and as JSON; what they mean is not known here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 60
"""Rows of a table that are shown."""


def frame_of(found: xr.Dataset, names: Sequence[str], labels: Iterable[str] = ()) -> pd.DataFrame:
    """Return variables of the same dims as columns, beside a column for each label of a row.

    Parameters
    ----------
    found : Dataset
        In memory.
    names : sequence of str
        Variables.
    labels : iterable of str, optional
        Coords that label rows; those of the variables' dims without it, and numbers for dims that
        have none.

    Examples
    --------
    >>> found = xr.Dataset({"mean": ("layer", [0.5, 2.0])}, coords={"layer": [3, 13]})
    >>> frame_of(found, ["mean"])
       layer  mean
    0      3   0.5
    1     13   2.0
    """
    some = found[list(names)]
    dims = list(some.dims)
    given = list(labels) or [
        str(name) for name, coord in some.coords.items() if coord.dims and coord.size
    ]
    unlabelled = [dim for dim in dims if not any(dim in some[name].dims for name in given)]
    columns = {str(dim): xr.Variable(dim, np.arange(some.sizes[dim])) for dim in unlabelled}
    columns |= {name: some.variables[name] for name in (*given, *names)}
    sizes = dict(some.sizes)
    wide = {
        name: one.set_dims(sizes).transpose(*dims)  # type: ignore[no-untyped-call]
        for name, one in columns.items()
    }
    return pd.DataFrame({name: np.ravel(one.values) for name, one in wide.items()})


def table_of(frame: pd.DataFrame) -> Table:
    """Return rows and columns to print with rich: numbers right, as short as four digits allow."""
    from rich import box
    from rich.table import Table

    rows = frame.head(MOST_ROWS)
    left = len(frame) - len(rows)
    more = f"{left:,} more; -o FILE keeps all" if left else None
    table = Table(box=box.SIMPLE_HEAD, caption=more, caption_justify="left")
    for name, values in rows.items():
        right = values.dtype.kind in "iuf"
        table.add_column(str(name), justify="right" if right else "left", overflow="fold")
    for row in rows.itertuples(index=False):
        table.add_row(*map(_told, row))
    return table


def _told(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def as_json(found: xr.Dataset) -> dict[str, Any]:
    """Return a Dataset in memory as values that JSON can hold, NaN and infinity as null.

    Examples
    --------
    >>> as_json(xr.Dataset({"mean": ("layer", [0.5, np.nan])}))["variables"]
    {'mean': {'dims': ['layer'], 'values': [0.5, None]}}
    """
    return {
        "dims": {str(dim): size for dim, size in found.sizes.items()},
        "coords": {str(name): _variable(coord) for name, coord in found.coords.items()},
        "variables": {str(name): _variable(one) for name, one in found.data_vars.items()},
    }


def _variable(variable: xr.DataArray) -> dict[str, Any]:
    values = variable.values
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        values = values.astype(np.float64).astype(object)
        values[~finite] = None
    return {"dims": list(map(str, variable.dims)), "values": values.tolist()}
