"""The two sides of a search for neighbors, as blocks and panels; what can't be searched is refused.

What happens in a task lies elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from numpy.typing import ArrayLike, NDArray

from h5dask.errors import Refused
from h5dask.ops.choosing import is_lazy, refuse_other_than_numbers
from h5dask.ops.folding import Folded, blocked, fold
from h5dask.ops.found import Ids, Known, Panel
from h5dask.ops.measurable import measurable
from h5dask.ops.metrics import Metric
from h5dask.ops.tiles import tile_shape

PANEL = 64 * 2**20
"""Bytes that a panel of queries, and what is found for them, may take in a task."""
_TASKS = 32
"""Tasks that there are before a panel takes all the queries it can."""
_NAMED = 5
"""Labels that a message names."""

Labels: TypeAlias = xr.DataArray | ArrayLike
"""A whole number a vector."""
Vectors: TypeAlias = xr.DataArray | NDArray[Any] | da.Array
"""Vectors and their features: labelled, or numpy's or dask's own arrays."""
BASE_DIMS, QUERY_DIMS = ("vector", "feature"), ("query", "feature")
"""Dims of arrays that name none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sides:
    """Base vectors and queries, which have the same features."""

    base: da.Array
    """(vector, feature), in blocks of whole vectors."""
    queries: da.Array
    """(query, feature), in such blocks too."""
    query_dim: Hashable
    """The dim of the queries."""
    base_labels: da.Array | None
    """(vector, 1), in the base's blocks."""
    query_labels: Ids | None
    """(query,)"""
    metric: Metric
    """What near means."""
    is_lazy: bool
    """Whether either side is."""

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.base.dtype.kind in "iub" and self.queries.dtype.kind in "iub"

    @property
    def parts(self) -> list[da.Array]:
        """What a task reads of the base: vectors, and their labels if there are any."""
        return [self.base] if self.base_labels is None else [self.base, self.base_labels]

    def rows(self, k: int) -> int:
        """Return how many queries make a panel: as many as fit, while there are tasks enough.

        The whole base is read once a panel.
        """
        n_queries, n_features = self.queries.shape
        most = max(1, PANEL // (20 * n_features + 48 * k))
        _, width = tile_shape(n_features)
        wanted = min(-(-_TASKS // self.base.numblocks[0]), -(-n_queries // width))
        if self.query_labels is not None:
            wanted = 1  # most of the work is to sort and pack the base by label, once a panel
        rows: int = -(-n_queries // max(-(-n_queries // most), wanted))
        return min(most, -(-rows // width) * width) if rows > width else rows

    def panels(self, k: int) -> Iterator[tuple[int, int, Folded]]:
        """Yield the first query of each panel, the one behind its last, and the panel.

        With k = 0 nothing is shared of what is known of the nearest.
        """
        rows = self.rows(k)
        # What one search knows of the nearest doesn't hold in another base.
        search = tokenize([part.name for part in self.parts])
        for first in range(0, len(self.queries), rows):
            last = min(first + rows, len(self.queries))
            labels = None if self.query_labels is None else self.query_labels[first:last]
            look = partial(
                _panel, labels=labels, start=first, metric=self.metric, k=k, search=search
            )
            queries = self.queries[first:last].rechunk(-1)
            yield first, last, fold(queries, (0, 1), look, _only, name="queries")


def vectors_of(given: Any, side: str, dims: tuple[str, ...]) -> xr.DataArray:
    """Return vectors as a DataArray: one as it is, any other array with dims as named.

    Parameters
    ----------
    given : DataArray, or array of numpy or dask
        Lazy ones stay lazy.
    side : str
        What messages begin with.
    dims : tuple of str
        Of vectors and features.

    Raises
    ------
    Refused
        It is no array.

    Examples
    --------
    >>> vectors_of(np.eye(2, 3), "base", BASE_DIMS).sizes
    Frozen({'vector': 2, 'feature': 3})
    """
    if isinstance(given, xr.DataArray):
        return given
    if isinstance(given, (str, os.PathLike)):
        raise Refused(
            f"{side}: found {os.fspath(given)!r}; expected vectors; open them: open_vectors(path)"
        )
    if isinstance(given, xr.Dataset):
        names = [str(name) for name, one in given.items() if one.ndim == len(dims)]
        there = f"; its arrays of two dims are {', '.join(names)}" if names else ""
        raise Refused(f"{side}: found a Dataset; expected an array of vectors{there}")
    if not hasattr(given, "__array__"):
        what = type(given).__name__
        raise Refused(f"{side}: found a {what}; expected an array of vectors and their features")
    values = given if isinstance(given, da.Array) else np.asarray(given)
    return xr.DataArray(values, dims=dims if values.ndim == len(dims) else None)


def sides_of(
    base: xr.DataArray,
    query: xr.DataArray,
    metric: Metric,
    base_labels: Labels | None = None,
    query_labels: Labels | None = None,
) -> Sides:
    """Return both sides of a search; Refused, with all that is wrong, where there can be none.

    Labels of queries are loaded, those of the base stay lazy.
    """
    faults = list(_faults(base, query))
    given = {"base": base_labels, "query": query_labels}
    labels = {side: _array(one) for side, one in given.items() if one is not None}
    if len(labels) == 1:
        (there,) = labels
        faults.append(f"{there}_labels: found no labels of the other side; give both or neither")
    for side, one in labels.items():
        size = (base if side == "base" else query).shape[:1]
        if one.shape != size or one.dtype.kind not in "iu":
            faults.append(
                f"{side}_labels: found {one.dtype} of shape {one.shape}; expected whole numbers "
                f"of shape {size}, one a vector"
            )
    if faults:
        raise Refused("\n".join(faults))
    vectors = _blocks(base)
    return Sides(
        base=vectors,
        queries=_blocks(query),
        query_dim=query.dims[0],
        base_labels=_beside(labels["base"], vectors) if labels else None,
        query_labels=np.asarray(labels["query"].values, np.int64) if labels else None,
        metric=metric,
        is_lazy=is_lazy(base) or is_lazy(query),
    )


def _faults(base: xr.DataArray, query: xr.DataArray) -> Iterator[str]:
    """Yield what is wrong with the vectors."""
    for side, x in (("base", base), ("query", query)):
        refuse_other_than_numbers(x)
        if x.ndim != 2 or not x.size:
            yield (
                f"{side}: found {dict(x.sizes)}; expected two dims, of vectors and their features, "
                "and at least one of each"
            )
    if base.ndim == query.ndim == 2 and base.shape[1] != query.shape[1]:
        yield (
            f"query: found {query.shape[1]} features along {query.dims[1]!r}; expected "
            f"{base.shape[1]}, as the base has along {base.dims[1]!r}"
        )


def _array(labels: Labels) -> xr.DataArray:
    return labels if isinstance(labels, xr.DataArray) else xr.DataArray(np.asarray(labels))


def _blocks(x: xr.DataArray) -> da.Array:
    """Return vectors in blocks of whole ones."""
    made: da.Array = blocked(x.variable).rechunk({1: -1})
    return made


def _beside(labels: xr.DataArray, vectors: da.Array) -> da.Array:
    """Return labels in the blocks of the vectors."""
    made: da.Array = blocked(labels.variable).rechunk(vectors.chunks[:1])[:, np.newaxis]
    return made


def _panel(
    block: NDArray[Any], *, labels: Ids | None, start: int, metric: Metric, k: int, search: str
) -> Panel:
    """Return a panel of one search; its name makes it another task's than that of other ones."""
    largest = measurable(block, start, side="query", metric=metric)
    known = Known(len(block), k) if k else None
    return Panel(np.ascontiguousarray(block, np.float64), largest, labels, known)


def _only(parts: list[Any]) -> Any:
    (one,) = parts
    return one


def refuse_few(sides: Sides, k: int, *, beside: int) -> None:
    """Refuse labels that a query has, but fewer than k base vectors, and so many beside them.

    Labels of the base are read once, at once.
    """
    if sides.base_labels is None or sides.query_labels is None:
        return
    names = np.unique(sides.query_labels)
    count = partial(_count, names=names)
    folded = fold(sides.base_labels, (0, 1), count, sum, name="labels")
    counted = folded.array("count", _same, ((len(names),),), np.dtype(np.int64), new=1)
    there = counted.compute() - beside
    few = np.flatnonzero(there < k)
    if len(few):
        least = int(there.min())
        way_out = f"lower k to {least}, or leave" if least > 0 else "leave"
        what = "other vectors" if beside else "vectors"
        lines = [
            f"base_labels: found {max(there[i], 0)} {what} with the label {names[i]}; expected at "
            f"least k = {k}; {way_out} out the queries with such labels"
            for i in few[:_NAMED]
        ]
        more = [f"and so of {len(few) - _NAMED} more labels"] if len(few) > _NAMED else []
        raise Refused("\n".join(lines + more))


def _count(labels: NDArray[Any], *, names: Ids) -> Ids:
    places = pd.Index(names).get_indexer(labels[:, 0])
    return np.bincount(places + 1, minlength=len(names) + 1)[1:].astype(np.int64)


def _same(counts: Ids) -> Ids:
    return counts
