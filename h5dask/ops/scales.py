"""What becomes of one block that is brought to a common scale; the rest is in `normalization`."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.scaling import unit_rows

_PIECE = 2**18
"""Values that are made float64 at once."""
_NOT_FINITE = "vectors aren't finite, and become NaN"


class Loss(UserWarning):
    """Says what became of values that have no place on the new scale."""


def unit(values: NDArray[Any], *, n_axes: int, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return vectors along the last axes with the length 1."""
    n_lead = values.ndim - n_axes
    shape = math.prod(values.shape[:n_lead]), math.prod(values.shape[n_lead:])
    rows = np.ascontiguousarray(values).reshape(shape)
    made = np.empty(shape, dtype)
    length = np.empty(len(rows))
    # Other than these two the kernel knows none: what it makes is rounded once.
    work = np.float32 if rows.dtype == np.float32 else np.float64
    for part in _parts(rows):
        piece = rows[part].astype(work, copy=False)
        out = made[part] if dtype == work else np.empty(piece.shape, work)
        unit_rows(piece, out, _powers(piece), length[part])
        if dtype != work:
            made[part] = out
    warn_of(name, (length == 0).sum(), len(rows), "vectors are zero, and stay so")
    warn_of(name, (~np.isfinite(length)).sum(), len(rows), _NOT_FINITE)
    return made.reshape(values.shape)


def _powers(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the power of two by which each row is multiplied, so that its squares are numbers."""
    if rows.dtype == np.float32 or not rows.size:
        return np.ones(len(rows))
    exponents = np.frexp(np.abs(rows).max(axis=1))[1]
    powers: NDArray[np.float64] = np.ldexp(1.0, np.clip(-exponents, -1022, 1000))
    return powers


def scaled(
    values: NDArray[Any], shift: Any, scale: Any, *, name: str, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return values less a shift, divided by a scale; where that is 0, only shifted."""
    made = np.empty(values.shape, dtype)
    given = np.broadcast_arrays(values, shift, scale)
    target, values, shift, scale = map(np.atleast_1d, (made, *given))
    n_lost = 0
    for part in _parts(values):
        work = values[part].astype(np.float64) - shift[part]
        work /= np.where(scale[part] == 0, 1.0, scale[part])
        n_lost += _round(work, target[part])
    warn_of(name, n_lost, made.size, _beyond(dtype))
    return made


def rotated(
    values: NDArray[Any],
    shift: NDArray[np.float64],
    axes: NDArray[np.float64],
    scale: NDArray[np.float64],
    *,
    name: str,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return vectors along the last axis by their parts along other axes, divided by a scale."""
    rows = np.ascontiguousarray(values).reshape(-1, len(shift))
    made = np.empty(rows.shape, dtype)
    n_lost = n_bad = 0
    for part in _parts(rows):
        work = rows[part].astype(np.float64) - shift
        bad = ~np.isfinite(work).all(axis=1)
        work[bad] = np.nan
        n_bad += bad.sum()
        n_lost += _round(work @ axes.T / scale, made[part])
    warn_of(name, n_bad, len(rows), _NOT_FINITE)
    warn_of(name, n_lost, made.size, _beyond(dtype))
    return made.reshape(values.shape)


def _parts(rows: NDArray[Any]) -> Iterator[slice]:
    """Yield slices of rows, few enough that their float64 stays in the processor's cache."""
    step = max(1, _PIECE // max(1, math.prod(rows.shape[1:])))
    for first in range(0, len(rows), step):
        yield slice(first, first + step)


def _round(work: NDArray[np.float64], made: NDArray[Any]) -> int:
    """Put values into an array of another dtype; return how many finite ones it can't hold."""
    with np.errstate(over="ignore"):
        made[...] = work
    return int((np.isinf(made) & np.isfinite(work)).sum())


def _beyond(dtype: np.dtype[Any]) -> str:
    return (
        f"normalised values are beyond {dtype}, and become infinite; make it float32 before, or "
        "fit on values more alike"
    )


def warn_of(name: str, n: int, n_all: int, what: str) -> None:
    """Warn whoever asked for the values, who may sit at the other end of a cluster."""
    if not n:
        return
    text = f"{name}: {n:,} of {n_all:,} {what}"
    distributed = sys.modules.get("distributed")
    if distributed is None:
        warnings.warn(text, Loss, stacklevel=3)
    else:
        distributed.warn(text, category=Loss)
