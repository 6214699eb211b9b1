"""Exact nearest neighbors: blocked matrix products over lazy arrays of any length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.choosing import is_count, kept_coords
from h5dask.ops.cost import Cost, Forms, n_runs, reading
from h5dask.ops.folding import FAN_IN, Folded, Index, edges_of, fold
from h5dask.ops.found import Found, Ids, all_of, least_of
from h5dask.ops.metrics import Metric, metric_of
from h5dask.ops.searching import nearest, searching_memory, within
from h5dask.ops.sides import (
    BASE_DIMS,
    QUERY_DIMS,
    Labels,
    Sides,
    Vectors,
    refuse_few,
    sides_of,
    vectors_of,
)
from h5dask.threads import one_blas_thread

NEIGHBOR = "neighbor"
"""The dim of a query's neighbors, the nearest first."""
PAIR = "pair"
"""The dim of all queries' neighbors end to end, where each has its own number of them."""


def knn(
    base: Vectors,
    query: Vectors,
    *,
    k: int,
    metric: str = "euclidean",
    base_labels: Labels | None = None,
    query_labels: Labels | None = None,
    exclude_self: bool = False,
) -> xr.Dataset:
    """Return the k nearest base vectors of each query: exact, and the same however it is computed.

    The answer is defined by float64 sums of the stored values, of squared differences or products,
    added feature after feature; vectors are in the order of that sum, then of their row. A float32
    product with a proven bound of its error passes what can't be among them; the rest is measured.

    Parameters
    ----------
    base : DataArray, or array of numpy or dask
        (vector, feature), of float16, float32, float64 or whole numbers.
    query : DataArray, or array of numpy or dask
        (query, feature), of any of these.
    k : int
        Neighbors of each query.
    metric : {"euclidean", "ip", "angular"}
        What near means.
    base_labels, query_labels : DataArray or array of int, optional
        A label a vector; a query's neighbors are the nearest of the base vectors with its label.
        Those of the queries are loaded, those of the base counted at once.
    exclude_self : bool, default False
        Whether base vector i isn't a neighbor of query i, as when a set is searched for itself.

    Returns
    -------
    Dataset
        Lazy where either side is: `neighbors` (query, neighbor) int64, rows of the base;
        `distances` (query, neighbor) float64, ascending: euclidean, not squared; ip 1 - a.b, for
        whole numbers -a.b; angular 1 - cos. `certified` (query) bool: whether the float32 bound
        alone told all others apart; where not, float64 did (it may differ with the blocks, what
        is found doesn't). Coords of the queries stay.
        Memory per task: a block of the base, its float32 copy, the queries of a panel and what is
        found for them (128 MiB at most), and 16 MiB. The base is read once per panel.

    Raises
    ------
    Refused
        What is asked for doesn't exist: all reasons at once. When computed: vectors hold NaN or
        infinity, or have no direction for "angular"; rows are named.

    Notes
    -----
    Bounds after Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1.

    Examples
    --------
    >>> base = xr.DataArray([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], dims=("vector", "feature"))
    >>> query = xr.DataArray([[0.0, 0.0]], dims=("query", "feature"))
    >>> found = knn(base, query, k=2)
    >>> found.neighbors.values, found.distances.values
    (array([[0, 2]]), array([[0., 1.]]))
    """
    base, query = vectors_of(base, "base", BASE_DIMS), vectors_of(query, "query", QUERY_DIMS)
    sides = sides_of(base, query, metric_of(metric), base_labels, query_labels)
    n_base, n_queries = len(sides.base), len(sides.queries)
    if exclude_self and n_base != n_queries:
        raise Refused(
            f"exclude_self: found {n_base} base vectors and {n_queries} queries; expected a set "
            "that is searched for itself"
        )
    others = n_base - exclude_self
    if not is_count(k) or not 1 <= k <= others:
        raise Refused(f"k: found {k!r}; expected 1 to {others}, the number of base vectors")
    wanted = int(k) + exclude_self
    refuse_few(sides, int(k), beside=int(exclude_self))
    made: dict[str, list[da.Array]] = {name: [] for name in _DTYPES}
    search = partial(_nearest, metric=sides.metric, k=wanted, is_whole=sides.is_whole)
    for first, last, panel in sides.panels(wanted):
        found = _searched(sides, panel, search, partial(least_of, k=wanted))
        own = np.arange(first, last) if exclude_self else None
        answer = partial(_answer, k=k, own=own, metric=sides.metric, is_whole=sides.is_whole)
        whole = found.then("nearest", answer)
        for name, parts in made.items():
            chunks = ((last - first,), (k,))[: 1 if name == "certified" else 2]
            part = whole.array(name, itemgetter(name), chunks, _DTYPES[name], new=len(chunks))
            parts.append(part)
    dims = (sides.query_dim, NEIGHBOR)
    variables = {
        name: (dims[: parts[0].ndim], da.concatenate(parts)) for name, parts in made.items()
    }
    result = kept_coords(query, [sides.query_dim]).assign(variables)
    result = result.assign_attrs(distance=metric, k=k)
    if sides.is_lazy:
        return result
    with one_blas_thread():  # once around all tasks, which else would each set the limit
        return result.compute()


_DTYPES = {
    "neighbors": np.dtype(np.int64),
    "distances": np.dtype(np.float64),
    "certified": np.dtype(np.bool_),
}
"""What is answered."""


