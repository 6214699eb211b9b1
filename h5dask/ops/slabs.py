"""Some base vectors and queries in a space of their own, where one product tells most apart.

What is multiplied there, and what becomes of it, lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
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
_HELD = (np.dtype(np.float32), np.dtype(np.float64))
"""What vectors are multiplied and measured as; others are brought into it slab by slab."""
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
    """(row, feature) float32 or float64."""
    rows: Ids
    """Where its vectors lie there: (vector,)."""
    ids: Ids
    """Where they lie in the whole base: (vector,)."""
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
        cls,
        base: Vectors,
        rows: Ids,
        ids: Ids,
        panel: Panel,
        largest: float,
        metric: Metric,
        *,
        is_whole: bool,
    ) -> Slab:
        """Return a slab; its space is made for it, and for values that aren't above the largest."""
        queries, most = panel.vectors, (largest, panel.largest)
        space = space_of(base, rows, queries, most, metric, is_whole=is_whole)
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
            base=base,
            rows=rows,
            ids=ids,
            queries=queries,
            space=space,
            constants=constants,
            sizes=sizes,
        )

    def pieces(self, parts: list[Part]) -> Iterator[tuple[Slab, list[Part]]]:
        """Yield the slab in pieces, which a filter may pack in wider numbers."""
        size = -(-len(self.rows) // _PIECES)
        for first in range(0, len(self.rows) if parts else 0, size):
            last = min(first + size, len(self.rows))
            inside = [
                Part(max(part.first, first) - first, min(part.last, last) - first, part.queries)
                for part in parts
                if max(part.first, first) < min(part.last, last)
            ]
            if inside:
                rows, ids = self.rows[first:last], self.ids[first:last]
                yield replace(self, rows=rows, ids=ids), inside

    def keys(self, rows: Ids, owners: Ids) -> Numbers:
        """Return the keys of pairs."""
        return self.space.metric.keys(self.base, self.rows[rows], self.queries, owners)

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
    largest: float,
    metric: Metric,
    *,
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
    largest : float
        What no value of the block exceeds in size.
    metric, is_whole
        As of `space_of`.

    Yields
    ------
    Slab, list of Part
        Vectors without a query of their label are left out.
    """
    if labels is None or panel.labels is None:
        groups = [(np.arange(len(block)), np.arange(len(panel.vectors)))]
    else:
        groups = _groups(labels, panel.labels)
    order = np.concatenate([rows for rows, _ in groups])
    is_held = block.dtype in _HELD and block.flags.c_contiguous
    n_slabs = max(1, round(4 * len(order) * block.shape[1] / SLAB))
    edges = [len(order) * i // n_slabs for i in range(n_slabs + 1)]
    for first, last in pairwise(edges):
        if first < last:
            rows = order[first:last]
            base = floating(block if is_held else block[rows])
            places = rows if is_held else np.arange(len(rows))
            slab = Slab.of(base, places, start + rows, panel, largest, metric, is_whole=is_whole)
            yield slab, list(_parts(groups, first, last))


def _groups(
    labels: NDArray[Any], own: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the rows and the queries of each label that has both."""
    codes, names = pd.factorize(own, sort=True)
    _, *rows = _by_code(pd.Index(names).get_indexer(labels) + 1, len(names) + 1)
    return list(zip(rows, _by_code(codes, len(names)), strict=True))


def _by_code(codes: NDArray[np.int64], n_codes: int) -> list[NDArray[np.int64]]:
    """Return where each code is, in order; numpy sorts short numbers by their digits."""
    order = np.argsort(codes.astype(np.min_scalar_type(n_codes)), kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n_codes))
    return np.split(order, ends[:-1])


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
