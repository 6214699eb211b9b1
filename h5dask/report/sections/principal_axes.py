"""Vectors seen along the two directions in which they differ most, coloured by what they are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy.linalg import eigh

from h5dask.report.section import Card, Piece, Section
from h5dask.report.sections._blocks import blocked, over_blocks
from h5dask.report.sections._choice import layers_of, vectors_of
from h5dask.report.sections._plots import COLOURS, FAINT, INK, legend, plain_figure, tooltip
from h5dask.report.sections._tally import LONGEST

if TYPE_CHECKING:
    from bokeh.plotting import figure

MOST = 4
"""Variables that are shown."""
MOST_POINTS = 2_000
"""Vectors of a picture."""
HELD = 2**25
"""Bytes that they may take in float64."""
FEWEST_POINTS = 3
"""Fewer lie on a line whatever they are."""
MOST_LABELS = 30
"""Variables of labels that are looked at."""
_FEW, _MANY = 2, len(COLOURS)
"""Different labels that colours can tell apart."""

Labels = list[Any]
"""Of rows: text, whole numbers or bools, all of one kind, or None."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Places:
    """Where some vectors lie along the first two principal axes."""

    rows: NDArray[np.int64]
    """Which of them have a place: those that are finite."""
    places: NDArray[np.float64]
    """(row, axis)."""
    shares: NDArray[np.float64]
    """Of the variance along each axis: (axis,)."""


def values(ds: xr.Dataset) -> dict[Hashable, Any]:
    """Ask for the places of some rows of each variable, and for the labels of these."""
    asked: dict[Hashable, Any] = {}
    for name, one in list(_fitting(ds).items())[:MOST]:
        step = _step(one)
        array = blocked(one.variable)[::step]
        array = (array if one.ndim == 2 else array[:, -1]).rechunk({1: -1})
        rows = over_blocks("sample", str(name), array, _copied, np.concatenate)
        labels = {
            by: over_blocks("label", str(by), blocked(label.variable)[::step], _said, _end_to_end)
            for by, label in _labels(ds, one.dims[0]).items()
        }
        asked[name] = {"places": delayed(placed, pure=True)(rows), "labels": labels}
    return asked


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a picture of points for each variable."""
    made: list[Piece] = []
    for name, found in values.items():
        places: Places = found["places"]
        if len(places.rows) < FEWEST_POINTS or not np.isfinite(places.shares).all():
            continue
        one, step = ds[name], _step(ds[name])
        by, labels = _best(found["labels"], places.rows)
        kept = sorted({label for label in labels if label is not None})
        first, second = (f"{share:.0%}" for share in places.shares)
        notes = [f"coloured by {by}"] if kept else []
        if len(places.rows) < len(one):
            notes.append(f"{len(places.rows):,} of {len(one):,} rows")
        made.append(
            Card(
                title=str(name) if one.ndim == 2 else f"{name}, {one.dims[1]} {layers_of(one)[-1]}",
                aside=f"{first} of the variance across, {second} upwards",
                content=_points(places, places.rows * step, labels, kept),
                legend=legend([str(label) for label in kept]),
                note=", ".join(notes),
            )
        )
    return made


def placed(vectors: NDArray[Any]) -> Places:
    """Return where vectors (row, column) lie along the two directions of largest variance.

    Each direction is oriented so that its largest entry is positive, as those of `pca` are.

    Examples
    --------
    >>> found = placed(np.array([[0.0, 0.0], [2.0, 1.0], [np.nan, 1.0], [4.0, 2.0]]))
    >>> found.rows, found.shares.round(6) + 0.0
    (array([0, 1, 3]), array([1., 0.]))
    """
    values = vectors.astype(np.float64)
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    values = values[rows]
    with np.errstate(over="ignore", invalid="ignore"):
        values -= values.mean(axis=0) if len(rows) else 0.0
        # Products of rows lead to the same directions as those of columns, which may be more.
        products = values @ values.T
    total = np.trace(products)
    if len(rows) < FEWEST_POINTS or not np.isfinite(total):
        return Places(rows=rows, places=np.zeros((len(rows), 2)), shares=np.full(2, np.nan))
    last = [len(rows) - 2, len(rows) - 1]
    squares, along = eigh(products, subset_by_index=last)
    squares, along = np.maximum(squares[::-1], 0.0), along[:, ::-1]
    directions = along.T @ values
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, np.newaxis], 1)
    places = along * np.sqrt(squares) * np.copysign(1.0, largest[:, 0])
    return Places(rows=rows, places=places, shares=squares / (total or np.nan))


def _fitting(ds: xr.Dataset) -> dict[Hashable, xr.DataArray]:
    """Return the variables of vectors, or of layers of vectors, that have rows enough."""
    return {
        name: one
        for name, one in vectors_of(ds).items()
        if one.ndim <= 3 and len(one) >= FEWEST_POINTS and _most(one) >= FEWEST_POINTS
    }


def _most(x: xr.DataArray) -> int:
    """Return how many vectors are looked at, at most."""
    return min(MOST_POINTS, HELD // (8 * x.shape[-1]))


def _step(x: xr.DataArray) -> int:
    """Return every which row is looked at."""
    return -(-len(x) // _most(x))


def _copied(block: NDArray[Any]) -> NDArray[Any]:
    return block.copy()  # a view would keep all of the block that it was taken from


def _labels(ds: xr.Dataset, dim: Hashable) -> dict[Hashable, xr.DataArray]:
    """Return the variables that may say what rows are: text, then numbers, labels first of each."""
    along = {
        name: ds[name]
        for name in (*ds.xindexes, *ds.data_vars, *ds.coords)
        if ds[name].dims == (dim,) and ds[name].dtype.kind in "OUiub"
    }
    ranked = sorted(along, key=lambda name: along[name].dtype.kind not in "OU")
    return {name: along[name] for name in ranked[:MOST_LABELS]}


def _said(block: NDArray[Any]) -> Labels:
    """Return a block's labels, None for what is no label."""
    return [
        label if isinstance(label, int) or _is_short(label) else None for label in block.tolist()
    ]


