"""Blocks of a ragged dim that hold whole owners: where they may be cut, and arrays cut there.

An owner is a row of labels, or several neighboring ones. What is done with a block lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import dask.array as da
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def cuts(lengths: Sequence[int], ends: Ints) -> Ints:
    """Return how many owners lie before the end of each block, when every block holds whole ones.

    Parameters
    ----------
    lengths : sequence of int
        Elements of each block there is.
    ends : (owner,) int64
        The element behind the last of each owner, ascending; an owner may have none.

    Returns
    -------
    (block,) int64
        Ascending, the last is the number of owners. A block that ends within an owner goes on to
        that owner's end, so there may be fewer blocks than before.

    Examples
    --------
    >>> cuts((4, 4, 4), np.array([3, 6, 12]))
    array([2, 3])
    """
    if not len(ends):
        return np.zeros(1, np.int64)
    inside = np.searchsorted(ends, np.cumsum(lengths), side="left")
    stops = ends[np.minimum(inside, len(ends) - 1)]
    return np.unique(np.append(np.searchsorted(ends, stops, side="right"), len(ends)))


def in_runs(values: da.Array, ends: Ints, at: Ints) -> da.Array:
    """Return an array whose blocks along the first axis end with these owners; see `cuts`."""
    made: da.Array = values.rechunk({0: lengths_of(ends, at)})
    return made


def lengths_of(ends: Ints, at: Ints) -> tuple[int, ...]:
    """Return the elements of each block that ends behind so many owners.

    Examples
    --------
    >>> lengths_of(np.array([3, 6, 12]), np.array([2, 3]))
    (6, 6)
    """
    borders = np.append(0, ends)[at]
    return tuple(np.diff(borders, prepend=0).tolist())


def even(whole: int, parts: int) -> list[int]:
    """Return a length in parts that differ by one at most.

    Examples
    --------
    >>> even(10, 3), even(1, 3), even(0, 3)
    ([3, 3, 4], [0, 0, 1], [0, 0, 0])
    """
    edges = [whole * i // parts for i in range(parts + 1)]
    return [stop - start for start, stop in pairwise(edges)]
