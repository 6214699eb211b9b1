"""One block of base vectors and one panel of queries -> what may be neighbors, exactly measured.

A filter's product passes nearly all vectors; what is left is measured in float64 from the values
themselves. Whatever the filter can't tell apart, a better one does, or everything is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.ops.found import Found, Ids, Known, Least, Panel, all_of
from h5dask.ops.measurable import measurable
from h5dask.ops.metrics import Metric, Numbers
from h5dask.ops.products import FLOAT32, FLOAT64, Filter
from h5dask.ops.slabs import SLAB, Part, Slab, slabs
from h5dask.ops.strips import Screen
from h5dask.ops.tiles import tile_shape
from h5dask.threads import one_blas_thread

FILTERS = (FLOAT32, FLOAT64)
"""In the order in which they are tried."""
_PAIRS = 2**17
"""Pairs that are measured at once where no filter helps."""


def nearest(
    block: NDArray[Any],
    labels: NDArray[Any] | None,
    start: int,
    panel: Panel,
    *,
    metric: Metric,
    k: int,
    is_whole: bool,
) -> Found:
    """Return the k nearest of a block's vectors to each query, fewer where others are nearer.

    Parameters
    ----------
    block : (vector, feature)
        Base vectors, of numbers.
    labels : (vector,), optional
        Theirs; where the panel has labels too, a vector counts for queries of its own alone.
    start : int
        Row of the first among the whole base.
    panel : Panel
        The queries.
    metric : Metric
        What near means.
    k : int
        How many are wanted.
    is_whole : bool
        Whether base and queries are whole numbers.

    Returns
    -------
    Found
        Memory: `SLAB` bytes two to four times, the panel twice, 48 bytes a query and neighbor,
        and 16 MiB.
    """
    largest = measurable(block, start, side="base", metric=metric)
    least = Least.of(len(panel.vectors), k)
    known = panel.known or Known(*least.keys.shape)
    with one_blas_thread():
        for slab, parts in slabs(block, labels, start, panel, largest, metric, is_whole=is_whole):
            bounds = np.minimum(known.bounds(), least.keys[:, -1])
            first, *others = FILTERS
            left = _screened(slab, parts, first, bounds, least)
            for part in left:
                least.certified[part.queries] = False
            for piece, unclear in slab.pieces(left):
                left = unclear
                for which in others:
                    left = _screened(piece, left, which, bounds, least)
                for owners, rows in _everything(left):
                    _measure(piece, owners, rows, bounds, least)
    found = least.found()
    known.learn(start, found)
    return found


def _screened(
    slab: Slab, parts: list[Part], which: Filter, bounds: Numbers, least: Least
) -> list[Part]:
    """Add what a filter lets through; return what it couldn't tell apart."""
    if not parts or not which.suits(slab.space):
        return parts
    left = []
    screen, k = Screen.of(slab, which, bounds), least.keys.shape[1]
    for owners, rows, crowded in screen.nearest(parts, k):
        _measure(slab, owners, rows, bounds, least)
        left += crowded
    return left


def _measure(slab: Slab, owners: Ids, rows: Ids, bounds: Numbers, least: Least) -> None:
    """Take in pairs by their exact keys."""
    keys = slab.keys(rows, owners)
    near = keys <= bounds[owners]
    least.add(owners[near], keys[near], slab.ids[rows[near]])


def _everything(parts: list[Part]) -> Iterator[tuple[Ids, Ids]]:
    """Yield all pairs of queries and vectors, as many as are measured at once."""
    for part in parts:
        for query in part.queries:
            for first in range(part.first, part.last, _PAIRS):
                rows = np.arange(first, min(first + _PAIRS, part.last))
                yield np.full(len(rows), query), rows


def searching_memory(n_base: int, n_features: int, n_queries: int, k: int) -> int:
    """Return the bytes that a search takes at its peak, above the block of base vectors.

    They are: some vectors as float32, as they are and packed; the panel, moved and packed; a tile
    and its candidates; three times what is found.
    """
    slab = 2 * min(SLAB * 3 // 2, 4 * n_base * (n_features + 2))
    panel = n_queries * (2 * 8 * n_features + 4 * (n_features + 2))
    height, width = tile_shape(n_features)
    tile = height * width * 4 + width * (4 * (n_features + 2) + 16 * (2 * k + 32))
    return slab + panel + tile + 3 * 16 * k * n_queries


def within(
    block: NDArray[Any],
    start: int,
    panel: Panel,
    *,
    metric: Metric,
    radius: float,
    is_whole: bool,
) -> Found:
    """Return all of a block's vectors that are no farther from a query than a radius.

    Parameters
    ----------
    block, start, panel, metric, is_whole
        As of `nearest`.
    radius : float
        A distance of the metric.

    Returns
    -------
    Found
        Memory: as of `nearest`, and 40 bytes a pair that is found in a tile.
    """
    largest = measurable(block, start, side="base", metric=metric)
    limit = np.full(len(panel.vectors), metric.key_within(radius, is_whole))
    found = []
    with one_blas_thread():
        for slab, parts in slabs(block, None, start, panel, largest, metric, is_whole=is_whole):
            for owners, rows in _candidates(slab, parts, limit):
                keys = slab.keys(rows, owners)
                near = metric.distances(keys, is_whole) <= radius
                found.append(_sorted(owners[near], keys[near], slab.ids[rows[near]], len(limit)))
    nothing = np.zeros(0)
    empty = _sorted(nothing.astype(np.int64), nothing, nothing.astype(np.int64), len(limit))
    return all_of([empty, *found])


def _sorted(owners: NDArray[Any], keys: Numbers, ids: NDArray[np.int64], n_queries: int) -> Found:
    """Return pairs as a record of one look; they are put in order where looks are merged."""
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=n_queries).astype(np.int64)
    return Found(counts, keys[order], ids[order], np.ones(n_queries, np.bool_))


def _candidates(slab: Slab, parts: list[Part], limit: Numbers) -> Iterator[tuple[Ids, Ids]]:
    """Yield pairs that may lie within a limit, or all pairs."""
    which = next((one for one in FILTERS if one.suits(slab.space)), None)
    if which is None:
        return _everything(parts)
    return Screen.of(slab, which, limit).within(parts)
