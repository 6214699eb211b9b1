"""What values a variable takes: counts, extremes, moments, and how they are spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xarray as xr

from h5dask.report.section import Card, Cards, Cell, Piece, Section, Table
from h5dask.report.sections import _spread, _wording
from h5dask.report.sections._blocks import over_blocks
from h5dask.report.sections._histogram import histogram
from h5dask.report.sections._plots import draw_histogram
from h5dask.report.sections._spread import Spread
from h5dask.report.sections._wording import MOST_DISTINCT, Wording

MOST = 60
"""Pictures that are drawn."""
MOST_WHOLE = 24
"""So few different words or integers along one dim are labels, and counted as such."""

_NUMERIC = "biuf"


def values(ds: xr.Dataset) -> dict[Any, Any]:
    """Ask for the spread of every number, and of the lengths of text."""
    asked = {}
    for name, variable in ds.variables.items():
        if variable.dtype.kind in _NUMERIC:
            looks = _spread.spread, _spread.merge
            first = _spread.origin_of
            asked[name] = over_blocks("spread", str(name), variable, *looks, first=first)
        elif variable.dtype.kind == "O":
            asked[name] = over_blocks("text", str(name), variable, _wording.wording, _wording.merge)
    return asked


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table and histograms of numbers, and the same of text and pictures."""
    order = [name for name in (*ds.data_vars, *ds.coords) if name in values]
    numbers = {name: values[name] for name in order if isinstance(values[name], Spread)}
    texts = {name: values[name] for name in order if isinstance(values[name], Wording)}
    made: list[Piece] = []
    if numbers:
        made.append(_numbers(ds, numbers))
    made += _pictures(
        _card(str(name), str(ds[name].dtype), spread, whole=ds[name].dtype.kind != "f")
        for name, spread in numbers.items()
        if name in ds.data_vars and not _is_label(ds[name], spread)
    )
    if texts:
        made.append(_texts(texts))
    made += _pictures(
        _card(str(name), _unit(found), found.lengths, whole=True)
        for name, found in texts.items()
        if name in ds.data_vars and (found.marks is None or len(found.marks) > MOST_WHOLE)
    )
    return made


def _is_label(variable: xr.DataArray, spread: Spread) -> bool:
    """Return whether the bars of the section of labels show all that a histogram could."""
    if variable.dtype.kind == "b" or spread.least is None or spread.most is None:
        return True
    few = spread.most - spread.least < MOST_WHOLE
    return variable.ndim == 1 and variable.dtype.kind in "iu" and few


def _pictures(cards: Iterable[Card | None]) -> list[Piece]:
    kept = tuple(card for card in cards if card is not None)
    return [Cards(cards=kept[:MOST])] if kept else []


def _numbers(ds: xr.Dataset, numbers: dict[Any, Spread]) -> Table:
    heads = ("Variable", "Type", "Values", "NaN", "+inf", "\N{MINUS SIGN}inf")
    moments = ("Min", "Mean", "Max", "Std")
    rows: list[tuple[Cell, ...]] = []
    for name, one in numbers.items():
        counts = (one.n, one.n_nan, one.n_posinf, one.n_neginf)
        told = (one.least, one.mean, one.most, one.std) if one.n_finite else (None,) * 4
        rows.append((str(name), str(ds[name].dtype), *counts, *told))
    return Table(
        heads=(*heads, *moments),
        rows=rows,
        right=frozenset({*heads[2:], *moments}),
        caption="Numbers; min, mean, max and standard deviation are of the finite ones",
    )


def _texts(texts: dict[Any, Wording]) -> Table:
    heads = ("Variable", "Values", "Missing", "Different", "Shortest", "Mean", "Longest", "Unit")
    rows: list[tuple[Cell, ...]] = []
    for name, one in texts.items():
        lengths = one.lengths
        known = lengths.n_finite > 0
        different = f"over {MOST_DISTINCT:,}" if one.marks is None else len(one.marks)
        told = (lengths.least, lengths.mean, lengths.most) if known else (None,) * 3
        shortest, mean, longest = told
        rows.append(
            (
                str(name),
                lengths.n,
                lengths.n_nan,
                different,
                None if shortest is None else int(shortest),
                mean,
                None if longest is None else int(longest),
                _unit(one),
            )
        )
    return Table(
        heads=heads,
        rows=rows,
        right=frozenset(heads[1:-1]),
        caption="Text and pictures, and how long they are",
    )


def _unit(found: Wording) -> str:
    return "characters" if found.n_text else "bytes"


def _card(name: str, aside: str, spread: Spread, *, whole: bool) -> Card | None:
    found = histogram(spread, whole=whole)
    if found is None:
        return None
    outside = [
        f"{n:,} {where} the picture"
        for n, where in ((found.n_below, "left of"), (found.n_above, "right of"))
        if n
    ]
    notes = [*(["logarithmic axis"] if found.log else []), *outside]
    drawn = draw_histogram(found, whole=whole)
    return Card(title=name, aside=aside, content=drawn, note="; ".join(notes))


SECTION = Section(
    title="Value ranges",
    place=30,
    draw=draw,
    values=values,
    suits=lambda ds: any(v.dtype.kind in _NUMERIC + "O" for v in ds.variables.values()),
    about="Every value was read once. Each picture has a scale of its own.",
)
