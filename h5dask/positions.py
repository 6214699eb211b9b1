"""Positions along one dim, as slices where they are consecutive and int64 arrays elsewhere.

Pure numpy; a slice keeps a lazy read one run of bytes, which an array would cut up.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Positions: TypeAlias = slice | npt.NDArray[np.int64]


def positions_of(hits: npt.NDArray[np.bool_]) -> Positions:
    """Where the hits are, in their order.

    Examples
    --------
    >>> positions_of(np.array([False, True, True]))
    slice(1, 3, None)
    """
    found = np.flatnonzero(hits)
    if found.size == 0:
        return slice(0, 0)
    first, stop = int(found[0]), int(found[-1]) + 1
    return slice(first, stop) if stop - first == found.size else found


def elements_of(offsets: npt.NDArray[np.int64], rows: Positions) -> Positions:
    """Where the elements are that ragged rows own, row after row.

    Parameters
    ----------
    offsets : (row + 1,) int64
        Where the part of each row begins, and that of the last one ends.
    rows : slice without a step, or (selected,) int64
        Rows in any order, none negative.

    Examples
    --------
    >>> elements_of(np.array([0, 2, 2, 5]), np.array([0, 2]))
    slice(0, 5, None)
    >>> elements_of(np.array([0, 2, 2, 5]), np.array([2, 0]))
    array([2, 3, 4, 0, 1])
    """
    if isinstance(rows, slice):
        first, stop, _ = rows.indices(offsets.size - 1)
        return slice(int(offsets[first]), int(offsets[max(first, stop)]))
    starts, stops = offsets[rows], offsets[rows + 1]
    owning = starts < stops  # rows that own nothing interrupt no run
    starts, stops = starts[owning], stops[owning]
    if starts.size == 0:
        return slice(0, 0)
    if (starts[1:] == stops[:-1]).all():
        return slice(int(starts[0]), int(stops[-1]))
    sizes = stops - starts
    ends = np.cumsum(sizes)
    return np.repeat(stops - ends, sizes) + np.arange(ends[-1])


def along(dim: Hashable, indexers: Mapping[Any, Any]) -> slice | npt.NDArray[Any] | None:
    """Give what indexes `dim`: all of it by default, None where the result has other dims."""
    indexer = indexers.get(dim, slice(None))
    if isinstance(indexer, slice):
        return indexer
    if getattr(indexer, "dims", (dim,)) != (dim,):
        return None
    found = np.asarray(getattr(indexer, "values", indexer))
    if found.ndim != 1:
        return None
    return found if found.size else found.astype(np.int64)  # an empty list has no int dtype


def same_positions(a: slice | npt.NDArray[Any], b: slice | npt.NDArray[Any], size: int) -> bool:
    """Whether two indexers take the same of a dim of `size`, in the same order."""
    first, second = (range(*i.indices(size)) if isinstance(i, slice) else i for i in (a, b))
    if isinstance(first, range) and isinstance(second, range):
        return first == second  # in no time and memory
    return np.array_equal(first, second)
