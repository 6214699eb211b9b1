"""Rows of a block brought to the length 1, in one pass over its values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import kernel

# Counted without a sign, and in one buffer: see `moments`.
_U = np.uint64
_LANES = _U(64)


@kernel
def unit_rows(
    values: Any, made: Any, scale: NDArray[np.float64], length: NDArray[np.float64]
) -> None:
    """Divide each row by its length.

    Parameters
    ----------
    values : (row, column) float32 or float64
        C-contiguous.
    made : (row, column) float32 or float64
        Filled; NaN in rows of which anything isn't finite, and zeros stay.
    scale : (row,) float64
        By what each row is multiplied before it is squared, so that nothing overflows: a power
        of two, which costs no digit.
    length : (row,) float64
        Filled with the length of the multiplied row. Its squares are added in an order that
        depends on the number of columns alone.
    """
    n = _U(values.shape[1])
    sums = np.empty(_LANES)
    for r in range(values.shape[0]):
        times = scale[r]
        for c in range(_LANES):
            sums[c] = 0.0
        whole = n // _LANES * _LANES
        for first in range(_U(0), whole, _LANES):
            for c in range(_LANES):
                x = np.float64(values[r, first + c]) * times
                sums[c] += x * x
        for c in range(n - whole):
            x = np.float64(values[r, whole + c]) * times
            sums[c] += x * x
        half = _LANES
        while half > _U(1):
            half = half // _U(2)
            for c in range(half):
                sums[c] += sums[half + c]
        length[r] = np.sqrt(sums[0])
        known = length[r] - length[r] == 0.0
        factor = length[r] if length[r] > 0.0 else 1.0
        for c in range(n):
            x = np.float64(values[r, c]) * times / factor
            made[r, c] = x if known else np.nan


def call_each() -> None:
    """Call every kernel of this file once, for the dtypes that are met most."""
    one = np.ones(1)
    for dtype in (np.float32, np.float64):
        unit_rows(np.zeros((1, 1), dtype), np.zeros((1, 1), dtype), one, one.copy())
