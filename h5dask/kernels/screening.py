"""Vectors that are zero, and values that aren't finite, found by their bits in one pass.

What is made of them lies elsewhere. A whole number's largest and least need no care for NaN, so
that many values are looked at at once, where floats would be one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import as_bytes, inlined, kernel

NAN, POSINF, NEGINF, ZERO = 1, 2, 4, 8
"""Bits that mark a vector: it holds such a value, or nothing but zeros."""

_TILE = np.uint64(1024)
"""Values that are looked at together; only where one is suspicious, each vector by itself."""
_FLOATS = tuple(map(np.dtype, ("f2", "f4", "f8")))
_ONE = np.uint64(1)


def screen(
    values: NDArray[Any], width: int, *, zeros: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return what each vector of a block holds, and how much of it there is.

    Parameters
    ----------
    values : array of float, complex, int8 or uint8
        Of any shape. Copied where it isn't C-contiguous or is of a rarer dtype; of complex numbers
        both parts are values.
    width : int
        Values of a vector; the block is full of them, in C order.
    zeros : bool, default True
        Whether vectors of nothing but zeros, of either sign, are looked for.

    Returns
    -------
    marks : (vector,) uint8
        Sums of `NAN`, `POSINF`, `NEGINF` and `ZERO`.
    counts : (4,) int64
        Values that are NaN, infinity and minus infinity, and vectors that are zero.

    Notes
    -----
    Memory: a byte a vector.

    Examples
    --------
    >>> values = np.array([[0, -0.0], [1, np.nan], [-np.inf, np.inf], [5e-324, 0]])
    >>> marks, counts = screen(values, 2)
    >>> marks.tolist(), counts.tolist()
    ([8, 1, 6, 0], [1, 1, 1, 1])
    """
    marks = np.zeros(values.size // max(width, 1), np.uint8)
    counts = np.zeros(4, np.int64)
    if not values.size:
        return marks, counts
    if values.dtype.kind == "c":
        values, width = _parts(values), 2 * width
    dtype = values.dtype.newbyteorder("=")
    if dtype.itemsize == 1:
        bits = np.dtype(np.uint8)
        infinity: Any = np.int64(256)  # beyond them all
    else:
        dtype = dtype if dtype in _FLOATS else _FLOATS[-1]
        bits = np.dtype(f"i{dtype.itemsize}")
        infinity = np.array(np.inf, dtype).view(bits)[()]
    raw = as_bytes(np.require(values, dtype, ["C", "A"])).view(bits)
    _screen(raw, width, zeros, bits.type(np.iinfo(bits).max), infinity, marks, counts)
    return marks, counts


def _parts(values: NDArray[Any]) -> NDArray[Any]:
    """Return the real and imaginary parts of complex numbers side by side."""
    return np.stack([values.real, values.imag], axis=-1)


@inlined
def _extent(bits: Any, start: Any, n: Any, rest: Any) -> Any:
    """Return the least and the largest of some values, as whole numbers without their sign."""
    of = bits.dtype.type  # without it numba would compute 64 bits wide
    least, largest = rest, of(0)
    for c in range(n):
        size = of(bits[start + c] & rest)
        least = of(min(least, size))
        largest = of(max(largest, size))
    return least, largest


@inlined
def _lost(bits: Any, start: Any, n: Any, rest: Any, infinity: Any, counts: Any) -> Any:
    """Count what of a vector isn't finite, and return its mark."""
    nan, infinite, negative = 0, 0, 0
    for c in range(n):
        value = bits[start + c]
        size = value & rest
        nan += size > infinity
        infinite += size == infinity
        negative += (size == infinity) & (value < 0)
    counts[0] += nan
    counts[1] += infinite - negative
    counts[2] += negative
    return NAN * (nan > 0) + POSINF * (infinite > negative) + NEGINF * (negative > 0)


@kernel
def _screen(
    bits: NDArray[Any],
    width: int,
    zeros: bool,
    rest: Any,
    infinity: Any,
    marks: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> None:
    """Mark vectors and count, given the bits of all values, all bits but the sign's, infinity's."""
    n, n_vectors = np.uint64(width), np.uint64(len(marks))
    step = max(_ONE, _TILE // n)
    for first in range(np.uint64(0), n_vectors, step):
        last = min(first + step, n_vectors)
        least, largest = _extent(bits, first * n, (last - first) * n, rest)
        if largest < infinity and (least > 0 or not zeros):
            continue
        for v in range(first, last):
            least, largest = _extent(bits, v * n, n, rest)
            if largest == 0 and zeros:
                marks[v] = ZERO
                counts[3] += 1
            elif largest >= infinity:
                marks[v] = _lost(bits, v * n, n, rest, infinity, counts)


def call_each() -> None:
    """Call every kernel of this file once, for each dtype that it is compiled for."""
    for dtype in (*_FLOATS, np.dtype(np.uint8)):
        screen(np.zeros(1, dtype), 1)
