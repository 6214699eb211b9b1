"""What a Dataset is made of: dims, variables, coordinates, attributes. No value is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import xarray as xr

from h5dask.report.section import Cell, Piece, Section, Table
from h5dask.telling.outline import plain

ABOUT = "long_name"
"""The attribute that says in words what a variable is."""
LONGEST = 240
"""Characters of an attribute that are shown."""
MOST = 200
"""Rows of a table that are shown."""


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table each of variables, coordinates, dims and attributes."""
    made: list[Piece] = [_variables(ds.data_vars, "variable")]
    if ds.coords:
        made.append(_variables(ds.coords, "coordinate"))
    if ds.sizes:
        made.append(_dims(ds))
    rows = list(_attributes(ds))
    if rows:
        heads = ("Attribute", "Of", "Value")
        made.append(Table(heads=heads, rows=rows[:MOST], caption=_counted(rows, "attribute")))
    return made


def _variables(variables: Mapping[Any, xr.DataArray], noun: str) -> Table:
    heads = (noun.capitalize(), "Dims", "Type", "Shape", "Values", "Block", "Blocks", "About")
    rows: list[tuple[Cell, ...]] = []
    for name, variable in variables.items():
        blocks = variable.chunks
        rows.append(
            (
                str(name),
                ", ".join(map(str, variable.dims)),
                str(variable.dtype),
                _times(variable.shape),
                variable.size,
                _times(max(lengths) for lengths in blocks) if blocks else "in memory",
                variable.data.npartitions if blocks else None,
                _shown(variable.attrs.get(ABOUT, "")),
            )
        )
    shown = len(heads) if any(row[-1] for row in rows) else len(heads) - 1
    return Table(
        heads=heads[:shown],
        rows=[row[:shown] for row in rows[:MOST]],
        right=frozenset(heads[3:7]),
        caption=_counted(rows, noun),
    )


def _dims(ds: xr.Dataset) -> Table:
    heads = ("Dim", "Length", "Blocks", "Labels", "Variables along it")
    blocks = ds.unify_chunks().chunks if ds.sizes else {}
    rows: list[tuple[Cell, ...]] = []
    for dim, length in ds.sizes.items():
        along = [str(name) for name, variable in ds.data_vars.items() if dim in variable.dims]
        labels = [str(name) for name, variable in ds.coords.items() if variable.dims == (dim,)]
        n_blocks = len(blocks[dim]) if dim in blocks else None
        rows.append((str(dim), length, n_blocks, ", ".join(labels), ", ".join(along)))
    return Table(
        heads=heads,
        rows=rows[:MOST],
        right=frozenset({"Length", "Blocks"}),
        caption=_counted(rows, "dim"),
    )


def _attributes(ds: xr.Dataset) -> Iterator[tuple[Cell, ...]]:
    yield from ((str(key), "the file", _shown(value)) for key, value in ds.attrs.items())
    for name, variable in ds.variables.items():
        others = ((key, value) for key, value in variable.attrs.items() if key != ABOUT)
        yield from ((str(key), str(name), _shown(value)) for key, value in others)


def _shown(value: Any) -> str:
    text = str(plain(value))
    more = len(text) - LONGEST
    return text if more <= 0 else f"{text[:LONGEST]}\N{HORIZONTAL ELLIPSIS} ({more:,} more)"


def _times(lengths: Iterable[int]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(f"{length:,}" for length in lengths) or "1"


def _counted(things: list[Any], noun: str) -> str:
    first = f", the first {MOST} shown" if len(things) > MOST else ""
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}{first}"


SECTION = Section(title="Structure", place=10, draw=draw)
