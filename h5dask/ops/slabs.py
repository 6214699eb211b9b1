"""Some base vectors and queries in a space of their own, where one product tells most apart.

What is multiplied there, and what becomes of it, lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.packing import SHORT, squares_from
from h5dask.ops.found import Ids, Panel
from h5dask.ops.measurable import floating
from h5dask.ops.metrics import Metric, Numbers, Vectors
from h5dask.ops.products import Space, space_of

SLAB = 16 * 2**20
"""Bytes of float32 base vectors in a slab."""
_PIECES = 4
"""Pieces of a slab that are searched by themselves where float32 didn't tell."""
_ROUND = 2.0**-50
"""Eight times the share that a float64 operation can be off."""
_TINY = 2.0**-1070
"""More than an operation loses whose result is too small to be held."""


class Part(NamedTuple):
    """Vectors of a slab and queries that are looked for among them."""

    first: int
    """The first of the vectors ..."""
    last: int
    """... and the one behind the last."""
    queries: NDArray[np.int64]
    """Which of the panel."""


def _short(vectors: Numbers) -> float:
    """Return a length that vectors may have although their squares are too small to be held."""
    return float(np.sqrt(vectors.shape[1])) * SHORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """Some base vectors of a block, and a panel's queries, in a space of their own."""

    base: Vectors
    """(vector, feature) float32 or float64."""
    ids: Ids
    """Rows of the whole base: (vector,)."""
    queries: Numbers
    """(query, feature)."""
    space: Space
    """Where they are multiplied."""
    constants: Numbers
    """What a query's true numbers and keys have to do with each other: (query,)."""
    sizes: Numbers
    """How large its terms may be: (query,)."""

    @classmethod
    def of(
        cls, base: Vectors, ids: Ids, queries: Numbers, metric: Metric, *, is_whole: bool
    ) -> Slab:
        """Return a slab; its space is made for it."""
        space = space_of(base, queries, metric, is_whole=is_whole)
        if metric.is_moved:
            sizes = np.empty(len(queries))
            squares_from(queries, space.centre, sizes)
            constants = sizes / 2
        else:
            own = np.sqrt(np.einsum("ij,ij->i", queries, queries)) + _short(queries)
            constants = -(queries @ space.centre)
            if metric.is_unit:
                constants, own = constants / own, np.ones(len(own))
            sizes = own * (np.sqrt(np.square(space.centre).sum()) + space.reach)
        return cls(
            base=base, ids=ids, queries=queries, space=space, constants=constants, sizes=sizes
        )

    def pieces(self, parts: list[Part]) -> Iterator[tuple[Slab, list[Part]]]:
        """Yield the slab in pieces, which a filter may pack in wider numbers."""
        size = -(-len(self.base) // _PIECES)
        for first in range(0, len(self.base) if parts else 0, size):
            last = min(first + size, len(self.base))
            inside = [
                Part(max(part.first, first) - first, min(part.last, last) - first, part.queries)
                for part in parts
                if max(part.first, first) < min(part.last, last)
            ]
            if inside:
                base, ids = self.base[first:last], self.ids[first:last]
                yield replace(self, base=base, ids=ids), inside

    def keys(self, rows: NDArray[Any], owners: NDArray[Any]) -> Numbers:
        """Return the keys of pairs."""
        each = rows.astype(np.int64, copy=False), owners.astype(np.int64, copy=False)
        return self.space.metric.keys(self.base, each[0], self.queries, each[1])

    def floor(self, bounds: Numbers, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a number that every vector reaches whose key isn't above a query's bound.

        Parameters
        ----------
        bounds : (query,) float64
            Keys.
        dtype : dtype
            Of the filter's numbers.
        """
        share = 0.5 if self.space.metric.is_moved else 1.0
        found = self.constants - share * bounds - self._rounding(np.abs(bounds))
        found *= self.space.factor
        with np.errstate(over="ignore"):
            rounded: NDArray[Any] = found.astype(dtype)
        rounded = np.where(rounded > found, np.nextafter(rounded, dtype.type(-np.inf)), rounded)
        most = np.finfo(dtype).max  # infinity has a meaning of its own
        floor: NDArray[Any] = np.nan_to_num(rounded, nan=-np.inf, posinf=most, neginf=-np.inf)
        return floor

    def blur(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return, by query, how far true numbers may be out of the order of rounded keys.

        A key is at most as large as twice the terms of its query and of its base vector; those of
        base vectors are a part of the filter's slack.
        """
        found = 2.0 * self.space.factor * self._rounding(2.0 * self.sizes)
        rounded: NDArray[Any] = found.astype(dtype)
        above: NDArray[Any] = np.nextafter(rounded, dtype.type(np.inf))
        return np.where(rounded < found, above, rounded)

    def _rounding(self, keys: Numbers) -> Numbers:
        """Return what float64 may have lost of a key of each query that is so large."""
        n_features = self.base.shape[1]
        lost = (n_features + 8) * _ROUND * (self.sizes + keys) + n_features * _TINY
        return np.zeros_like(lost) if self.space.is_exact else lost


def slabs(
    block: NDArray[Any],
    labels: NDArray[Any] | None,
    start: int,
    panel: Panel,
    *,
    metric: Metric,
    is_whole: bool,
) -> Iterator[tuple[Slab, list[Part]]]:
    """Yield a block of base vectors in slabs, with who is looked for where.

    Parameters
    ----------
    block : (vector, feature)
        Of numbers.
    labels : (vector,), optional
        Of the vectors; without them all queries are looked for everywhere.
    start : int
        Row of the block's first vector among the whole base.
    panel : Panel
        The queries.
    metric, is_whole
        As of `space_of`.

    Yields
    ------
    Slab, list of Part
        Vectors without a query of their label are left out.
    """
    groups = None if labels is None or panel.labels is None else _groups(labels, panel.labels)
    order = None if groups is None else np.concatenate([rows for rows, _ in groups])
    total = len(block) if order is None else len(order)
    n_slabs = max(1, round(4 * total * block.shape[1] / SLAB))
    edges = [total * i // n_slabs for i in range(n_slabs + 1)]
    for first, last in pairwise(edges):
        if first == last:
            continue
        rows = slice(first, last) if order is None else order[first:last]
        base = floating(block[rows])
        ids = start + (np.arange(first, last) if order is None else order[first:last])
        everyone = [Part(0, last - first, np.arange(len(panel.vectors)))]
        parts = everyone if groups is None else list(_parts(groups, first, last))
        yield Slab.of(base, ids, panel.vectors, metric, is_whole=is_whole), parts


def _groups(
    labels: NDArray[Any], own: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the rows and the queries of each label that has both."""
    names, codes = np.unique(own, return_inverse=True)
    place = np.minimum(np.searchsorted(names, labels), len(names) - 1)
    rows = np.flatnonzero(names[place] == labels)
    rows = rows[np.argsort(place[rows], kind="stable")]
    row_edges = np.searchsorted(place[rows], np.arange(len(names) + 1))
    queries = np.argsort(codes, kind="stable")
    query_edges = np.searchsorted(codes[queries], np.arange(len(names) + 1))
    return [
        (
            rows[row_edges[i] : row_edges[i + 1]],
            queries[query_edges[i] : query_edges[i + 1]],
        )
        for i in range(len(names))
    ]


def _parts(
    groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]], first: int, last: int
) -> Iterator[Part]:
    """Yield what of each group lies in a slab of them, end to end."""
    at = 0
    for rows, queries in groups:
        begin, end = max(at, first), min(at + len(rows), last)
        at += len(rows)
        if begin < end:
            yield Part(begin - first, end - first, queries)
