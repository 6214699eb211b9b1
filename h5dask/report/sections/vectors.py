"""How long vectors are: of each variable, and layer by layer and scenario by scenario."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.ops import moments
from h5dask.ops.moments import Moments
from h5dask.report.section import Card, Cards, Cell, Piece, Section, Table
from h5dask.report.sections import _spread
from h5dask.report.sections._blocks import PIECE, blocked, over_blocks
from h5dask.report.sections._choice import layers_of, scenarios_of, vectors_of
from h5dask.report.sections._histogram import histogram
from h5dask.report.sections._plots import (
    COLOURS,
    FAINT,
    draw_histogram,
    legend,
    plain_figure,
    tooltip,
)
from h5dask.report.sections._spread import Spread

if TYPE_CHECKING:
    from bokeh.plotting import figure

MOST = 20
"""Variables that are shown."""
MOST_ROWS = 500
"""Rows of a table of layers and scenarios."""
_SAME = 1e-5
"""Lengths that differ by no more of themselves are one: rounding alone leaves so much."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Lengths:
    """What is known of vectors' lengths when each was seen once."""

    spread: Spread
    """Of all of them; NaN where anything in a vector isn't finite."""
    n_zero: int
    """Vectors of zeros."""
    by: Moments
    """Of each scenario, at each layer where there are any."""