def neighbors_within(
    base: Vectors, query: Vectors, *, radius: float, metric: str = "euclidean"
) -> xr.Dataset:
    """Return all base vectors that are no farther from each query than a radius.

    Parameters
    ----------
    base, query : DataArray, or array of numpy or dask
        As of `knn`.
    radius : float
        A distance, as `knn` gives it: for "euclidean" not squared.
    metric : {"euclidean", "ip", "angular"}
        What near means.

    Returns
    -------
    Dataset
        In memory, for only the search tells how much there is: `neighbors` (pair) int64 and
        `distances` (pair) float64, query after query, ascending, then by row. The coord `row_size`
        (query) says how many pairs are whose; with the queries' own it forms a `RaggedIndex`.
        Memory per task: as of `knn`, and 40 bytes a pair found.

    Raises
    ------
    Refused
        As by `knn`; or the radius is no number.

    Examples
    --------
    >>> base = xr.DataArray([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], dims=("vector", "feature"))
    >>> query = xr.DataArray([[0.0, 0.0], [9.0, 9.0]], dims=("query", "feature"))
    >>> found = neighbors_within(base, query, radius=1)
    >>> found.neighbors.values, found.row_size.values
    (array([0, 2]), array([2, 0]))
    """
    base, query = vectors_of(base, "base", BASE_DIMS), vectors_of(query, "query", QUERY_DIMS)
    sides = sides_of(base, query, metric_of(metric))
    if not np.isfinite(radius):
        raise Refused(f"radius: found {radius!r}; expected a number")
    search = partial(within, metric=sides.metric, radius=float(radius), is_whole=sides.is_whole)
    whole = [
        _searched(sides, panel, search, all_of).array(
            "within", _boxed, ((1,),), np.dtype(object), new=1
        )
        for _, _, panel in sides.panels(0)
    ]
    with one_blas_thread():
        found: list[Found] = list(da.concatenate(whole).compute())
    counts, keys, ids = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("counts", "keys", "ids")
    )
    distances = sides.metric.distances(keys, sides.is_whole)
    dim = sides.query_dim
    coords = kept_coords(query, [dim])
    labels = {str(name): one.values for name, one in coords.coords.items() if one.dims == (dim,)}
    index = RaggedIndex(dim, PAIR, len(ids), {**labels, "row_size": counts})
    result = xr.Dataset(
        {"neighbors": (PAIR, ids), "distances": (PAIR, distances)},
        coords=xr.Coordinates.from_xindex(index),
    )
    return result.assign_attrs(distance=metric, radius=radius)


def knn_cost(
    base: xr.DataArray, query: xr.DataArray, *, k: int, stored: Forms | None = None
) -> Cost:
    """Return what `knn` takes.

    Parameters
    ----------
    base, query, k
        As of `knn`.
    stored : mapping of str to Stored, optional
        How variables of their names are stored.

    Returns
    -------
    Cost
        The base is read once a panel of queries.
    """
    sides = sides_of(base, query, metric_of("euclidean"))
    n_blocks, (n_queries, n_features) = len(sides.base.chunks[0]), sides.queries.shape
    rows = sides.rows(k)
    n_panels, runs = -(-n_queries // rows), n_runs(n_blocks)
    # What isn't lazy still comes in blocks, of which a task takes one.
    lazy = base.copy(data=sides.base).to_dataset(name="base" if base.name is None else base.name)
    one = reading(lazy, stored=stored)
    return replace(
        one,
        stage="knn",
        n_blocks=n_panels * n_blocks,
        n_runs=n_panels * runs,
        n_tasks=n_panels * (runs + -(-runs // FAN_IN) + 3),
        read=n_panels * one.read * (base.chunks is not None),
        decoded=n_panels * one.decoded,
        products=2.0 * sides.base.size * n_queries,
        moved=runs * _FOUND * k * n_queries,
        memory=one.memory + searching_memory(max(sides.base.chunks[0]), n_features, rows, k),
    )


_FOUND = 16
"""Bytes of a neighbor that was found: its key and its row."""


def _searched(sides: Sides, panel: Folded, search: Any, merge: Any) -> Folded:
    """Return what is found for one panel in all blocks of the base, lazily."""
    starts = partial(_start, edges=edges_of(sides.base, 0))
    return fold(sides.parts, (0, 1), search, merge, name="search", extras=starts, given=panel)


def _start(index: Index, *, edges: tuple[int, ...]) -> int:
    return edges[index[0]]


def _nearest(block: NDArray[Any], *given: Any, metric: Metric, k: int, is_whole: bool) -> Found:
    """Look at one block: what is given beside are labels, if any, its first row and the panel."""
    *labels, start, panel = given
    own = labels[0][:, 0] if labels else None
    return nearest(block, own, start, panel, metric=metric, k=k, is_whole=is_whole)


def _answer(
    found: Found, *, k: int, own: Ids | None, metric: Metric, is_whole: bool
) -> Mapping[str, NDArray[Any]]:
    """Return what is answered of one panel; `own` are rows that are no neighbors, if any."""
    wanted = k if own is None else k + 1
    keys, ids = found.keys.reshape(-1, wanted), found.ids.reshape(-1, wanted)
    if own is not None:
        others = ids != own[:, np.newaxis]
        others[others.all(axis=1), -1] = False  # it is farther than all of them: equals may be
        keys, ids = keys[others].reshape(-1, k), ids[others].reshape(-1, k)
    return {
        "neighbors": ids,
        "distances": metric.distances(keys, is_whole),
        "certified": found.certified,
    }


def _boxed(found: Found) -> NDArray[Any]:
    box = np.empty(1, object)
    box[0] = found
    return box
