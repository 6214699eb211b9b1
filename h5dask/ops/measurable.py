"""Vectors as kernels take them; those of which there is no distance are refused, by their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.compile import as_bytes
from h5dask.kernels.packing import largest, squares_from
from h5dask.kernels.screening import screen
from h5dask.ops.metrics import Metric, Vectors

_LARGE = 2.0**500
"""Above it squares of float64 values, or their sums, may be no numbers."""
_SHORT = 2.0**-900
"""Below it a sum of squares may have lost the smallest of them."""
_NAMED = 5
"""Rows that a message names."""


def floating(vectors: NDArray[Any]) -> Vectors:
    """Return vectors as float32 where that holds all of their values, else as float64.

    They are lent as writeable, for which alone kernels are compiled.
    """
    small = vectors.dtype.itemsize <= 2 or vectors.dtype == np.float32
    found: Vectors = np.ascontiguousarray(vectors, np.float32 if small else np.float64)
    return as_bytes(found).view(found.dtype).reshape(found.shape) if found.size else found


def measurable(vectors: NDArray[Any], start: int, *, side: str, metric: Metric) -> float:
    """Return the largest size of a block's values; refuse vectors without distances to others.

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
    >>> measurable(np.array([[1.0, -2.0]]), 0, side="base", metric=metric_of("angular"))
    2.0
    >>> measurable(np.zeros((2, 3)), 40, side="base", metric=metric_of("angular"))
    Traceback (most recent call last):
    h5dask.errors.Refused: base: found zero vectors in rows 40, 41; expected ...
    """
    found = []
    wide = floating(vectors)
    most = largest(wide)
    if not most < np.inf:
        marks, _ = screen(wide, wide.shape[1], zeros=False)
        found.append(("NaN or infinite values", marks != 0, "finite numbers"))
    if wide.dtype == np.float64 and not most <= _LARGE:
        with np.errstate(invalid="ignore"):
            far = ((np.abs(wide) > _LARGE) & np.isfinite(wide)).any(axis=1)
        found.append(("values above 2^500", far, "numbers whose squares can be added"))
    if metric.is_unit:
        squares = np.empty(len(wide))
        squares_from(wide, np.zeros(wide.shape[1]), squares)
        short = squares < _SHORT
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
    return most