def values(ds: xr.Dataset) -> dict[Hashable, Any]:
    """Ask for the lengths of the vectors of every variable that holds some."""
    return {
        name: over_blocks(
            "lengths",
            str(name),
            _measured(blocked(one.variable)),
            _look,
            _merge,
            first=_spread.origin_of,
            rows=scenarios_of(ds, one.dims[0])[0],
        )
        for name, one in list(vectors_of(ds).items())[:MOST]
    }


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table and histograms of lengths, then what becomes of them along layers."""
    heads = ("Variable", "Along", "Vectors", "Not finite", "Zero", "Min", "Mean", "Max", "Std")
    rows: list[tuple[Cell, ...]] = []
    cards: list[Card] = []
    for name, found in values.items():
        spread = found.spread
        n_lost = spread.n - spread.n_finite
        told = (spread.least, spread.mean, spread.most, spread.std)
        moments_ = told if spread.n_finite else (None,) * 4
        rows.append((str(name), str(ds[name].dims[-1]), spread.n, n_lost, found.n_zero, *moments_))
        drawn = None if _is_one(spread) else histogram(spread, whole=False)
        if drawn is not None:
            note = "logarithmic axis" if drawn.log else ""
            picture = draw_histogram(drawn, whole=False)
            cards.append(Card(title=str(name), aside="length", content=picture, note=note))
    made: list[Piece] = [Table(heads=heads, rows=rows, right=frozenset(heads[2:]))]
    if cards:
        made.append(Cards(cards=tuple(cards)))
    for name, found in values.items():
        made += _by_layer(ds, ds[name], found.by)
    return made


def _measured(array: da.Array) -> da.Array:
    """Return the length of each vector, float64, in blocks that cut rows alone."""
    whole = array.rechunk({array.ndim - 1: -1})
    lengths: da.Array = da.map_blocks(_lengths, whole, drop_axis=array.ndim - 1, dtype=np.float64)
    uncut: da.Array = lengths.rechunk(dict.fromkeys(range(1, lengths.ndim), -1))
    return uncut


def _lengths(block: NDArray[Any]) -> NDArray[np.float64]:
    vectors = block.reshape(-1, block.shape[-1])
    made = np.empty(len(vectors))
    step = max(1, PIECE // max(1, vectors.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, len(vectors), step):
            piece = vectors[at : at + step].astype(np.float64)
            made[at : at + step] = np.sqrt(np.einsum("ij,ij->i", piece, piece))
    made[~np.isfinite(made)] = np.nan
    return made.reshape(block.shape[:-1])


def _look(
    lengths: NDArray[np.float64], origin: float, codes: NDArray[np.int32] | None = None
) -> Lengths:
    """Return what is known of a block of lengths: (row,), (row, layer) or of more dims."""
    one = np.array([len(lengths)]), np.zeros(1, np.int64)
    runs = one if codes is None else (np.ones(len(codes), np.int64), codes.astype(np.int64))
    axes = (0,) if lengths.ndim == 2 else tuple(range(lengths.ndim))
    return Lengths(
        spread=_spread.spread(lengths, origin),
        n_zero=int(np.count_nonzero(lengths == 0)),
        by=moments.moments(lengths, runs, axes=axes, along=0),
    )


def _merge(parts: list[Lengths]) -> Lengths:
    return Lengths(
        spread=_spread.merge([part.spread for part in parts]),
        n_zero=sum(part.n_zero for part in parts),
        by=moments.merge([part.by for part in parts]),
    )


def _is_one(spread: Spread) -> bool:
    """Return whether all vectors are of one length."""
    if spread.least is None or spread.most is None:
        return True
    return spread.most - spread.least <= _SAME * spread.most


def _by_layer(ds: xr.Dataset, x: xr.DataArray, by: Moments) -> Iterator[Piece]:
    """Yield a picture and a table of lengths by scenario and layer, where there are several."""
    _, names = scenarios_of(ds, x.dims[0])
    scenarios, layers = [names[code] for code in by.groups], layers_of(x)
    if len(layers) * len(scenarios) <= 1:
        return
    shape = len(scenarios), len(layers)
    n, *lost = by.counts.reshape(4, *shape)
    known = np.where(n > 0, n, np.nan)
    deviations = np.sqrt(by.squares.reshape(shape) / known)
    low, means, high = (one.reshape(shape) + 0 * known for one in (by.low, by.mean, by.high))
    if len(layers) > 1:
        left_out = len(scenarios) - len(COLOURS)
        yield Card(
            title=str(x.name),
            aside="mean length by layer, and one standard deviation to either side",
            content=_lines(means, deviations, layers, scenarios),
            legend=legend(scenarios) if len(scenarios) > 1 else (),
            note=f"{left_out:,} more not drawn" if left_out > 0 else "",
        )
    heads = ("Scenario", "Layer", "Vectors", "Not finite", "Min", "Mean", "Max", "Std")
    figures = [n, np.sum(lost, axis=0), low, means, high, deviations]
    rows: list[tuple[Cell, ...]] = [
        (scenario, layer, *(one[i, j].item() for one in figures))
        for i, scenario in enumerate(scenarios)
        for j, layer in enumerate(layers)
    ]
    shown = [at for at, labels in enumerate((scenarios, layers)) if len(labels) > 1]
    what = " and ".join(heads[at].lower() for at in shown)
    shown += range(2, len(heads))
    more = f", the first {MOST_ROWS} of {len(rows):,}" if len(rows) > MOST_ROWS else ""
    yield Table(
        heads=tuple(heads[at] for at in shown),
        rows=[tuple(row[at] for at in shown) for row in rows[:MOST_ROWS]],
        right=frozenset(heads[1:]),
        caption=f"Lengths of {x.name} by {what}{more}",
    )


def _lines(
    means: NDArray[np.float64],
    stds: NDArray[np.float64],
    layers: Sequence[str],
    scenarios: Sequence[str],
) -> figure:
    """Return a line a scenario of what is (scenario, layer), each point with its deviation."""
    from bokeh.models import ColumnDataSource, FixedTicker, PlainText

    many = max(1, len(layers) // 12)
    made = plain_figure(height=280, min_border_left=48, min_border_right=10)
    made.ygrid.grid_line_color = FAINT
    ticks = list(range(0, len(layers), many))
    made.xaxis.ticker = FixedTicker(ticks=ticks)
    made.xaxis.major_label_overrides = {at: PlainText(text=layers[at]) for at in ticks}
    n_drawn = min(len(scenarios), len(COLOURS))
    for i in range(n_drawn):
        # Side by side, so that deviations don't hide each other.
        aside = (i - (n_drawn - 1) / 2) * min(0.3 / n_drawn, 0.007 * (len(layers) - 1))
        places = np.arange(len(layers)) + aside
        source = ColumnDataSource(
            {
                "x": places,
                "mean": means[i],
                "low": means[i] - stds[i],
                "high": means[i] + stds[i],
                "layer": list(layers),
                "scenario": [scenarios[i]] * len(layers),
                "says": [
                    f"{m:.5g} \N{PLUS-MINUS SIGN} {s:.3g}"
                    for m, s in zip(means[i], stds[i], strict=True)
                ],
            }
        )
        made.segment("x", "low", "x", "high", source=source, line_color=COLOURS[i], line_alpha=0.5)
        made.line("x", "mean", source=source, line_color=COLOURS[i], line_width=2)
        points = made.scatter("x", "mean", source=source, size=6, color=COLOURS[i])
        tips = [("layer", "@layer"), ("length", "@says")]
        named = [("scenario", "@scenario")] if len(scenarios) > 1 else []
        made.add_tools(tooltip(points, [*named, *tips]))
    return made


SECTION = Section(
    title="Vectors",
    place=60,
    draw=draw,
    values=values,
    suits=lambda ds: bool(vectors_of(ds)),
    about="How long vectors are: the square root of their sum of squares, in float64.",
)
