"""Vectors of which there is no distance: refused where they are read, by their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.packing import largest
from h5dask.kernels.screening import screen
from h5dask.ops.metrics import Metric

_LARGE = 2.0**500
"""Above it squares of float64 values, or their sums, may be no numbers."""
_SHORT = 2.0**-900
"""Below it a sum of squares may have lost the smallest of them."""
_NAMED = 5
"""Rows that a message names."""


def refuse_unmeasurable(vectors: NDArray[Any], start: int, *, side: str, metric: Metric) -> None:
    """Refuse a block with vectors that have no distance to others.

    Parameters
    ----------
    vectors : (vector, feature)
        Of numbers.
    start : int
        Row of the first.
    side : str
        What the rows are of.
    metric : Metric
        Where it is of directions, vectors of length zero have none.

    Examples
    --------
    >>> from h5dask.ops.metrics import metric_of
    >>> refuse_unmeasurable(np.zeros((2, 3)), 40, side="base", metric=metric_of("angular"))
    Traceback (most recent call last):
    h5dask.errors.Refused: base: found zero vectors in rows 40, 41; expected ...
    """
    found = []
    if vectors.dtype.kind == "f":
        marks, _ = screen(vectors, vectors.shape[1], zeros=False)
        found.append(("NaN or infinite values", marks != 0, "finite numbers"))
    if vectors.dtype.kind == "f" and vectors.dtype.itemsize >= 8:
        wide = np.asarray(vectors, np.float64)
        if not largest(wide) <= _LARGE:
            with np.errstate(invalid="ignore"):
                far = ((np.abs(wide) > _LARGE) & np.isfinite(vectors)).any(axis=1)
            found.append(("values above 2^500", far, "numbers whose squares can be added"))
    if metric.is_unit:
        wide = vectors.astype(np.float64)
        short = np.einsum("ij,ij->i", wide, wide) < _SHORT
        found.append(("zero vectors", short, f"vectors with a direction, for {metric.name!r}"))
    lines = []
    for what, bad, expected in found:
        rows = start + np.flatnonzero(bad)
        if len(rows):
            more = f" and {len(rows) - _NAMED} more of this block" if len(rows) > _NAMED else ""
            lines.append(
                f"{side}: found {what} in rows {', '.join(map(str, rows[:_NAMED]))}{more}; "
                f"expected {expected}; leave those rows out, or compute them again"
            )
    if lines:
        raise Refused("\n".join(lines))
