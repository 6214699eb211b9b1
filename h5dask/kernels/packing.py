"""Vectors -> what a product multiplies: rows that are moved, scaled and rounded, and their squares.

Which point they are moved to, and how large an error that allows, is decided elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import any_order, as_bytes, kernel

_U = np.uint64
SHORT = 2.0**-537
"""The size of values whose squares are too small to be held."""


def largest(values: NDArray[Any]) -> float:
    """Return the largest size of float32 or float64 values; not finite where one of them isn't.

    Examples
    --------
    >>> largest(np.array([[1.0, -3.0], [2.0, 0.0]]))
    3.0
    """
    if not values.size:
        return 0.0
    bits = as_bytes(np.ascontiguousarray(values)).view(f"i{values.dtype.itemsize}")
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


@any_order
def squares_from(vectors: Any, centre: Any, squares: Any) -> None:
    """Sum the squares of vectors less a centre in float64, in any order: (vector,)."""
    n_features = _U(vectors.shape[1])
    for i in range(_U(len(vectors))):
        total = 0.0
        for j in range(n_features):
            off = np.float64(vectors[_U(i), _U(j)]) - centre[_U(j)]
            total += off * off
        squares[_U(i)] = total


@kernel
def finish(squares: Any, columns: Any, half: Any, extra: Any, packed: Any, slack: Any) -> None:
    """Fill the last two columns of packed rows, and their slack.

    Each of the four is the sum of what doesn't depend on the row, of a multiple of its length and
    of its square; none is less when it is rounded.

    Parameters
    ----------
    squares : (row,) float64
        Of the rows.
    columns : (4, 3) float64
        The addend and both multiples of the last column but one, the last, and of both slacks.
    half : float
        What squares are multiplied by before, or nothing where they don't count.
    extra : float
        What is added of the size of a number, so that rounding makes none less.
    packed : (row, column) float32 or float64
        The last two columns are written.
    slack : (row, 2), of the same dtype
        Written.
    """
    of, last = packed.dtype.type, _U(packed.shape[1] - 1)
    one = _U(1)
    short = np.sqrt(float(packed.shape[1])) * SHORT if extra > 0.0 else 0.0
    for i in range(_U(len(squares))):
        row = _U(i)
        square = squares[row] * half
        length = np.sqrt(squares[row]) * (1.0 + extra) + short
        a = columns[0, 0] + columns[0, 1] * length + columns[0, 2] * square
        b = columns[1, 0] + columns[1, 1] * length + columns[1, 2] * square
        c = columns[2, 0] + columns[2, 1] * length + columns[2, 2] * square
        d = columns[3, 0] + columns[3, 1] * length + columns[3, 2] * square
        packed[row, last - one] = of(a + abs(a) * extra)
        packed[row, last] = of(b + abs(b) * extra)
        slack[row, _U(0)] = of(c + abs(c) * extra)
        slack[row, one] = of(d + abs(d) * extra)


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    for read in (np.float32, np.float64):
        largest(np.ones((1, 1), read))
        squares_from(np.ones((1, 1), read), np.ones(1), np.ones(1))
        for written in (np.float32, np.float64):
            vectors, packed = np.ones((1, 1), read), np.empty((1, 3), written)
            squares, slack = np.empty(1), np.empty((1, 2), written)
            pack(vectors, np.zeros(1, np.int64), False, np.zeros(1), 1.0, packed, squares)
            finish(squares, np.zeros((4, 3)), 0.5, 0.0, packed, slack)
