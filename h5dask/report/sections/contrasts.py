"""What tells paired sets of records apart: norms, agreement of pairs, held-out projections."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from h5dask.errors import NotFound, Refused
from h5dask.ops.contrasts import contrast, variable_of
from h5dask.ops.pairing import Pair, pairs_of, rows_of
from h5dask.report.section import Card, Cards, Cell, Piece, Section, Sentence, Table
from h5dask.report.sections._blocks import whole
from h5dask.report.sections._histogram import Histogram
from h5dask.report.sections._plots import (
    ACCENT,
    FONT,
    INK,
    LIT,
    MINUS,
    draw_overlaid,
    legend,
    plain_figure,
    tooltip,
)

if TYPE_CHECKING:
    from bokeh.plotting import figure

MOST_PAIRS = 12
"""Pairs that are shown; of more, the first."""
MOST_LAYERS = 16
"""Layers that are shown; of more, some from the first to the last."""
MOST_MATRICES = 3
"""Layers whose cosines are drawn."""
N_BARS = 32
"""Of a histogram of projections."""
HELD = 2**26
"""Bytes that differences of paired records may take; beyond, sides are compared as they are."""
_RECORD = "record"
_FIGURES = ("norm", "cosine", "reliability", "dprime", "auc", "count", "skipped")
_STRONG = 0.6
"""Cosines in whose cells text is white."""
MOST_NUMBERS = 8
"""Pairs of which each cosine is written into its cell."""
_JUDGED = "Records along the vector of the other half, at the layer where d\N{PRIME} is largest"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Counts:
    """Histograms of the projections of both sides, between the same even edges."""

    counts: NDArray[np.int64]
    """(pair, layer, side, bar)."""
    ends: NDArray[np.float64]
    """Where bars begin and end, NaN where there is nothing: (pair, layer, 2)."""


def values(ds: xr.Dataset) -> dict[str, Any]:
    """Ask for the figures of each pair and layer, and for counts of their projections."""
    x, (pairs, _) = _records(ds), _pairs(ds)
    found = contrast(
        x,
        pairs={pair.name: (str(pair.first), str(pair.second)) for pair in pairs[:MOST_PAIRS]},
        paired=_is_paired(x, pairs[:MOST_PAIRS]),
        layers=_layers(x),
    ).rename({x.dims[1]: "layer"})
    asked = whole(found[[*_FIGURES, "projection"]])
    bars = delayed(_counted, pure=True)(asked.pop("projection"))
    dims = {name: found[name].dims for name in _FIGURES}
    labels = {name: found[name].values for name in ("pair", "layer")}
    made = delayed(xr.Dataset, pure=True)(
        {name: (dims[name], asked[name]) for name in dims}, labels
    )
    return {"found": made, "bars": bars}


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table, cosines between pairs, and projections of both sides of each."""
    x, found = _records(ds), values["found"]
    pairs, faults = _pairs(ds)
    shown = pairs[:MOST_PAIRS]
    told = "sample by sample" if _is_paired(x, shown) else "without pairing their records"
    caption = f"Means of the first side less those of the second, compared {told}"
    if len(shown) < len(pairs):
        caption += f"; the first {len(shown)} of {len(pairs):,} pairs"
    if found.sizes["layer"] < x.shape[1]:
        caption += f"; {found.sizes['layer']} of {x.shape[1]:,} layers"
    made: list[Piece] = [_table(found, caption)]
    if len(shown) > 1:
        made.append(_matrices(found))
    cards = [_projections(pair, values, at) for at, pair in enumerate(shown)]
    if drawn := tuple(card for card in cards if card is not None):
        made.append(Cards(cards=drawn, caption=_JUDGED))
    return [*made, *map(Sentence, faults)]


def _records(ds: xr.Dataset) -> xr.DataArray:
    """Return the values that are compared: (record, layer, hidden)."""
    return variable_of(ds, dim=_RECORD).transpose(_RECORD, ...)


