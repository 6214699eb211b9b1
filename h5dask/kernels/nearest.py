"""Which rows of a tile of products may be among the nearest of each query; all others are passed.

A tile holds, for each base row and query, a number that is larger the nearer the two are: never
below the true one, and above it by no more than a slack. What the numbers mean lies elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import inlined, kernel

SEGMENT = 32
"""Queries that are looked at together; a tile has a multiple of them."""
ROWS = 16
"""Rows whose largest number is compared at once."""

_U = np.uint64
_SEGMENT, _ROWS, _ONE = _U(SEGMENT), _U(ROWS), _U(1)


class Candidates(NamedTuple):
    """What may be nearest to each query of a tile."""

    least: NDArray[Any]
    """A number below it is passed; raised as candidates are found. Infinite for queries that have
    too many candidates (none are kept then), and for those that only fill the tile: (query,)."""
    own: NDArray[Any]
    """What a base row's slack is multiplied by: (query, 2)."""
    blur: NDArray[Any]
    """How much larger the true number of a row that isn't nearer may be: (query,)."""
    counts: NDArray[np.int64]
    """Candidates so far: (query,)."""
    numbers: NDArray[Any]
    """Of each candidate: (query, capacity)."""
    rows: NDArray[np.int32]
    """Which base row it is: (query, capacity)."""
    scratch: NDArray[Any]
    """(capacity,)"""


def candidates(least: NDArray[Any], own: NDArray[Any], blur: NDArray[Any], k: int) -> Candidates:
    """Return none yet of each query, with room for twice as many as are wanted."""
    shape = len(least), 2 * k + 32
    return Candidates(
        least,
        own,
        blur,
        np.zeros(len(least), np.int64),
        np.empty(shape, least.dtype),
        np.empty(shape, np.int32),
        np.empty(shape[1], least.dtype),
    )


@inlined
def _most(tile: Any, at: Any, width: Any) -> Any:
    """Return the largest number of a column's next `ROWS` rows."""
    most = tile[at]
    for r in range(1, ROWS):
        x = tile[at + _U(r) * width]
        most = x if x > most else most  # noqa: FURB136 - max() would look for NaN, one by one
    return most


@inlined
def _hits(tile: Any, at: Any, width: Any, least: Any, first: Any, top: Any) -> Any:
    """Return how many of a segment's columns hold a number that is large enough; tell each's."""
    found = np.int32(0)
    for q in range(SEGMENT):
        most = _most(tile, at + _U(q), width)
        top[_U(q)] = most
        found += np.int32(most >= least[first + _U(q)])
    return found


