"""A slab as one filter takes it, strip by strip of a tile's width -> which vectors may be nearest.

How near they are is measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.nearest import (
    Candidates,
    candidates,
    collect,
    count_above,
    listed,
    rows_above,
    settle,
)
from h5dask.ops.found import Ids
from h5dask.ops.metrics import Numbers
from h5dask.ops.products import Filter, Packed
from h5dask.ops.slabs import Part, Slab
from h5dask.ops.tiles import Tile, whole_segments

_SPARSE = 16
"""One in so many vectors tells about where the nearest of all of them begin."""


class Strip(NamedTuple):
    """Parts of a slab whose queries stand side by side in a tile, each from a new segment on."""

    parts: list[Part]
    """They themselves."""
    queries: Ids
    """Query of each column; of those that only fill a segment, -1: (column,)."""

    @classmethod
    def of(cls, parts: list[Part]) -> Strip:
        """Return parts side by side."""
        queries = np.full(sum(whole_segments(len(part.queries)) for part in parts), -1)
        strip = cls(parts, queries)
        for part, columns in strip.columns():
            queries[columns] = part.queries
        return strip

    def columns(self) -> Iterator[tuple[Part, slice]]:
        """Yield each part with its columns."""
        at = 0
        for part in self.parts:
            yield part, slice(at, at + len(part.queries))
            at += whole_segments(len(part.queries))

    def only(self, marked: NDArray[np.bool_]) -> list[Part]:
        """Return the parts with the queries of marked columns alone."""
        some = [
            part._replace(queries=part.queries[marked[columns]]) for part, columns in self.columns()
        ]
        return [part for part in some if len(part.queries)]


def strips(parts: list[Part], width: int) -> Iterator[Strip]:
    """Yield parts in strips of so many queries, at most; those with more queries in several."""
    waiting: list[Part] = []
    free = width
    for part in parts:
        for at in range(0, len(part.queries), width):
            some = part._replace(queries=part.queries[at : at + width])
            if len(some.queries) > free:
                yield Strip.of(waiting)
                waiting, free = [], width
            waiting.append(some)
            free -= whole_segments(len(some.queries))
    if waiting:
        yield Strip.of(waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A slab and a panel's queries as one filter takes them."""

    which: Filter
    """The filter."""
    base: Packed
    """The slab's vectors."""
    queries: Packed
    """The panel's."""
    floor: NDArray[Any]
    """What all vectors reach that are no farther than a query's bound: (query,)."""
    blur: NDArray[Any]
    """How far numbers may be out of the order of keys: (query,)."""
    tile: Tile
    """Room for products."""

    @classmethod
    def of(cls, slab: Slab, which: Filter, bounds: Numbers) -> Screen:
        """Return a slab as a filter takes it; bounds are keys: (query,)."""
        return cls(
            which=which,
            base=which.base(slab.base, slab.rows, slab.space),
            queries=which.queries(slab.queries, np.arange(len(slab.queries)), slab.space),
            floor=slab.floor(bounds, which.dtype),
            blur=slab.blur(which.dtype),
            tile=Tile.of(slab.base.shape[1], which.dtype),
        )

    def nearest(self, parts: list[Part], k: int) -> Iterator[tuple[Ids, Ids, list[Part]]]:
        """Yield queries and vectors that may be among their k nearest, and what is too crowded.

        None is farther than the bounds. Queries without a bound begin with a guess; those for which
        it was too high come once more. Too many vectors may be nearest to a crowded one.
        """
        missed: list[Part] = []
        for strip in strips(parts, self.tile.width):
            floor = self._floor(strip)
            first = self._guess(strip, floor, k)
            held = self.collected(strip, first, k)
            low = (held.least == first) & (first > floor)
            if low.any():
                held.counts[low] = 0
                missed += strip.only(low)
            yield *_pairs(strip, held), strip.only(held.least == np.inf)
        for strip in strips(missed, self.tile.width):
            held = self.collected(strip, self._floor(strip), k)
            yield *_pairs(strip, held), strip.only(held.least == np.inf)

    def within(self, parts: list[Part]) -> Iterator[tuple[Ids, Ids]]:
        """Yield queries and vectors that may be no farther than the bounds, a tile's at once."""
        for part in parts:
            for at in range(0, len(part.queries), self.tile.width):
                some = part._replace(queries=part.queries[at : at + self.tile.width])
                floor = self.floor[some.queries]
                for first, shape in self._tiles(some):
                    counts = np.empty(len(floor), np.int64)
                    count_above(self.tile.numbers, shape, floor, counts)
                    rows = np.empty(counts.sum(), np.int32)
                    places = np.cumsum(counts) - counts
                    rows_above(self.tile.numbers, shape, first, floor, places, rows)
                    yield np.repeat(some.queries, counts), rows.astype(np.int64)

    def _floor(self, strip: Strip) -> NDArray[Any]:
        """Return the floor of each column; none reaches that of one without a query."""
        floor = self.floor[strip.queries]
        floor[strip.queries < 0] = np.inf
        return floor

    def _guess(self, strip: Strip, floor: NDArray[Any], k: int) -> NDArray[Any]:
        """Return bounds that more than k vectors reach, most likely, but not many more.

        Every sixteenth vector tells: where the k-th nearest of all would be among them, and three
        standard deviations beyond it.
        """
        part, *others = strip.parts
        expected = k / _SPARSE
        rank = math.ceil(expected + 3.0 * math.sqrt(expected) + 3.0)
        n = part.last - part.first
        # So many candidates come up while bounds rise from nothing.
        usual = k * (1.0 + math.log(max(n / k, 1.0)))
        bounded = floor[: len(part.queries)] > -np.inf
        if others or bounded.any() or 2 * rank * _SPARSE > usual:
            return floor
        some = slice(part.first, part.last, _SPARSE)
        values, slack = (
            np.ascontiguousarray(one[some]) for one in (self.base.values, self.base.slack)
        )
        sample = replace(self, base=Packed(values=values, slack=slack))
        alone = strip._replace(parts=[part._replace(first=0, last=len(values))])
        found = sample.collected(alone, floor, rank).least
        return np.where(found < np.inf, found, floor)

    def collected(self, strip: Strip, least: NDArray[Any], k: int) -> Candidates:
        """Return what reaches the bounds of columns, which rise from these to the k-th number."""
        own, blur = self.queries.slack[strip.queries], self.blur[strip.queries]
        held = candidates(least.copy(), own, blur, k)
        for part, columns in strip.columns():
            for first, shape in self._tiles(part):
                at = first, columns.start
                collect(self.tile.numbers, shape, at, k, self.base.slack, held)
        settle(k, self.base.slack, held)
        return held

    def _tiles(self, part: Part) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """Fill the tile again and again; yield its first vector and its shape."""
        values = self.queries.values[part.queries]
        for first in range(part.first, part.last, self.tile.height):
            last = min(first + self.tile.height, part.last)
            yield first, self.tile.fill(self.which, self.base.values[first:last], values)


def _pairs(strip: Strip, held: Candidates) -> tuple[Ids, Ids]:
    """Return candidates as queries and vectors."""
    columns, rows = np.empty((2, held.counts.sum()), np.int64)
    listed(held.counts, held.rows, columns, rows)
    return strip.queries[columns], rows
