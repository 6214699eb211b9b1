"""The least keys of each query with their ids, in order; of equal ones the lesser id first."""

from __future__ import annotations

from typing import Any

import numpy as np

from h5dask.kernels.compile import inlined, kernel


@inlined
def _place(keys: Any, ids: Any, key: Any, named: Any) -> Any:
    """Return how many of a query's pairs come before another one."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) >> 1
        here = keys[middle]
        if here < key or (here == key and ids[middle] < named):
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def insert(keys: Any, ids: Any, owners: Any, new_keys: Any, new_ids: Any) -> None:
    """Put pairs in their places among the least of their queries, whose greatest drop out.

    Parameters
    ----------
    keys : (query, k) float64, ids : (query, k) int64
        In order; infinite keys and the largest id where there are fewer.
    owners : (pair,) int
        The query of each new pair.
    new_keys : (pair,) float64, new_ids : (pair,) int64
        In any order.
    """
    last = keys.shape[1] - 1
    for i in range(len(owners)):
        query, key, named = owners[i], new_keys[i], new_ids[i]
        greatest = keys[query, last]
        if key > greatest or (key == greatest and named >= ids[query, last]):
            continue
        place = _place(keys[query], ids[query], key, named)
        for j in range(last, place, -1):
            keys[query, j], ids[query, j] = keys[query, j - 1], ids[query, j - 1]
        keys[query, place], ids[query, place] = key, named


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    keys, ids = np.full((1, 1), np.inf), np.zeros((1, 1), np.int64)
    for of in (np.int32, np.int64):
        insert(keys, ids, np.zeros(1, of), np.zeros(1), np.zeros(1, np.int64))
