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
    owners : (pair,) int64
        The query of each new pair.
    new_keys : (pair,) float64, new_ids : (pair,) int64
        In any order; finite.
    """
    last, former, n = keys.shape[1] - 1, -1, keys.shape[1]
    for i in range(len(owners)):
        query, key, named = owners[i], new_keys[i], new_ids[i]
        if query != former:  # places behind those that are filled needn't be moved
            former, n = query, int(np.searchsorted(keys[query], np.inf))
        greatest = keys[query, last]
        if key > greatest or (key == greatest and named >= ids[query, last]):
            continue
        place = _place(keys[query, :n], ids[query, :n], key, named)
        n = min(n, last)
        for j in range(n, place, -1):
            keys[query, j], ids[query, j] = keys[query, j - 1], ids[query, j - 1]
        keys[query, place], ids[query, place] = key, named
        n += 1


@kernel
def merge(keys: Any, ids: Any, counts: Any, new_keys: Any, new_ids: Any) -> None:
    """Put pairs that are in order themselves in their places, as `insert` does.

    Parameters
    ----------
    keys, ids
        As of `insert`.
    counts : (query,) int64
        New pairs of each query.
    new_keys : (pair,) float64, new_ids : (pair,) int64
        Query after query, those of each in order.
    """
    k = keys.shape[1]
    first = 0
    for query in range(len(counts)):
        stop = first + min(counts[query], k)
        # From the greatest down: so many new ones are among the k least.
        here, there, taken = 0, first, 0
        while taken < k and there < stop:
            key, other = new_keys[there], keys[query, here]
            if key < other or (key == other and new_ids[there] < ids[query, here]):
                there += 1
            else:
                here += 1
            taken += 1
        here, last = k - 1 - (there - first), there - 1
        for place in range(k - 1, -1, -1):
            if last < first:
                break
            key = new_keys[last]
            before = here >= 0 and (
                key < keys[query, here]
                or (key == keys[query, here] and new_ids[last] < ids[query, here])
            )
            if before:
                keys[query, place], ids[query, place] = keys[query, here], ids[query, here]
                here -= 1
            else:
                keys[query, place], ids[query, place] = key, new_ids[last]
                last -= 1
        first += counts[query]


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    keys, ids = np.full((1, 1), np.inf), np.zeros((1, 1), np.int64)
    one = np.ones(1, np.int64)
    merge(keys, ids, one, np.zeros(1), one)
    insert(keys, ids, np.zeros(1, np.int64), np.zeros(1), one)
