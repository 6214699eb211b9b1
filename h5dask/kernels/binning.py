"""How many of a block's numbers fall into each of a set of bins that is the same for all data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import kernel

MANTISSA = 5
"""Bits of a float32's mantissa that tell bins apart: a bin is 1/32 to 1/64 of its values wide."""
N_BINS = 2 * 255 << MANTISSA
"""Bins of all finite float32."""
_SHIFT = np.uint32(23 - MANTISSA)
_HALF = np.uint32(N_BINS // 2)
_LARGEST = np.float32(np.finfo(np.float32).max)


@kernel
def count_bins(values: Any, cells: NDArray[np.int64], step: int, counts: NDArray[np.int64]) -> None:
    """Count finite values by cell and bin.

    Parameters
    ----------
    values : (row, column) float32
        Those larger than all of the type count as the largest.
    cells : (row,) int64
        Cell of each row's first value.
    step : int
        From a column's cell to the next one's: 0 where a row is of one cell.
    counts : (cell, bin) int64
        Added to. Bins ascend with their values; those of negative numbers are the first half.
    """
    bits = values.view(np.uint32)
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            x = values[r, c]
            if np.isfinite(x):
                size = (bits[r, c] & np.uint32(0x7FFFFFFF)) >> _SHIFT
                at = _HALF - np.uint32(1) - size if x < 0 else _HALF + size
                counts[cells[r] + step * c, at] += 1


def edges() -> NDArray[np.float64]:
    """Return where each bin begins, and the last one ends: (bin + 1,) float64, ascending.

    A value on a border is in the bin on the border's far side from zero.

    Examples
    --------
    >>> found = edges()
    >>> at = int(np.searchsorted(found, 1.0))
    >>> found[at : at + 2]
    array([1.     , 1.03125])
    """
    sizes = np.arange(N_BINS // 2 + 1, dtype=np.uint32) << _SHIFT
    upper = sizes.view(np.float32).astype(np.float64)
    upper[-1] = 2.0**128
    return np.concatenate([-upper[:0:-1], upper])


def call_each() -> None:
    """Call every kernel of this file once."""
    nothing = np.zeros((1, 1), np.float32)
    count_bins(nothing, np.zeros(1, np.int64), 0, np.zeros((1, N_BINS), np.int64))
