"""Vectors -> what a product multiplies: rows that are moved, scaled and rounded, and their squares.

Which point they are moved to, and how large an error that allows, is decided elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import any_order, kernel

_U = np.uint64


def largest(values: NDArray[Any]) -> float:
    """Return the largest size of float32 or float64 values; not finite where one of them isn't.

    Examples
    --------
    >>> largest(np.array([[1.0, -3.0], [2.0, 0.0]]))
    3.0
    """
    bits = np.ascontiguousarray(values).reshape(-1).view(f"i{values.dtype.itemsize}")
    most = np.asarray(_largest(bits, np.iinfo(bits.dtype).max), bits.dtype)
    return float(most.view(values.dtype))


@kernel
def _largest(bits: Any, rest: Any) -> Any:
    """Return the largest of signed words without their sign: unlike floats, many at once."""
    of = bits.dtype.type
    found, without = of(0), of(rest)
    for i in range(len(bits)):
        found = max(found, of(bits[_U(i)] & without))
    return found


@any_order
def pack(
    vectors: Any, order: Any, unit: Any, centre: Any, scale: Any, packed: Any, squares: Any
) -> Any:
    """Fill the first columns of rows with vectors, less a centre and times a scale.

    Parameters
    ----------
    vectors : (vector, feature) float32 or float64
        Finite.
    order : (row,) int64
        Which vector each row is made of.
    unit : bool
        Whether a vector is made of length 1 first; it must not be zero.
    centre : (feature,) float64
        What is subtracted.
    scale : float
        A power of two.
    packed : (row, feature or more) float32 or float64
        Written; columns beyond the features stay.
    squares : (row,) float64
        Written: sums of the squares of rows before they are rounded, added in any order.
    """
    n_features, of = _U(vectors.shape[1]), packed.dtype.type
    for i in range(_U(len(order))):
        row = _U(order[_U(i)])
        inverse, total = 1.0, 0.0
        if unit:
            for j in range(n_features):
                x = np.float64(vectors[row, _U(j)])
                total += x * x
            inverse, total = 1.0 / np.sqrt(total), 0.0
        for j in range(n_features):
            y = (np.float64(vectors[row, _U(j)]) * inverse - centre[_U(j)]) * scale
            packed[_U(i), _U(j)] = of(y)
            total += y * y
        squares[_U(i)] = total


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    for read in (np.float32, np.float64):
        largest(np.ones((1, 1), read))
        for written in (np.float32, np.float64):
            vectors, packed = np.ones((1, 1), read), np.empty((1, 3), written)
            pack(vectors, np.zeros(1, np.int64), False, np.zeros(1), 1.0, packed, np.empty(1))
