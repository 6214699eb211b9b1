"""How many rows carry each label: scenarios, classes, structures, data sets, outcomes."""

from __future__ import annotations

from typing import Any

import xarray as xr

from h5dask.report.section import Bar, Bars, Card, Cards, Piece, Section, Table
from h5dask.report.sections import _tally
from h5dask.report.sections._blocks import over_blocks

MOST_BARS = 12
"""Of more words than are shown whole, the most frequent."""
MOST_WHOLE = 24
"""Different labels that are shown whole; more integers measure something: see their histogram."""
MOST = 60
"""Variables that are shown."""


def values(ds: xr.Dataset) -> dict[Any, Any]:
    """Ask how often each value of every one-dimensional variable of words or integers is there."""
    return {
        name: over_blocks("count", str(name), variable, _tally.tally, _tally.merge)
        for name, variable in ds.variables.items()
        if _labels(variable)
    }


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return bars for labels that differ, and a table of those that don't."""
    kept = [(str(name), ds[name], found) for name, found in values.items() if found]
    repeated = [
        one
        for one in kept
        if max(one[2].values()) > 1 and (_is_text(one[1]) or len(one[2]) <= MOST_WHOLE)
    ]
    cards = [_card(*one) for one in repeated if len(one[2]) > 1]
    same = [
        (name, _said(next(iter(found))), variable.size)
        for name, variable, found in repeated
        if len(found) == 1
    ]
    made: list[Piece] = []
    if cards:
        made.append(Cards(cards=tuple(cards[:MOST])))
    if same:
        heads = ("Variable", "Value", "Rows")
        right = frozenset({"Rows"})
        made.append(Table(heads=heads, rows=same, right=right, caption="The same in every row"))
    return made


def _card(name: str, variable: xr.DataArray, found: Any) -> Card:
    if _is_text(variable):
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    else:
        ranked = sorted(found.items())
    shown = MOST_BARS if len(ranked) > MOST_WHOLE else MOST_WHOLE
    hidden = ranked[shown:]
    rows = sum(count for _, count in hidden)
    return Card(
        title=name,
        aside=f"{len(ranked):,} different along {variable.dims[0]}",
        content=Bars(bars=[Bar(_said(label), n, f"{n:,}") for label, n in ranked[:shown]]),
        note=f"{len(hidden):,} more, in {rows:,} rows" if hidden else "",
    )


def _said(label: Any) -> str:
    return str(label) if str(label).strip() else repr(label)


def _is_text(variable: xr.DataArray) -> bool:
    return variable.dtype.kind in "OU"


def _labels(variable: xr.Variable) -> bool:
    return variable.ndim == 1 and variable.dtype.kind in "OiubU"


SECTION = Section(
    title="Labels",
    place=40,
    draw=draw,
    values=values,
    suits=lambda ds: any(map(_labels, ds.variables.values())),
    about="Rows by label, for whatever repeats.",
)
