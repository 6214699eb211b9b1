"""How sure logits are: entropies and top probabilities, of all rows and of each scenario."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.ops.logits import logit_statistics
from h5dask.report.section import Card, Cards, Cell, Piece, Section, Table
from h5dask.report.sections import _spread
from h5dask.report.sections._blocks import blocked, over_blocks
from h5dask.report.sections._choice import logits_of, scenarios_of
from h5dask.report.sections._histogram import Histogram, alike, histogram
from h5dask.report.sections._plots import draw_histogram
from h5dask.report.sections._spread import Spread

MOST = 8
"""Variables that are shown."""
MOST_SCENARIOS = 24
"""Scenarios that have a picture ..."""
MOST_ROWS = 200
"""... and a row of a table."""
FIGURES = {"entropy": "Entropy, nats", "top_probability": "Probability of the likeliest"}
"""What is asked for, and what it is called."""

Spreads = Mapping[int, Spread]
"""Of each scenario, by its number; of rows without one by -1."""


def values(ds: xr.Dataset) -> dict[Hashable, dict[str, Any]]:
    """Ask for the spread of each figure in the rows of each scenario."""
    asked: dict[Hashable, dict[str, Any]] = {}
    for name, one in list(logits_of(ds).items())[:MOST]:
        codes, _ = scenarios_of(ds, one.dims[0])
        # Without labels, whose names could be those of results.
        plain = xr.DataArray(blocked(one.variable), dims=one.dims, name=str(name))
        found = logit_statistics(plain, top=1, dim=str(one.dims[-1]))
        more: dict[str, Any] = {"first": _spread.origin_of, "rows": codes}
        asked[name] = {
            figure: over_blocks(figure, str(name), found[figure].data, _look, _merge, **more)
            for figure in FIGURES
        }
    return asked


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a table of scenarios, and histograms of all rows and of each scenario's."""
    made: list[Piece] = []
    for name, found in values.items():
        _, scenarios = scenarios_of(ds, ds[name].dims[0])
        wholes = {figure: _spread.merge(list(found[figure].values())) for figure in FIGURES}
        pictures = {figure: histogram(whole, whole=False) for figure, whole in wholes.items()}
        made.append(_table(str(name), scenarios, found, wholes))
        cards = [
            _card(FIGURES[figure], str(name), picture)
            for figure, picture in pictures.items()
            if picture is not None
        ]
        if cards:
            made.append(Cards(cards=tuple(cards)))
        if pictures["entropy"] is not None and len(scenarios) > 1:
            made.append(_by_scenario(scenarios, found["entropy"], pictures["entropy"]))
    return made


def _look(
    figures: NDArray[np.float64], origin: float, codes: NDArray[np.int32] | None = None
) -> Spreads:
    """Return the spread of a block of figures (row, ...) by scenario."""
    if codes is None:
        return {0: _spread.spread(figures, origin)}
    rows = figures.reshape(len(codes), -1)
    return {int(code): _spread.spread(rows[codes == code], origin) for code in np.unique(codes)}


def _merge(parts: list[Spreads]) -> Spreads:
    codes = sorted({code for part in parts for code in part})
    return {code: _spread.merge([part[code] for part in parts if code in part]) for code in codes}


def _table(
    name: str,
    scenarios: Sequence[str],
    found: Mapping[str, Spreads],
    wholes: Mapping[str, Spread],
) -> Table:
    heads = (
        "Scenario",
        "Rows",
        "Not finite",
        "Min",
        "Mean entropy",
        "Max",
        "Std",
        "Top probability",
    )
    lines = [("all", wholes)]
    if len(scenarios) > 1:
        lines += [
            (scenario, {figure: found[figure][code] for figure in FIGURES})
            for code, scenario in enumerate(scenarios)
        ]
    rows: list[tuple[Cell, ...]] = []
    for scenario, parts in lines[:MOST_ROWS]:
        one, top = parts["entropy"], parts["top_probability"]
        told = (one.least, one.mean, one.most, one.std, top.mean) if one.n_finite else (None,) * 5
        rows.append((scenario, one.n, one.n - one.n_finite, *told))
    left_out = len(lines) - len(rows)
    return Table(
        heads=heads,
        rows=rows,
        right=frozenset(heads[1:]),
        caption=f"Entropy of {name} in nats, and the mean probability of the likeliest choice; "
        "none in a row that isn't finite"
        + (f"; {left_out:,} scenarios are not shown" if left_out else ""),
    )


def _by_scenario(scenarios: Sequence[str], found: Spreads, whole: Histogram) -> Cards:
    shown = list(enumerate(scenarios))[:MOST_SCENARIOS]
    cards = [
        _card(title, f"{found[code].n:,} rows", alike(found[code], whole, whole=False))
        for code, title in shown
    ]
    more = f"; {len(scenarios) - len(shown):,} are not drawn" if scenarios[len(shown) :] else ""
    caption = f"Entropy of each scenario, on the scale of all{more}"
    return Cards(cards=tuple(cards), caption=caption)


def _card(title: str, aside: str, found: Histogram) -> Card:
    notes = ["logarithmic axis"] if found.log else []
    n_outside = found.n_below + found.n_above
    notes += [f"{n_outside:,} lie outside the picture"] if n_outside else []
    picture = draw_histogram(found, whole=False)
    return Card(title=title, aside=aside, content=picture, note="; ".join(notes))


SECTION = Section(
    title="Logits",
    place=90,
    draw=draw,
    values=values,
    suits=lambda ds: bool(logits_of(ds)),
    about="How sure each row is of its choice: 0 nats where one choice has all probability.",
)
