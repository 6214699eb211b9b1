"""Tiles that lie one after the other in memory -> their places in rows, in one call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import Bytes, kernel

U = np.uint64


@kernel
def scatter(
    source: Bytes,
    starts: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    stride: int,
    places: NDArray[np.int64],
    target: Bytes,
    target_stride: int,
) -> None:
    """Copy each tile's rows to their places.

    Parameters
    ----------
    source : (n,) uint8
        Where the tiles are.
    starts, heights, widths : (tile,) int64
        First byte in `source`, number of rows, and bytes of a row that are wanted.
    stride : int
        Bytes from one row of a tile to the next.
    places : (tile,) int64
        First byte in `target`.
    target : (m,) uint8
        Where the rows go.
    target_stride : int
        Bytes from one row of the target to the next.
    """
    for tile in range(len(starts)):
        # Unsigned, so that no index can be negative and the copy becomes vector moves.
        read, write, width = U(starts[tile]), U(places[tile]), U(widths[tile])
        for _ in range(heights[tile]):
            for i in range(width):
                target[write + i] = source[read + i]
            read += U(stride)
            write += U(target_stride)


def call_each() -> None:
    """Call every kernel of this file once."""
    nothing, none = np.zeros(0, np.uint8), np.zeros(0, np.int64)
    scatter(nothing, none, none, none, 0, none, nothing, 0)
