"""What `scan` found, in lines that a person reads and in values that JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from h5dask.ops.findings import KINDS
from h5dask.telling.tables import MOST_ROWS

_MASK = "bad_"


def lines_of(found: xr.Dataset) -> Iterator[str]:
    r"""Yield a line for each kind that a variable has, and one for the bad rows of each dim.

    Parameters
    ----------
    found : Dataset
        A result of `scan`, in memory.

    Examples
    --------
    >>> from h5dask.ops.scanning import scan
    >>> ds = xr.Dataset({"x": (("row", "column"), [[1.0, np.nan], [0.0, 0.0], [1.0, 1.0]])})
    >>> print(*lines_of(scan(ds)), sep="\n")
    x: 1 nan, the first in row 0
    x: 1 zero_rows, the first in row 1
    row: 2 of 3 are bad: 0-1
    """
    for kind in (kind for kind in KINDS if kind in found):
        for at in np.flatnonzero(found[kind].values):
            name, n = found.variable.values[at], int(found[kind].values[at])
            first = int(found[f"first_{kind}"].values[at])
            yield f"{name}: {n:,} {kind}, the first in row {first}"
    for dim, rows in _bad(found).items():
        if rows.size:
            yield f"{dim}: {rows.size:,} of {found.sizes[dim]:,} are bad: {_listed(rows)}"


def as_json(found: xr.Dataset) -> dict[str, Any]:
    """Return counts and first rows by variable, and bad rows by dim."""
    kinds = [kind for kind in KINDS if kind in found]
    return {
        "variables": {
            str(name): {
                "values": int(found["values"].values[at]),
                **{kind: int(found[kind].values[at]) for kind in kinds},
                "first": {kind: int(found[f"first_{kind}"].values[at]) for kind in kinds},
            }
            for at, name in enumerate(found.variable.values)
        },
        "bad_rows": {dim: rows.tolist() for dim, rows in _bad(found).items()},
    }


def is_sound(found: xr.Dataset) -> bool:
    """Whether nothing was found."""
    return not any(found[kind].values.any() for kind in KINDS if kind in found)


def _bad(found: xr.Dataset) -> dict[str, Any]:
    masks = [str(name) for name in found if str(name).startswith(_MASK)]
    return {name.removeprefix(_MASK): np.flatnonzero(found[name].values) for name in masks}


def _listed(rows: Any) -> str:
    """Return row numbers, those that follow each other as a range."""
    borders = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), rows.size]
    runs = [(int(rows[first]), int(rows[stop - 1])) for first, stop in pairwise(borders)]
    told = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:MOST_ROWS]]
    return ", ".join(told) + (", ..." if len(runs) > MOST_ROWS else "")
