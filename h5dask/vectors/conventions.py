"""Ids and distances between our convention and big-ann's: numpy in, numpy out.

What contradicts the metric that it is said to have is refused, never converted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import LayoutError, Refused
from h5dask.storage.bigann import DISTANCE, ID

METRICS = ("euclidean", "ip")
"""What distances in a .bin can be."""
_ROUNDING = 1e-4
"""Share of a distance by which a row's last must differ from its first to show an order."""

Floats = NDArray[np.float64]


def stored_ids(block: NDArray[Any], start: int, *, subject: str) -> NDArray[np.int32]:
    """Return ids as int32."""
    limits = np.iinfo(ID)
    wrong = np.argwhere((block < limits.min) | (block > limits.max))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise Refused(
            f"{subject}: {_row(at[0] + start)}: found the id {int(block[at])!r}, expected int32 up "
            f"to {limits.max!r}, which big-ann's ids are; split the base, or write an ann file"
        )
    return block.astype(ID)


def ours(block: NDArray[Any], start: int, *, metric: str, integers: bool, subject: str) -> Floats:
    """Return distances in our convention."""
    values = block.astype(np.float64)
    _refuse_no_distance(values, start, metric, subject)
    _refuse_other_order(values, start, metric, subject, descending=metric == "ip")
    if metric == "euclidean":
        return np.asarray(np.sqrt(values))
    return float(not integers) - values


def theirs(
    block: NDArray[Any], start: int, *, metric: str, integers: bool, subject: str
) -> NDArray[np.float32]:
    """Return what big-ann stores of distances in our convention."""
    values = block.astype(np.float64)
    _refuse_no_distance(values, start, metric, subject)
    _refuse_other_order(values, start, metric, subject, descending=False)
    with np.errstate(over="ignore"):
        wide = np.square(values) if metric == "euclidean" else float(not integers) - values
        found = wide.astype(DISTANCE)
    lost = np.argwhere(np.isinf(found) & np.isfinite(values))
    if len(lost):
        at = tuple(int(i) for i in lost[0])
        raise Refused(
            f"{subject}: {_row(at[0] + start)}: found the distance {float(values[at])!r}, expected "
            "one that big-ann's float32 holds; scale the vectors"
        )
    return found


def _refuse_no_distance(values: Floats, start: int, metric: str, subject: str) -> None:
    """Raise where values are NaN, or negative and so no euclidean distances."""
    wrong = np.isnan(values)
    if metric == "euclidean":
        wrong |= values < 0
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise LayoutError(
            f"{subject}: {_row(at[0] + start)}: found the distance {float(values[at])!r}, expected "
            f"none such of metric={metric!r}; name the metric that they have, or compute them again"
        )


def _refuse_other_order(
    values: Floats, start: int, metric: str, subject: str, *, descending: bool
) -> None:
    """Raise where most queries' distances run the other way, which rounding alone never does."""
    if values.ndim < 2 or values.shape[1] < 2:
        return
    first, last = values[:, 0], values[:, -1]
    with np.errstate(invalid="ignore"):
        apart = np.abs(first - last) > _ROUNDING * np.maximum(np.abs(first), np.abs(last))
    falls, rises = int((apart & (first > last)).sum()), int((apart & (first < last)).sum())
    against, along = (rises, falls) if descending else (falls, rises)
    if against > along:
        found, expected = ("ascend", "descending") if descending else ("descend", "ascending")
        raise LayoutError(
            f"{subject}: queries {start:,} to {start + len(values) - 1:,}: the distances of "
            f"{against:,} {found}, expected {expected} ones for metric={metric!r}; "
            "name the metric that they have, or convert them"
        )


def _row(query: int) -> str:
    return f"row {query:,}"
