"""Neighbors that were found so far: records that are merged, and bounds that tasks share.

How they are found lies elsewhere.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.ranking import insert, merge
from h5dask.ops.metrics import Numbers

Ids = NDArray[np.int64]
NOBODY = np.iinfo(np.int64).max
"""The id of a place that isn't filled, behind all others."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Base vectors that may be neighbors of some queries, in a few blocks."""

    counts: Ids
    """Of each query: (query,)."""
    keys: Numbers
    """Query after query, in order: (pair,)."""
    ids: Ids
    """Rows of the base: (pair,)."""
    certified: NDArray[np.bool_]
    """Whether the first filter's bound told all others apart: (query,)."""

    def __sizeof__(self) -> int:
        """Return the bytes held, by which dask decides what to spill."""
        arrays = (self.counts, self.keys, self.ids, self.certified)
        return sum(one.nbytes for one in arrays)

    @property
    def owners(self) -> Ids:
        """The query of each pair."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(slots=True, eq=False)
class Least:
    """The k least keys of each query, with ids; less where fewer were found."""

    keys: Numbers
    """In order: (query, k)."""
    ids: Ids
    """(query, k)."""
    certified: NDArray[np.bool_]
    """(query,)"""

    @classmethod
    def of(cls, n_queries: int, k: int) -> Least:
        """Return nothing yet."""
        return cls(
            np.full((n_queries, k), np.inf),
            np.full((n_queries, k), NOBODY),
            np.ones(n_queries, np.bool_),
        )

    def add(self, owners: NDArray[np.integer[Any]], keys: Numbers, ids: Ids) -> None:
        """Take pairs in, each in its place."""
        insert(self.keys, self.ids, owners, keys, ids)

    def merge(self, found: Found) -> None:
        """Take a record in."""
        merge(self.keys, self.ids, found.counts, found.keys, found.ids)

    def found(self) -> Found:
        """Return what is there as a record."""
        there = self.ids != NOBODY
        return Found(there.sum(axis=1), self.keys[there], self.ids[there], self.certified)


class Known:
    """What tasks of one process know of a panel's nearest, so that each passes more vectors.

    It changes how much is looked at, never what is found: a bound is the key of a real vector.
    Another process begins with nothing.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        self._least = Least.of(n_queries, k)
        self._blocks: set[int] = set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Known, self._least.keys.shape

    def __sizeof__(self) -> int:
        """Return the bytes held."""
        return self._least.keys.nbytes + self._least.ids.nbytes

    def bounds(self) -> Numbers:
        """Return a key that at least k vectors don't exceed: (query,)."""
        with self._lock:
            return self._least.keys[:, -1].copy()

    def learn(self, start: int, found: Found) -> None:
        """Take in what was found in the block of base vectors that begins at a row, once."""
        with self._lock:
            if start not in self._blocks:  # a task that runs again would count its vectors twice
                self._blocks.add(start)
                self._least.merge(found)


def least_of(parts: list[Found], *, k: int) -> Found:
    """Return the k least of what was found in several blocks.

    Examples
    --------
    >>> one = Found(np.array([2]), np.array([1.0, 4.0]), np.array([7, 8]), np.array([True]))
    >>> other = Found(np.array([1]), np.array([1.0]), np.array([3]), np.array([False]))
    >>> merged = least_of([one, other], k=2)
    >>> merged.ids.tolist(), merged.certified.tolist()
    ([3, 7], [False])
    """
    least = Least.of(len(parts[0].counts), k)
    for part in parts:
        least.merge(part)
        least.certified &= part.certified
    return least.found()


def all_of(parts: list[Found]) -> Found:
    """Return all that was found in several blocks, query after query and in order."""
    owners, keys, ids = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("owners", "keys", "ids")
    )
    order = np.lexsort((ids, keys, owners))
    certified = np.logical_and.reduce([part.certified for part in parts])
    counts = sum((part.counts for part in parts[1:]), parts[0].counts)
    return Found(counts, keys[order], ids[order], certified)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Queries that are looked for together, as each task needs them."""

    vectors: Numbers
    """(query, feature)."""
    largest: float
    """The largest size of their values."""
    labels: Ids | None
    """Which base vectors count, by their labels: (query,)."""
    known: Known | None = field(repr=False)
    """What is known of the k nearest; nothing where all within a radius are looked for."""

    def __sizeof__(self) -> int:
        """Return the bytes held."""
        known = 0 if self.known is None else self.known.__sizeof__()
        return self.vectors.nbytes + (0 if self.labels is None else self.labels.nbytes) + known
