"""Where the bytes of a Dataset are: a bar for each variable."""

from __future__ import annotations

from typing import Any

import xarray as xr
from dask.utils import format_bytes

from h5dask.report.section import Bar, Bars, Card, Piece, Section
from h5dask.report.sections import _wording
from h5dask.report.sections._blocks import over_blocks

MOST = 30
"""Variables that are shown."""


def values(ds: xr.Dataset) -> dict[Any, Any]:
    """Ask for the bytes of what has no fixed size: text and pictures."""
    return {
        name: over_blocks("text", str(name), variable, _wording.wording, _wording.merge)
        for name, variable in ds.variables.items()
        if variable.dtype.kind == "O"
    }


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return bars of the bytes by variable, the largest first."""
    sizes = {
        str(name): values[name].nbytes if name in values else variable.nbytes
        for name, variable in ds.variables.items()
    }
    ranked = sorted(sizes.items(), key=lambda item: -item[1])
    total = sum(sizes.values())
    if not total:
        return []
    left_out = len(ranked) - MOST
    return [
        Card(
            title="Bytes by variable",
            aside=f"{format_bytes(total)} of values, before any compression",
            content=Bars(bars=[_bar(*one, total) for one in ranked[:MOST]]),
            note=f"{left_out:,} smaller ones are not shown" if left_out > 0 else "",
        )
    ]


def _bar(name: str, nbytes: int, total: int) -> Bar:
    more = f"{nbytes:,} bytes, {nbytes / total:.1%}"
    return Bar(name, nbytes, format_bytes(nbytes), more)


SECTION = Section(
    title="Sizes",
    place=20,
    draw=draw,
    values=values,
    suits=lambda ds: bool(ds.variables),
)