def _is_short(label: Any) -> bool:
    return isinstance(label, str) and len(label) <= LONGEST


def _end_to_end(parts: list[Labels]) -> Labels:
    return [label for part in parts for label in part]


def _best(found: Mapping[Hashable, Labels], rows: NDArray[np.int64]) -> tuple[Hashable, Labels]:
    """Return the first labels that colours can tell apart, and what they are called."""
    for name, labels in found.items():
        mine = [labels[row] for row in rows]
        if _FEW <= len({label for label in mine if label is not None}) <= _MANY:
            return name, mine
    return "", [None] * len(rows)


def _points(found: Places, rows: NDArray[np.int64], labels: Labels, kept: Labels) -> figure:
    """Return a picture of points, each in the colour of its label."""
    from bokeh.models import ColumnDataSource

    colour = dict(zip(kept, COLOURS, strict=False))
    across, upwards = found.places.T
    source = ColumnDataSource(
        {
            "x": across,
            "y": upwards,
            "row": [f"{row:,}" for row in rows],
            "label": ["\N{EN DASH}" if label is None else str(label) for label in labels],
            "colour": [colour.get(label, INK if kept else COLOURS[0]) for label in labels],
        }
    )
    made = plain_figure(height=400, min_border_left=40, min_border_right=10)
    made.grid.grid_line_color = FAINT
    points = made.scatter(
        "x", "y", source=source, size=6, color="colour", alpha=0.7, line_color=None
    )
    tips = [("label", "@label")] if kept else []
    made.add_tools(tooltip(points, [("row", "@row"), *tips]))
    return made


SECTION = Section(
    title="Principal axes",
    place=70,
    draw=draw,
    values=values,
    suits=lambda ds: bool(_fitting(ds)),
    about="Vectors along the two directions in which they differ most: near points are alike "
    "there, and may differ in all others.",
)
