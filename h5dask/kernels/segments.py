"""Rows that lie end to end -> rows of one length each, with zeros behind them; and back.

What the elements are isn't known here: they come as bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import as_bytes, kernel

_U = np.uint64


def spread(values: NDArray[Any], sizes: NDArray[np.int64], width: int) -> NDArray[Any]:
    """Return rows that lie end to end side by side.

    Parameters
    ----------
    values : (element, ...)
        Of any dtype without references; row after row.
    sizes : (row,) int64
        Elements of each row; their sum is the number of elements.
    width : int
        Elements of each row of the result. What exceeds it is cut off.

    Returns
    -------
    (row, width, ...)
        Zeros follow where a row is shorter.

    Examples
    --------
    >>> spread(np.array([1, 2, 3]), np.array([1, 2]), 3)
    array([[1, 0, 0],
           [2, 3, 0]])
    """
    out = np.empty((len(sizes), width, *values.shape[1:]), values.dtype)
    if out.size:
        flat, step = _bytes(values, 1)
        side, _ = _bytes(out, 2)
        _spread(flat, np.ascontiguousarray(sizes, np.int64), step, width * step, side)
    return out


def gather(rows: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[Any]:
    """Return the first elements of each row, end to end; the inverse of `spread`.

    Parameters
    ----------
    rows : (row, width, ...)
        Of any dtype without references.
    sizes : (row,) int64
        How many of each, none more than the width.

    Examples
    --------
    >>> gather(np.array([[1, 0, 0], [2, 3, 0]]), np.array([1, 2]))
    array([1, 2, 3])
    """
    out = np.empty((int(sizes.sum()), *rows.shape[2:]), rows.dtype)
    if out.size:
        flat, step = _bytes(out, 1)
        side, _ = _bytes(rows, 2)
        width = rows.shape[1] * step
        _gather(side, np.ascontiguousarray(sizes, np.int64), step, width, flat)
    return out


def _bytes(values: NDArray[Any], inner: int) -> tuple[NDArray[Any], int]:
    """Return an array's bytes, and how many an element has, whose own axes begin there."""
    held = np.ascontiguousarray(values)
    return as_bytes(held), held.itemsize * math.prod(held.shape[inner:])


@kernel
def _spread(flat: Any, sizes: Any, step: Any, width: Any, rows: Any) -> None:
    at = _U(0)
    for row in range(len(sizes)):
        mine = _U(sizes[row]) * _U(step)
        n = min(mine, _U(width))
        start = _U(row) * _U(width)
        for j in range(n):
            rows[start + _U(j)] = flat[at + _U(j)]
        for j in range(n, _U(width)):
            rows[start + _U(j)] = 0
        at += mine


@kernel
def _gather(rows: Any, sizes: Any, step: Any, width: Any, flat: Any) -> None:
    at = _U(0)
    for row in range(len(sizes)):
        n = _U(sizes[row]) * _U(step)
        start = _U(row) * _U(width)
        for j in range(n):
            flat[at + _U(j)] = rows[start + _U(j)]
        at += n


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    one = np.ones(1, np.int64)
    gather(spread(np.ones(1, np.uint8), one, 1), one)
