"""How far neighbors are: the nearest one of each query, and the last one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.report.section import Card, Cards, Cell, Piece, Section, Table
from h5dask.report.sections import _spread
from h5dask.report.sections._blocks import blocked, over_blocks
from h5dask.report.sections._choice import distances_of
from h5dask.report.sections._histogram import alike, histogram
from h5dask.report.sections._plots import draw_overlaid, legend
from h5dask.report.sections._spread import Spread

MOST = 12
"""Variables that are shown."""

Ends = tuple[Spread, Spread]
"""Of the first and the last distance of each query."""


def values(ds: xr.Dataset) -> dict[Hashable, Any]:
    """Ask for the spread of the first and the last distance of each query."""
    asked = {}
    for name, one in list(distances_of(ds).items())[:MOST]:
        array = blocked(one.variable).rechunk({one.ndim - 1: -1})
        looks = _look, _merge
        asked[name] = over_blocks("ends", str(name), array, *looks, first=_spread.origin_of)
    return asked


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table, and both distributions in one picture a variable."""
    heads = ("Variable", "Neighbor", "Queries", "Not finite", "Min", "Mean", "Max", "Std")
    rows: list[tuple[Cell, ...]] = []
    cards: list[Card] = []
    for name, found in values.items():
        n_neighbors = ds[name].shape[-1]
        ends = dict(zip((1, n_neighbors), found, strict=True))  # one neighbor is first and last
        for neighbor, one in ends.items():
            told = (one.least, one.mean, one.most, one.std) if one.n_finite else (None,) * 4
            rows.append((str(name), neighbor, one.n, one.n - one.n_finite, *told))
        whole = histogram(_spread.merge(list(ends.values())), whole=False)
        if whole is None:
            continue
        labels = [f"neighbor {neighbor:,}" for neighbor in ends]
        parts = [alike(one, whole, whole=False) for one in ends.values()]
        notes = ["logarithmic axis"] if whole.log else []
        n_outside = whole.n_below + whole.n_above
        notes += [f"{n_outside:,} lie outside the picture"] if n_outside else []
        cards.append(
            Card(
                title=str(name),
                content=draw_overlaid(parts, labels, height=200),
                legend=legend(labels),
                note="; ".join(notes),
            )
        )
    made: list[Piece] = [Table(heads=heads, rows=rows, right=frozenset(heads[1:]))]
    return [*made, Cards(cards=tuple(cards))] if cards else made


def _look(block: NDArray[Any], origin: float) -> Ends:
    first, last = (np.ascontiguousarray(block[..., at]) for at in (0, -1))
    return _spread.spread(first, origin), _spread.spread(last, origin)


def _merge(parts: list[Ends]) -> Ends:
    first, last = ([part[at] for part in parts] for at in (0, 1))
    return _spread.merge(first), _spread.merge(last)


SECTION = Section(
    title="Distances",
    place=100,
    draw=draw,
    values=values,
    suits=lambda ds: bool(distances_of(ds)),
    about="How far the nearest neighbor of each query is, and the last one that is stored.",
)
