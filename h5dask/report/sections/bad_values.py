"""Values that are wrong: how many, where first, and where along the rows they lie."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from h5dask.ops.findings import KINDS
from h5dask.ops.scanning import HARMLESS, row_dims, scan
from h5dask.report.section import Card, Cell, Piece, Section, Sentence, Table
from h5dask.report.sections._blocks import whole
from h5dask.report.sections._plots import LIT, plain_figure, tooltip

if TYPE_CHECKING:
    from bokeh.plotting import figure

N_BINS = 200
"""Parts into which the rows of a picture are divided at most."""
MOST = 200
"""Variables that are shown."""
_HEADS = {
    "nan": ("NaN", "First NaN"),
    "posinf": ("+inf", "First +inf"),
    "neginf": ("\N{MINUS SIGN}inf", "First \N{MINUS SIGN}inf"),
    "zero_rows": ("Zero vectors", "First zero vector"),
    "duplicates": ("Duplicates", "First duplicate"),
    "empty": ("Empty text", "First empty text"),
    "not_utf8": ("Not UTF-8", "First not UTF-8"),
}
_FAINTEST = 0.3
"""How strong the colour of a part is in which hardly any row is bad: one is seen among millions."""


def values(ds: xr.Dataset) -> dict[str, Any]:
    """Ask for counts and first rows by variable, and for the bad rows in each part of a dim."""
    scanned = scan(ds)
    found = whole(scanned)
    masks = {dim: found.pop(f"bad_{dim}") for dim in row_dims(ds)}
    parts = {
        dim: delayed(_counted, pure=True)(mask) for dim, mask in masks.items() if ds.sizes[dim]
    }
    return {"names": scanned["variable"].values.tolist(), "found": found, "parts": parts}


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table of what is wrong, and a strip of rows for each dim that has bad ones."""
    found, parts = values["found"], values["parts"]
    there = [kind for kind in KINDS if found[kind].any()]
    if not there:
        return [Sentence("None found.")]
    made: list[Piece] = [_table(values["names"], found, there)]
    made += [_strip(dim, part, ds.sizes[dim]) for dim, part in parts.items() if part.any()]
    if set(there) <= set(HARMLESS):
        made.append(Sentence("Nothing else was found; a row isn't bad for a text that is empty."))
    return made


def _ends(n_rows: int) -> NDArray[np.int64]:
    """Return where the parts of some rows begin, and where the last one ends."""
    return np.linspace(0, n_rows, min(N_BINS, n_rows) + 1).astype(np.int64)


def _counted(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many rows of each part are bad."""
    counts: NDArray[np.int64] = np.add.reduceat(mask.astype(np.int64), _ends(len(mask))[:-1])
    return counts


def _table(
    names: Sequence[str], found: Mapping[str, NDArray[np.int64]], there: Sequence[str]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for at, name in enumerate(names):
        counts = [int(found[kind][at]) for kind in there]
        if any(counts):
            first = (int(found[f"first_{kind}"][at]) for kind in there)
            cells = [(n or None, row if n else None) for n, row in zip(counts, first, strict=True)]
            rows.append((name, *(cell for both in cells for cell in both)))
    heads = [head for kind in there for head in _HEADS[kind]]
    return Table(
        heads=("Variable", *heads),
        rows=rows[:MOST],
        right=frozenset(heads),
        caption="How much there is, and the row along the first dim where the first is",
    )


def _strip(dim: Hashable, counts: NDArray[np.int64], n_rows: int) -> Card:
    n_bad = int(counts.sum())
    return Card(
        title=str(dim),
        aside=f"{n_bad:,} of {n_rows:,} rows hold something bad",
        content=_rows(counts, _ends(n_rows)),
    )


def _rows(counts: NDArray[np.int64], ends: NDArray[np.int64]) -> figure:
    """Return a strip of parts, the stronger in colour the more of their rows are bad."""
    from bokeh.models import BasicTicker, ColumnDataSource, NumeralTickFormatter

    made = plain_figure(
        height=64,
        x_range=(0, int(ends[-1])),
        y_range=(0, 1),
        min_border_left=4,
        min_border_right=10,
    )
    made.yaxis.visible = False
    made.xaxis.ticker = BasicTicker(min_interval=1)
    made.xaxis.formatter = NumeralTickFormatter(format="0,0")
    share = counts / np.maximum(np.diff(ends), 1)
    source = ColumnDataSource(
        {
            "left": ends[:-1],
            "right": ends[1:],
            "alpha": np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * share, 0.0),
            "within": [f"{a:,} to {b - 1:,}" for a, b in pairwise(ends.tolist())],
            "says": [f"{n:,}" for n in counts.tolist()],
        }
    )
    made.quad(
        left=0,
        right=int(ends[-1]),
        bottom=0,
        top=1,
        fill_color="#808a9b",
        fill_alpha=0.12,
        line_color=None,
    )
    parts = made.quad(
        left="left",
        right="right",
        bottom=0,
        top=1,
        source=source,
        fill_color=LIT,
        fill_alpha="alpha",
        line_color=None,
    )
    made.add_tools(tooltip(parts, [("rows", "@within"), ("bad", "@says")], mode="vline"))
    return made


SECTION = Section(
    title="Bad values",
    place=50,
    draw=draw,
    values=values,
    suits=lambda ds: any(one.dims for one in ds.variables.values()) and "variable" not in ds.dims,
    about="NaN, infinities, vectors of zeros, rows labelled twice, and text that can't be read.",
)