@inlined
def _rank(numbers: Any, n: Any, k: Any) -> Any:
    """Return the k-th largest of n numbers, which change places (quickselect)."""
    low, high, place = 0, n - 1, k - 1
    while low < high:
        a, b, c = numbers[low], numbers[(low + high) >> 1], numbers[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while numbers[i] > pivot:
                i += 1
            while numbers[j] < pivot:
                j -= 1
            if i <= j:
                numbers[i], numbers[j] = numbers[j], numbers[i]
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            break
    return numbers[place]


@kernel
def _trim(slack: Any, held: Any, query: Any, n: Any, k: Any) -> Any:
    """Drop candidates that k others are nearer than for sure; return how many stay, and the bound.

    At least k true numbers are no less than the k-th largest of the candidates' lowest ones.
    """
    numbers, rows, scratch = held.numbers[query], held.rows[query], held.scratch
    least = held.least[query]
    if n >= k:
        own, other, blur = held.own[query, 0], held.own[query, 1], held.blur[query]
        for i in range(n):
            row = rows[i]
            scratch[i] = numbers[i] - (own * slack[row, 0] + other * slack[row, 1] + blur)
        least = max(least, _rank(scratch, n, k))
    kept = 0
    for i in range(n):
        if numbers[i] >= least:
            numbers[kept], rows[kept] = numbers[i], rows[i]
            kept += 1
    return kept, least


@inlined
def _add(
    tile: Any, at: Any, width: Any, n_rows: Any, row: Any, slack: Any, held: Any, query: Any, k: Any
) -> None:
    """Add those of a column's next rows that may be among the k nearest."""
    bound, count = held.least[query], _U(held.counts[query])
    capacity = _U(held.numbers.shape[1])
    for r in range(n_rows):
        x = tile[at + _U(r) * width]
        if x < bound:
            continue
        if count == capacity:
            kept, bound = _trim(slack, held, query, held.numbers.shape[1], k)
            if 4 * kept > 3 * held.numbers.shape[1] + k:  # what is left would soon be full again
                kept, bound = 0, tile.dtype.type(np.inf)
            count = _U(kept)
            held.least[query] = bound
            if x < bound:
                continue
        held.numbers[query, count] = x
        held.rows[query, count] = row + _U(r)
        count += _ONE
    held.counts[query] = count


@kernel
def collect(tile: Any, shape: Any, first: Any, k: Any, slack: Any, held: Any) -> None:
    """Add to each query's candidates the rows of a tile that may be among its k nearest.

    Parameters
    ----------
    tile : (row * stride,) float32 or float64
        The numbers, at least.
    shape : (int, int, int)
        Rows; queries; numbers from one row to the next, of which the last segment may hold some
        that are of no query.
    first : (int, int)
        Index of the tile's first row among those of `slack`, and of its first query among those of
        `held`, where infinite bounds of no query fill the last segment.
    k : int
        How many nearest are wanted.
    slack : (base row, 2), of the tile's dtype
        How far a number may lie above the true one: the sum of the products with the query's two.
    held : Candidates
        What is there so far; changed.
    """
    n_rows, n_queries, width = _U(shape[0]), _U(shape[1]), _U(shape[2])
    top = np.empty(SEGMENT, tile.dtype)
    for group in range((n_rows + _ROWS - _ONE) // _ROWS):
        start = _U(group) * _ROWS
        n = min(_ROWS, n_rows - start)
        for segment in range((n_queries + _SEGMENT - _ONE) // _SEGMENT):
            column = _U(segment) * _SEGMENT
            at, own = start * width + column, _U(first[1]) + column
            if n < _ROWS:
                top[:] = np.inf
            elif not _hits(tile, at, width, held.least, own, top):
                continue
            for q in range(SEGMENT):
                query = own + _U(q)
                if top[_U(q)] >= held.least[query] and held.least[query] < np.inf:
                    row = _U(first[0]) + start
                    _add(tile, at + _U(q), width, n, row, slack, held, query, k)


@kernel
def settle(k: Any, slack: Any, held: Any) -> None:
    """Drop candidates, when all tiles were seen, that k others are nearer than for sure."""
    for query in range(len(held.counts)):
        kept, least = _trim(slack, held, query, held.counts[query], k)
        held.counts[query], held.least[query] = kept, least


@kernel
def listed(counts: Any, rows: Any, owners: Any, found: Any) -> None:
    """List candidates, query after query.

    Parameters
    ----------
    counts : (query,) int64
        Candidates of each query.
    rows : (query, capacity) int32
        They themselves.
    owners, found : (candidate,) int64
        Written: the query of each, and the candidate.
    """
    at = 0
    for query in range(len(counts)):
        for i in range(counts[query]):
            owners[at], found[at] = query, rows[query, i]
            at += 1


@kernel
def count_above(tile: Any, shape: Any, least: Any, counts: Any) -> None:
    """Count the rows of a tile whose number is no less than a query's bound.

    Parameters
    ----------
    tile, shape, least
        As of `collect`; `least` doesn't change.
    counts : (query,) int64
        Written.
    """
    n_rows, n_queries, width = _U(shape[0]), _U(shape[1]), _U(shape[2])
    counts[:] = 0
    for row in range(n_rows):
        at = _U(row) * width
        for q in range(n_queries):
            counts[_U(q)] += np.int64(tile[at + _U(q)] >= least[_U(q)])


@kernel
def rows_above(tile: Any, shape: Any, first_row: Any, least: Any, places: Any, rows: Any) -> None:
    """Name those rows, query by query.

    Parameters
    ----------
    tile, shape, first_row, least
        As of `collect`.
    places : (query,) int64
        Where each query's rows begin; moved on.
    rows : (pair,) int32
        Written.
    """
    n_rows, n_queries, width = _U(shape[0]), _U(shape[1]), _U(shape[2])
    for row in range(n_rows):
        at = _U(row) * width
        for q in range(n_queries):
            if tile[at + _U(q)] >= least[_U(q)]:
                rows[places[_U(q)]] = first_row + row
                places[_U(q)] += 1


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    shape = (1, SEGMENT, SEGMENT)
    for of in (np.float32, np.float64):
        tile, slack = np.zeros(SEGMENT, of), np.zeros((1, 2), of)
        each = np.zeros(SEGMENT, of)
        held = candidates(each, np.zeros((SEGMENT, 2), of), each.copy(), 1)
        collect(tile, shape, (0, 0), 1, slack, held)
        settle(1, slack, held)
        listed(held.counts, held.rows, *np.empty((2, SEGMENT * 2), np.int64))
        count_above(tile, shape, held.least, held.counts)
        rows_above(tile, shape, 0, held.least, held.counts, held.rows.reshape(-1))
