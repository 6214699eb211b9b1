"""Exact sums of given pairs of base vectors and queries, out of core.

Which pairs are near is not asked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.ordered import products, squared_distances
from h5dask.ops.choosing import is_lazy, kept_coords
from h5dask.ops.folding import Folded, Index, blocked, edges_of, fold
from h5dask.ops.found import Ids
from h5dask.ops.metrics import Numbers, metric_of
from h5dask.ops.sides import PANEL, Labels, Sides, sides_of

PIECE = 8 * 2**20
"""Bytes of base vectors that are held in float64 at once, beside the rows they are made of."""
_PAIR = 96
"""Bytes that a pair takes in a task: where it is, its sums, twice while they are put together."""
NOWHERE = -1
"""The label of what is no base vector."""


def measured(
    base: xr.DataArray,
    query: xr.DataArray,
    ids: xr.DataArray,
    *,
    base_labels: Labels | None = None,
) -> xr.Dataset:
    """Return the sums from which every distance of given pairs follows, in feature order.

    Parameters
    ----------
    base : DataArray
        (vector, feature), of numbers.
    query : DataArray
        (query, feature), of numbers.
    ids : DataArray
        (query, m) of int: which base vectors each query is measured with. Lazy ones should come
        from a file or memory: what they are made of runs in one task for each panel of queries.
    base_labels : DataArray or array of int, optional
        A label a base vector.

    Returns
    -------
    Dataset
        Lazy where vectors or ids are. Float64 sums of the stored values, added feature after
        feature: `squares` of the differences, `products`, `sizes` (the base vector's own squares),
        all in the dims of `ids` and NaN for ids that are no row of the base; `own` (query), the
        query's own squares. With labels `labels`, int64, -1 for such ids. Coords of the ids stay.
        Memory per task: a block of the base, 16 MiB, and the queries of a panel with their pairs
        (64 MiB at most). The base is read once per panel.

    Raises
    ------
    Refused
        Shapes that don't fit, ids that aren't whole numbers, base or query without values.

    Examples
    --------
    >>> base = xr.DataArray([[0.0, 0.0], [3.0, 4.0]], dims=("vector", "feature"))
    >>> query = xr.DataArray([[1.0, 1.0]], dims=("query", "feature"))
    >>> found = measured(base, query, xr.DataArray([[1, 0, -1]], dims=("query", "neighbor")))
    >>> found.squares.values, found.products.values, found.own.values
    (array([[13.,  2., nan]]), array([[ 7.,  0., nan]]), array([2.]))
    """
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or len(ids) != len(query):
        raise Refused(
            f"ids: found {ids.dtype} of shape {ids.shape}; expected whole numbers, a row for each "
            f"of {len(query)} queries"
        )
    anyone = np.broadcast_to(np.int64(0), len(query))  # labels of both sides, or of neither
    sides = sides_of(
        base,
        query,
        metric_of("euclidean"),  # sums are the same for all
        base_labels,
        None if base_labels is None else anyone,
    )
    sums: dict[str, list[da.Array]] = {name: [] for name in _DTYPES if name != "labels"}
    if base_labels is not None:
        sums["labels"] = []
    own = []
    for panel, shape in _panels(sides, blocked(ids.variable)):
        whole = _summed(sides, panel).then("pairs", partial(_spread, shape=shape))
        chunks = ((shape[0],), (shape[1],))
        for name, parts in sums.items():
            parts.append(whole.array(name, itemgetter(name), chunks, _DTYPES[name], new=2))
        own.append(panel.array("own", attrgetter("own"), chunks[:1], np.dtype(np.float64), new=1))
    variables: dict[str, Any] = {
        name: (ids.dims, da.concatenate(all_)) for name, all_ in sums.items()
    }
    variables["own"] = (ids.dims[:1], da.concatenate(own))
    result = kept_coords(ids, ids.dims).assign(variables)
    return result if sides.is_lazy or is_lazy(ids) else result.compute()


_DTYPES = {
    "squares": np.dtype(np.float64),
    "products": np.dtype(np.float64),
    "sizes": np.dtype(np.float64),
    "labels": np.dtype(np.int64),
}
"""What is told of each pair."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Panel:
    """Queries that are measured together, as each task needs them."""

    vectors: Numbers
    """(query, feature)."""
    own: Numbers
    """Their squares: (query,)."""
    ids: Ids
    """Rows of the base, in order: (pair,)."""
    places: Ids
    """Where each was given, all queries end to end: (pair,)."""
    width: int
    """Ids of a query."""

    def __sizeof__(self) -> int:
        """Return the bytes held, by which dask decides what to spill."""
        return sum(one.nbytes for one in (self.vectors, self.own, self.ids, self.places))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sums:
    """What a few blocks of the base give: all (pair,)."""

    places: Ids
    """Where the pair was given."""
    squares: Numbers
    products: Numbers
    sizes: Numbers
    labels: Ids | None
    """Of the base vectors."""

    def __sizeof__(self) -> int:
        """Return the bytes held."""
        arrays = (self.places, self.squares, self.products, self.sizes, self.labels)
        return sum(one.nbytes for one in arrays if one is not None)


def _panels(sides: Sides, ids: da.Array) -> Iterator[tuple[Folded, tuple[int, int]]]:
    """Yield the panels, and how many queries and ids of each there are."""
    n_queries, n_features = sides.queries.shape
    width = ids.shape[1]
    rows = max(1, PANEL // (8 * n_features + _PAIR * width))
    for first in range(0, n_queries, rows):
        last = min(first + rows, n_queries)
        parts = [one[first:last].rechunk(-1) for one in (sides.queries, ids)]
        yield fold(parts, (0, 1), _panel, _only, name="pairs"), (last - first, width)


def _panel(vectors: NDArray[Any], ids: NDArray[Any]) -> _Panel:
    wide = np.ascontiguousarray(vectors, np.float64)
    flat = ids.astype(np.int64).ravel()
    places = np.argsort(flat, kind="stable")
    return _Panel(vectors=wide, own=_own(wide), ids=flat[places], places=places, width=ids.shape[1])


def _own(vectors: Numbers) -> Numbers:
    """Return each vector's sum of squares."""
    each, found = np.arange(len(vectors)), np.empty(len(vectors))
    products(vectors, each, vectors, each, found)
    return found


def _only(parts: list[Any]) -> Any:
    (one,) = parts
    return one


def _summed(sides: Sides, panel: Folded) -> Folded:
    """Return the sums of one panel's pairs, lazily."""
    starts = partial(_start, edges=edges_of(sides.base, 0))
    return fold(sides.parts, (0, 1), _look, _together, name="measure", extras=starts, given=panel)


def _start(index: Index, *, edges: tuple[int, ...]) -> int:
    return edges[index[0]]


def _look(block: NDArray[Any], *given: Any) -> _Sums:
    """Measure the pairs of one block: given beside are labels, if any, its first row, the panel."""
    *labels, start, panel = given
    first, last = np.searchsorted(panel.ids, [start, start + len(block)])
    rows, places = panel.ids[first:last] - start, panel.places[first:last]
    owners = places // max(panel.width, 1)
    squares, along, sizes = (np.empty(len(rows)) for _ in range(3))
    for some, wide, mine in _pieces(block, rows):
        squared_distances(wide, mine, panel.vectors, owners[some], squares[some])
        products(wide, mine, panel.vectors, owners[some], along[some])
        sizes[some] = _own(wide)[mine]
    own = labels[0][rows, 0].astype(np.int64) if labels else None
    return _Sums(places=places, squares=squares, products=along, sizes=sizes, labels=own)


def _pieces(block: NDArray[Any], rows: Ids) -> Iterator[tuple[slice, Numbers, Ids]]:
    """Yield a run of pairs, the distinct vectors that it needs in float64, and which of them."""
    names, which = np.unique(rows, return_inverse=True)
    most = max(1, PIECE // (8 * block.shape[1]))
    for first in range(0, len(names), most):
        start, stop = np.searchsorted(which, [first, first + most])
        wide = block[names[first : first + most]].astype(np.float64, order="C")
        yield slice(start, stop), wide, which[start:stop] - first


def _together(parts: list[_Sums]) -> _Sums:
    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return _Sums(
        places=joined("places"),
        squares=joined("squares"),
        products=joined("products"),
        sizes=joined("sizes"),
        labels=None if parts[0].labels is None else joined("labels"),
    )


def _spread(sums: _Sums, *, shape: tuple[int, int]) -> Mapping[str, NDArray[Any]]:
    """Return sums in the places of their pairs."""
    found = {}
    for name, dtype in _DTYPES.items():
        values = getattr(sums, name)
        if values is not None:
            whole = np.full(shape[0] * shape[1], NOWHERE if dtype.kind == "i" else np.nan, dtype)
            whole[sums.places] = values
            found[name] = whole.reshape(shape)
    return found
