"""How sure true neighbors are, and among how many vectors each label leaves them to be searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.report.section import Piece, Section, Sentence, Table
from h5dask.report.sections import _tally
from h5dask.report.sections._blocks import over_blocks
from h5dask.report.sections._choice import distances_of

CERTIFIED = "certified"
"""The attribute that says for how many queries a float32 bound was enough."""
SIDES = ("train_labels", "test_labels")
"""The label of each base vector, and of each query."""
STATED = "valid_ratios"
"""Shares of the base by label."""


def values(ds: xr.Dataset) -> dict[str, Any]:
    """Ask how often each label is there on either side, and for the shares that are stated."""
    if not _is_labelled(ds):
        return {}
    looks = _tally.tally, _tally.merge
    asked = {name: over_blocks("count", name, ds[name].variable, *looks) for name in SIDES}
    if STATED in ds and ds[STATED].ndim == 1:
        asked[STATED] = over_blocks("share", STATED, ds[STATED].variable, np.array, np.concatenate)
    return asked


def draw(ds: xr.Dataset, values: Any) -> list[Piece]:
    """Return a line on certified queries, and a table of labels."""
    made: list[Piece] = []
    n_queries = len(next(iter(distances_of(ds).values())))
    if _is_counted(ds):
        n = int(ds.attrs[CERTIFIED])
        share = f"{n:,} of {n_queries:,} queries ({n / n_queries:.1%})"
        made.append(
            Sentence(f"Certified by a bound in float32: {share}. Of the others, float64 decided.")
        )
    if not values:
        return made
    base, queries = (values[name] for name in SIDES)
    if base is None or queries is None:
        return [*made, Sentence(f"More than {_tally.MOST} labels, which aren't listed.")]
    heads = ("Label", "Base vectors", "Share of the base", "Share stated", "Queries")
    stated = _stated(sorted(base), values.get(STATED, np.zeros(0)))
    rows = [
        (str(label), base[label], base[label] / base.total(), stated.get(label), queries[label])
        for label in sorted({*base, *queries})
    ]
    caption = "A query's neighbors are among the base vectors of its label"
    return [*made, Table(heads=heads, rows=rows, right=frozenset(heads[1:]), caption=caption)]


def _stated(labels: list[int], shares: NDArray[Any]) -> dict[int, float]:
    """Return the share that is stated of each label of the base: by the label, or by its rank."""
    if labels and labels[0] >= 0 and len(shares) == labels[-1] + 1:
        return {label: float(shares[label]) for label in labels}
    return dict(zip(labels, shares.tolist(), strict=True)) if len(shares) == len(labels) else {}


def _is_labelled(ds: xr.Dataset) -> bool:
    return all(name in ds and ds[name].ndim == 1 and ds[name].dtype.kind in "iu" for name in SIDES)


def _is_counted(ds: xr.Dataset) -> bool:
    return isinstance(ds.attrs.get(CERTIFIED), int | np.integer)


SECTION = Section(
    title="Ground truth",
    place=95,
    draw=draw,
    values=values,
    suits=lambda ds: bool(distances_of(ds)) and (_is_counted(ds) or _is_labelled(ds)),
    about="How many queries are certified, and how many vectors each label leaves to search.",
)
