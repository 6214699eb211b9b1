"""How many of the true neighbors were found, by their ids and by their distances.

Which are true is not asked here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.ops.choosing import kept_coords
from h5dask.ops.judging import repeated
from h5dask.results import open_any
from h5dask.vectors import ending_of
from h5dask.vectors.bigann import READ, read_truth

TOLERANCE = 2.0**-20
"""The share by which a distance may be larger than another one, and no farther: 16 roundings."""
_ROW = "neighbor"
_DIMS = ("query", _ROW)
_MOVED = ("ip", "angular")
"""Metrics whose distances may be rounded as numbers near 1 are."""


Neighbors: TypeAlias = xr.Dataset | xr.DataArray | NDArray[Any] | da.Array
"""Neighbors of each query with what is known of them, or their ids alone."""


def recall(found: Neighbors, truth: Neighbors, *, k: int | None = None) -> xr.Dataset:
    """Return which share of each query's true neighbors was found.

    Parameters
    ----------
    found, truth : Dataset, or array of int
        `neighbors` (query, neighbor) of int and perhaps `distances`, the nearest first: files, or
        what `knn` gives, in the same order of queries. An array, of numpy, dask or xarray, is the
        ids alone.
    k : int, optional
        Look at the first k of both; without it both must have equally many, which are all looked
        at.

    Returns
    -------
    Dataset
        Lazy where either is. `by_id` (query) float64: how many of the k true ids are among the k
        found, divided by k. `by_distance` (query), where both have distances: how many of the k
        found are no farther than the k-th true one, divided by k, so that ties are right. Ids below
        0 never count, whatever their distance, nor do ids that stand in the row already. Attributes
        `k` and `tolerance`: the share of the k-th true distance by which another one may be larger;
        of 1 at least, where the metric is "ip" or "angular". Coords of the found queries stay.
        Memory per task: a block of each side, three times.

    Raises
    ------
    Refused
        Shapes or metrics differ, or there are fewer than k: both sides are named.

    Examples
    --------
    >>> dims = ("query", "neighbor")
    >>> truth = {"neighbors": (dims, [[4, 2]]), "distances": (dims, [[0.5, 1.0]])}
    >>> found = {"neighbors": (dims, [[4, 7]]), "distances": (dims, [[0.5, 1.0]])}
    >>> told = recall(xr.Dataset(found), xr.Dataset(truth))
    >>> told.by_id.values, told.by_distance.values
    (array([0.5]), array([1.]))
    >>> recall(np.array([[4, 7]]), xr.Dataset(truth)).by_id.values
    array([0.5])
    """
    found, truth = _side("found", found), _side("truth", truth)
    faults = [*_faults("found", found), *_faults("truth", truth)]
    if faults:
        raise Refused("\n".join(faults))
    _refuse_other(found, truth)
    k = _refuse_beyond(found, truth, k)
    dim = found["neighbors"].dims[0]
    ids = [_first(one, "neighbors", k) for one in (found, truth)]
    made = {"by_id": _shares(_by_id, *ids)}
    if "distances" in found and "distances" in truth:
        distances = [_first(one, "distances", k) for one in (found, truth)]
        metric = found.attrs.get("distance", truth.attrs.get("distance"))
        least = 1.0 if metric in _MOVED else 0.0
        made["by_distance"] = _shares(_by_distance, *ids, *distances, least=least)
    result = kept_coords(found["neighbors"], [dim])
    result = result.assign({name: (dim, one.data) for name, one in made.items()})
    return result.assign_attrs(k=k, tolerance=TOLERANCE)


def open_sides(found: str, truth: str, metric: str | None = None) -> tuple[xr.Dataset, xr.Dataset]:
    """Open what `recall` compares: benchmarks, results, ids alone, or big-ann's ground truth.

    Parameters
    ----------
    found, truth : str
        Local paths or fsspec URLs.
    metric : {"euclidean", "ip"}, optional
        Of the distances in a .bin, which doesn't say; that of the other file without it.
    """
    names = (found, truth)
    raw = [ending_of(name) in READ for name in names]
    opened = {name: open_any(name) for name, is_raw in zip(names, raw, strict=True) if not is_raw}
    for other in opened.values():
        metric = metric or other.attrs.get("distance")
    vectors = [one["train"].dtype for one in opened.values() if "train" in one]
    integers = any(dtype.kind in "iu" for dtype in vectors)  # for two of a kind it makes no odds
    for name, is_raw in zip(names, raw, strict=True):
        if is_raw:
            opened[name] = read_truth(name, metric, integers=integers)
    return opened[found], opened[truth]


def _side(side: str, given: Neighbors) -> xr.Dataset:
    """Return what is given as a Dataset, an array as its `neighbors`."""
    if isinstance(given, xr.Dataset):
        return given
    if isinstance(given, xr.DataArray):
        return xr.Dataset({"neighbors": given})
    if isinstance(given, (str, os.PathLike)):
        raise Refused(
            f"{side}: found {os.fspath(given)!r}; expected neighbors; open them: np.load(path) or "
            "open_dataset(path); the command h5dask recall takes files"
        )
    if not hasattr(given, "__array__"):
        what = type(given).__name__
        raise Refused(f"{side}: found {what}; expected neighbors, a Dataset or an array of ids")
    ids = given if isinstance(given, da.Array) else np.asarray(given)
    return xr.Dataset({"neighbors": (_DIMS, ids) if ids.ndim == len(_DIMS) else xr.DataArray(ids)})


def _faults(side: str, ds: xr.Dataset) -> Iterator[str]:
    """Yield why a side has no neighbors to look at."""
    ids = ds.get("neighbors")
    if ids is None:
        there = ", ".join(map(str, ds.data_vars)) or "no variables"
        yield f"{side}: found {there}; expected neighbors of each query"
    elif ids.ndim != 2 or ids.dtype.kind not in "iu":
        yield (
            f"{side}: found neighbors {ids.dtype} of dims {ids.dims!r}; expected whole numbers, "
            "a row for each query"
        )
    elif "distances" in ds and ds["distances"].shape != ids.shape:
        yield (
            f"{side}: found distances of shape {ds['distances'].shape} beside neighbors of "
            f"{ids.shape}; expected the same"
        )


def _refuse_other(found: xr.Dataset, truth: xr.Dataset) -> None:
    """Refuse sides of other queries, or of another metric."""
    n_found, n_true = len(found["neighbors"]), len(truth["neighbors"])
    if n_found != n_true:
        raise Refused(
            f"truth: found neighbors of {n_true} queries; expected {n_found}, as of found; "
            "compare those of the same queries"
        )
    metrics = [one.attrs.get("distance") for one in (found, truth)]
    if None not in metrics and metrics[0] != metrics[1]:
        raise Refused(
            f"truth: found the metric {metrics[1]!r}; expected {metrics[0]!r}, as of found"
        )


def _refuse_beyond(found: xr.Dataset, truth: xr.Dataset, k: int | None) -> int:
    """Return how many neighbors are looked at; Refused where either side has fewer."""
    n_found, n_true = (one["neighbors"].shape[1] for one in (found, truth))
    told = f"found has {n_found} neighbors a query, truth {n_true}"
    if k is None and n_found != n_true:
        raise Refused(f"k: found none, and {told}; expected one of 1 to {min(n_found, n_true)}")
    k = n_found if k is None else k
    if not 1 <= k <= min(n_found, n_true):
        raise Refused(f"k: found {k!r}; expected 1 to {min(n_found, n_true)}: {told}")
    return k


def _first(ds: xr.Dataset, name: str, k: int) -> xr.Variable:
    """Return the first k of each query."""
    values = ds[name].variable[:, :k]
    return xr.Variable(_DIMS, values.data)


def _shares(function: Any, *rows: xr.Variable, **more: float) -> xr.Variable:
    """Return a number a query, lazily where rows are."""
    made: xr.Variable = xr.apply_ufunc(
        function,
        *rows,
        kwargs=more,
        input_core_dims=[[_ROW]] * len(rows),
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float64],
    )
    return made


def _counts(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which ids count."""
    counts: NDArray[np.bool_] = (ids >= 0) & ~repeated(ids)
    return counts


def _by_id(found: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Return shares of common ids: sorted together, those of both sides stand side by side."""
    sides = [
        np.where(_counts(ids), ids.astype(np.int64), -1 - side)
        for side, ids in enumerate((found, truth))
    ]
    both = np.sort(np.concatenate(sides, axis=1), axis=1)
    common = (both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)
    shares: NDArray[np.float64] = common.sum(axis=1) / found.shape[1]
    return shares


def _by_distance(
    found: NDArray[Any],
    truth: NDArray[Any],
    distances: NDArray[Any],
    true: NDArray[Any],
    *,
    least: float,
) -> NDArray[np.float64]:
    """Return shares of distances that aren't above the farthest true one."""
    true = np.where(_counts(truth), true.astype(np.float64), -np.inf)
    farthest = true.max(axis=1, keepdims=True)
    limit = farthest + TOLERANCE * np.maximum(np.abs(farthest), least)
    with np.errstate(invalid="ignore"):
        near = _counts(found) & (distances.astype(np.float64) <= limit)
    shares: NDArray[np.float64] = near.sum(axis=1) / found.shape[1]
    return shares
