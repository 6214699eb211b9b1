"""Histograms of bins that are the same for all data, and the quantiles that they lead to."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.binning import MANTISSA, N_BINS, count_bins, edges
from h5dask.ops.moments import Runs, targets

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
"""Those that are estimated."""
RELATIVE_ERROR = 2.0 ** -(MANTISSA + 1)
"""Of an estimated quantile against the value of that rank: half a bin."""
MOST_CELLS = 256
"""Histograms at once: each takes 128 KiB in every task."""
_PIECE = 2**18
"""Values that are made float32 at once."""


def histograms(
    block: NDArray[Any],
    runs: Runs | None = None,
    *,
    axes: tuple[int, ...],
    along: int = 0,
    n_groups: int = 1,
) -> NDArray[np.int64]:
    """Return how many finite values of a block are in each bin: (group, ..., bin).

    Parameters
    ----------
    block, runs, axes, along
        As in `moments`.
    n_groups : int, default 1
        Groups that there are, in this block or not.

    Examples
    --------
    >>> found = histograms(np.array([1.0, 1.01, 2.0, np.nan]), axes=(0,))
    >>> found[found > 0]
    array([2, 1])
    """
    codes = None if runs is None else np.repeat(runs[1], runs[0])
    if codes is not None and (codes < 0).any():
        block, codes = np.compress(codes >= 0, block, along), codes[codes >= 0]
    kept = [n for axis, n in enumerate(block.shape) if axis not in axes]
    counts = np.zeros((n_groups, *kept, N_BINS), np.int64)
    if block.size:
        # A value's cell is its row's: the last axis is reduced, or one of the places that are kept.
        last = block.ndim - 1
        whole = last in axes and not (codes is not None and along == last)
        first = last if whole or last not in axes else block.ndim
        cells = targets(block.shape[:first], axes, codes, along)
        values = np.ascontiguousarray(block).reshape(len(cells), -1)
        step = int(first == last and not whole)
        cells *= values.shape[1] if step else 1
        rows = max(1, _PIECE // values.shape[1])
        with np.errstate(over="ignore"):
            for at in range(0, len(values), rows):
                piece = values[at : at + rows].astype(np.float32)
                if values.dtype.itemsize > 4 or values.dtype.kind in "iu":
                    _keep_finite(values[at : at + rows], piece)
                count_bins(piece, cells[at : at + rows], step, counts.reshape(-1, N_BINS))
    return counts


def _keep_finite(values: NDArray[Any], piece: NDArray[np.float32]) -> None:
    """Let finite values that float32 can't hold be its largest."""
    lost = np.isinf(piece) & np.isfinite(values)
    if lost.any():
        piece[lost] = np.copysign(np.finfo(np.float32).max, piece[lost])


def added(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the histograms of all that several were made of."""
    return reduce(np.add, parts)


def quantiles(
    counts: NDArray[np.int64], low: NDArray[Any], high: NDArray[Any]
) -> NDArray[np.float64]:
    """Return estimates of `QUANTILES` from histograms: (..., quantile); NaN where they are empty.

    Each is the middle of the bin that holds the value of the rank floor(q (n - 1)), within the
    extremes: off by at most `RELATIVE_ERROR` of it, where it is larger than 2**-126.
    """
    n = counts.sum(axis=-1)
    total = counts.cumsum(axis=-1)
    borders = edges()
    middle = borders[:-1] / 2 + borders[1:] / 2
    middle[N_BINS // 2 - 1 : N_BINS // 2 + 1] = 0.0
    found = np.full((*n.shape, len(QUANTILES)), np.nan)
    for at in np.ndindex(*n.shape):
        if n[at]:
            ranks = np.floor(np.array(QUANTILES) * (n[at] - 1)).astype(np.int64)
            bins = np.searchsorted(total[at], ranks, side="right")
            found[at] = np.clip(middle[bins], low[at], high[at])
    return found