def _pairs(ds: xr.Dataset) -> tuple[tuple[Pair, ...], list[str]]:
    """Return the pairs that names tell of, and a line for each name that has no other."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pairs = pairs_of(_records(ds).coords.to_dataset(), dim=_RECORD)
    # Without the ways out, which are a caller's.
    return pairs, [str(one.message).partition("; ")[0] + "." for one in told]


def _is_paired(x: xr.DataArray, pairs: Sequence[Pair]) -> bool:
    """Return whether both sides of each pair have the same samples, and few enough."""
    labels, width = x.coords.to_dataset(), x.shape[-1]
    try:
        rows = [len(rows_of(labels, pair, dim=_RECORD)[0]) for pair in pairs]
    except (Refused, NotFound):
        return False
    return 8 * width * min(max(rows), width) <= HELD


def _layers(x: xr.DataArray) -> list[Any]:
    """Return the labels of the layers that are shown."""
    dim = x.dims[1]
    labels = x[dim].values if dim in x.coords else np.arange(x.shape[1])
    at = np.linspace(0, len(labels) - 1, min(len(labels), MOST_LAYERS)).round().astype(int)
    return list(labels[at].tolist())


def _suits(ds: xr.Dataset) -> bool:
    """Return whether there are pairs of records, by labels in memory."""
    labels = [ds.coords.get(name) for name in ("scenario", "branch")]
    if any(label is None or label.chunks is not None for label in labels):
        return False
    try:
        return all(_records(ds).shape) and bool(_pairs(ds)[0])
    except (Refused, NotFound):
        return False


def _counted(projection: NDArray[np.float64]) -> Counts:
    """Return what the histograms of projections (..., side, row) are made of."""
    counts = np.zeros((*projection.shape[:-1], N_BARS), np.int64)
    ends = np.full((*projection.shape[:-2], 2), np.nan)
    for at in np.ndindex(*projection.shape[:-2]):
        sides = [side[np.isfinite(side)] for side in projection[at]]
        held = np.concatenate(sides)
        if held.size:
            low, high = held.min(), held.max()
            # One value alone is in the middle.
            margin = 0.0 if low < high else max(abs(low) * 1e-3, 1e-12)
            ends[at] = low - margin, high + margin
            counts[at] = [np.histogram(side, N_BARS, tuple(ends[at]))[0] for side in sides]
    return Counts(counts=counts, ends=ends)


def _table(found: xr.Dataset, caption: str) -> Table:
    heads = ("Pair", "Layer", "Records", "Skipped", "Norm", "Reliability", "d\N{PRIME}", "AUC")
    rows: list[tuple[Cell, ...]] = []
    for at, pair in enumerate(found["pair"].values.tolist()):
        for layer, label in enumerate(found["layer"].values.tolist()):
            one = found.isel(pair=at, layer=layer)
            first, second = one["count"].values.tolist()
            figures = (float(one[name]) for name in ("norm", "reliability", "dprime", "auc"))
            n = f"{first:,} and {second:,}"
            rows.append((pair, str(label), n, int(one["skipped"].sum()), *figures))
    return Table(heads=heads, rows=rows, right=frozenset(heads[1:]), caption=caption)


def _matrices(found: xr.Dataset) -> Cards:
    """Return cosines between pairs, at the layers where vectors are longest."""
    norms = np.nan_to_num(found["norm"].mean("pair").values)
    longest = np.argsort(-norms, kind="stable")[:MOST_MATRICES]
    names = found["pair"].values.tolist()
    cards = [
        Card(
            title=f"layer {found['layer'].values[layer]}",
            aside=f"mean norm {norms[layer]:.4g}",
            content=_matrix(found["cosine"].isel(layer=layer).values, names),
        )
        for layer in longest
    ]
    told = ", ".join(f"{at} {name}" for at, name in enumerate(names, 1))
    return Cards(cards=tuple(cards), caption=f"Cosines between the vectors of pairs: {told}")


def _matrix(cosines: NDArray[np.float64], names: Sequence[str]) -> figure:
    """Return a square of coloured cells: (pair, other pair)."""
    from bokeh.core.properties import value
    from bokeh.models import BasicTicker, ColumnDataSource

    n = len(names)
    made = plain_figure(
        height=300, x_range=(0.5, n + 0.5), y_range=(n + 0.5, 0.5), x_axis_location="above"
    )
    for axis in made.axis:
        axis.ticker = BasicTicker(min_interval=1, desired_num_ticks=MOST_PAIRS)
        axis.axis_line_color = axis.major_tick_line_color = None
    down, across = (one.reshape(-1) for one in np.indices((n, n)))
    values = cosines.reshape(-1)
    said = ["\N{EN DASH}" if np.isnan(one) else f"{one:.2f}" for one in values]
    strength = np.abs(np.nan_to_num(values))
    source = ColumnDataSource(
        {
            "x": across + 1,
            "y": down + 1,
            "colour": np.where(values < 0, ACCENT, LIT).tolist(),
            "strength": 0.04 + 0.9 * strength,
            "ink": np.where(strength > _STRONG, "#ffffff", INK).tolist(),
            "says": [one.replace("-", MINUS) for one in said],
            "pair": [names[at] for at in down.tolist()],
            "other": [names[at] for at in across.tolist()],
        }
    )
    cells = made.rect(
        "x", "y", 0.96, 0.96, source=source, fill_color="colour", fill_alpha="strength",
        line_color=None,
    )  # fmt: skip
    if n <= MOST_NUMBERS:
        made.text(
            "x", "y", "says", source=source, text_align="center", text_baseline="middle",
            text_color="ink", text_font_size="12px", text_font=value(FONT),
        )  # fmt: skip
    made.add_tools(tooltip(cells, [("pair", "@pair"), ("other", "@other"), ("cosine", "@says")]))
    return made


def _projections(pair: Pair, values: Any, at: int) -> Card | None:
    """Return both sides of a pair at the layer where they lie farthest apart."""
    found = values["found"].isel(pair=at)
    dprime = np.nan_to_num(found["dprime"].values, nan=-np.inf)
    layer = int(dprime.argmax())
    ends = values["bars"].ends[at, layer]
    if np.isnan(ends).any():
        return None
    edges = np.linspace(ends[0], ends[1], N_BARS + 1)
    counts = values["bars"].counts[at, layer].astype(np.float64)
    one, labels = found.isel(layer=layer), [str(pair.first), str(pair.second)]
    return Card(
        title=pair.name,
        aside=f"layer {one['layer'].item()}",
        content=draw_overlaid([Histogram(edges=edges, counts=side) for side in counts], labels),
        legend=legend(labels),
        note=f"d\N{PRIME} {float(one['dprime']):.3g}, AUC {float(one['auc']):.3g}".replace(
            "-", MINUS
        ),
    )


SECTION = Section(
    title="Contrasts",
    place=80,
    draw=draw,
    values=values,
    suits=_suits,
    about="Vectors that lead from one set of records to its counterpart. Each is judged by the "
    "records that it wasn't made of: d\N{PRIME} is the gap of both means in standard deviations, "
    "AUC how often a record of the first side lies ahead.",
)
