"""Whether the stored neighbors of a vector-search benchmark are right: all computed anew, compared.

How neighbors are found lies in `ops/neighbors`; how what is found here is shown, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute as dask_compute

from h5dask.check.attributes import text_of
from h5dask.errors import LayoutError, Refused
from h5dask.ops.deviations import ROUNDING, Pairs, expected
from h5dask.ops.folding import blocked
from h5dask.ops.found import Ids
from h5dask.ops.judging import FAULTS, OUTSIDE, Compared
from h5dask.ops.measured import measured
from h5dask.ops.metrics import Metric, metric_of
from h5dask.ops.neighbors import NEIGHBOR, knn
from h5dask.truth import Compute, ground_truth

_QUERY = "query"
_DIMS = {
    "train": ("vector", "feature"),
    "test": (_QUERY, "feature"),
    "neighbors": (_QUERY, NEIGHBOR),
    "distances": (_QUERY, NEIGHBOR),
    "train_labels": ("vector",),
    "test_labels": (_QUERY,),
}
_LABELS = ("train_labels", "test_labels")


def verify(
    ds: xr.Dataset, *, sample: int | None = None, seed: int = 0, compute: Compute = dask_compute
) -> xr.Dataset:
    """Compute the neighbors of a benchmark anew, and tell in what the stored ones differ.

    A neighbor is right if it is the defined one (see `knn`), or tied with it: float32 sums can't
    tell the two apart. So a file that was computed in float32, by differences, is right.

    Parameters
    ----------
    ds : Dataset
        `train` (vector, feature), `test` (query, feature), `neighbors` and `distances`
        (query, neighbor); `train_labels` (vector) with `test_labels` (query), or neither; the
        attribute `distance`: "euclidean", "ip" or "angular".
    sample : int, optional
        Look at so many queries, chosen at random; at all of them without it.
    seed : int, default 0
        Chooses them.
    compute : callable, default dask.compute
        What computes dask collections.

    Returns
    -------
    Dataset
        In memory, about 250 bytes a pair while it is made. Of each query, whose coord is its row in
        the file, how many of its neighbors are of a kind:

        - `out_of_range`: no row of the base, such as -1;
        - `repeated`: there already, nearer the front;
        - `other_label`: not of the query's label;
        - `wrong`: farther than the farthest right one, by more than rounding;
        - `misplaced`: none of these, but not as far as the one that belongs in this place;
        - `tied`: another one than belongs there, as far within rounding;
        - `wrong_distances`: stored distances that aren't what their convention gives for the pair;
        - `unsorted`: stored nearer than the one before it, by more than rounding.

        A neighbor counts for one of the first six at most, the first that holds. `legal` (query):
        how many base vectors may be its neighbors; where they are too few, there is no right
        answer. (query, neighbor): `neighbors`, `distances` as stored; `exact_distances`, of the
        stored ids; `true_neighbors` int64, -1 where there is none; `true_distances` float64;
        `faults` uint8, whose bits are the kinds above, as `flag_masks` and `flag_meanings` say.
        Attributes: `convention`, which the stored distances follow, or "unknown";
        `expected_convention`; `largest_deviation` from the convention; `distance`; `n_queries`, of
        the file. Memory per task: as of `knn`; the base is read twice for each panel of queries.

    Raises
    ------
    LayoutError
        Variables are missing, or their shapes don't go together: all that is wrong.
    Refused
        Another metric, such as "hamming"; more neighbors than base vectors; vectors that have no
        distance (by `knn`).

    Notes
    -----
    Rounding: gamma_{D+3} in float32 of the squared distance for "euclidean", of |a||b| for "ip",
    of 1 for "angular", nothing for sums of whole numbers up to 2^24; and the rounding of the stored
    distance. Two numbers are equal within that of both; along a row it never gets less. Source:
    Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> ds = example("ann").load()
    >>> found = verify(ds)
    >>> int(found.wrong.sum()), found.attrs["convention"]
    (0, 'euclidean')
    >>> ds.neighbors[3, 0] = -1
    >>> verify(ds).out_of_range.values
    array([0, 0, 0, 1, 0])
    """
    metric = metric_in(ds)
    n_queries, k = ds["neighbors"].shape
    rows = _chosen(n_queries, sample, seed)
    ds = ds.drop_vars(list(ds.coords))
    some = ds if len(rows) == n_queries else ds.isel({_QUERY: rows})
    own = [name for name in ("neighbors", "distances", "test_labels") if name in some]
    (stored,) = compute(some[own])
    legal = _legal(ds, stored, compute)
    right = np.full((len(rows), k), OUTSIDE, np.int64)
    enough = np.flatnonzero(legal >= k)
    if len(enough):
        right[enough] = _right(some.isel({_QUERY: enough}), metric, k, compute)
    ids = xr.DataArray(np.hstack([stored["neighbors"].values, right]), dims=(_QUERY, NEIGHBOR))
    labels = ds.get("train_labels")
    (sums,) = compute(measured(ds["train"], some["test"], ids, base_labels=labels))
    is_whole = all(ds[name].dtype.kind in "iub" for name in ("train", "test"))
    given, true = (_pairs(sums, part, ds, is_whole=is_whole) for part in (slice(k), slice(k, None)))
    compared = Compared(
        ids=stored["neighbors"].values.astype(np.int64),
        right=right,
        distances=stored["distances"].values.astype(np.float64),
        given=given,
        true=true,
        wanted=expected(metric, is_whole=is_whole),
        share=max(ROUNDING, float(np.finfo(_real(stored["distances"].dtype)).eps) / 2),
        alike=None
        if labels is None
        else sums["labels"].values[:, :k] == stored["test_labels"].values[:, np.newaxis],
    )
    result = compared.told().assign_coords({_QUERY: rows}).assign(legal=(_QUERY, legal))
    kept = stored[["neighbors", "distances"]]
    result = result.assign({name: (one.dims, one.values) for name, one in kept.items()})
    return result.assign_attrs(distance=metric.name, n_queries=n_queries)


def repair(ds: xr.Dataset, *, clip_k: bool = False, compute: Compute = dask_compute) -> xr.Dataset:
    """Return a benchmark with its own vectors, labels and metric, and neighbors made anew.

    Parameters
    ----------
    ds : Dataset
        As of `verify`.
    clip_k : bool, default False
        Keep fewer neighbors where a label has fewer base vectors.
    compute : callable, default dask.compute
        What computes the neighbors.

    Returns
    -------
    Dataset
        As of `ground_truth`.

    Raises
    ------
    LayoutError, Refused
        As by `verify` and `ground_truth`.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> ds = example("ann").load()
    >>> ds.neighbors[3, 0] = -1
    >>> int(verify(repair(ds)).out_of_range.sum())
    0
    """
    metric = metric_in(ds)
    k = ds.sizes[NEIGHBOR]
    return ground_truth(ds, k=k, metric=metric.name, clip_k=clip_k, compute=compute)


def is_right(found: xr.Dataset) -> bool:
    """Whether `verify` found nothing wrong; neighbors that are tied aren't.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> is_right(verify(example("ann")))
    True
    """
    return (
        not any(found[kind].values.any() for kind in FAULTS)
        and bool((found["legal"].values >= found.sizes[NEIGHBOR]).all())
        and bool(found.attrs["convention"] == found.attrs["expected_convention"])
    )


def metric_in(ds: xr.Dataset) -> Metric:
    """Return the metric of a benchmark that can be verified; raise as `verify` does of others."""
    faults = list(_faults(ds))
    if faults:
        raise LayoutError("\n".join(faults))
    named = ds.attrs.get("distance")
    metric = metric_of(text_of(named) or str(named))
    n_base, k = ds.sizes["vector"], ds.sizes[NEIGHBOR]
    if not 1 <= k <= n_base:
        raise Refused(
            f"neighbors: found {k} for each query; expected 1 to {n_base}, the number of base "
            "vectors; compute the ground truth again"
        )
    return metric


def _faults(ds: xr.Dataset) -> Iterator[str]:
    """Yield what is missing, and what has another shape than belongs to it."""
    for name, dims in _DIMS.items():
        if name not in ds:
            others = [label for label in _LABELS if label in ds]
            if name not in _LABELS:
                yield f"{name}: missing; expected it, of dims {dims!r}; open a whole benchmark"
            elif others:
                yield f"{name}: missing beside {others[0]}; expected both or neither; add it"
        elif ds[name].dims != dims:
            yield f"{name}: found dims {ds[name].dims!r} {ds[name].shape!r}; expected {dims!r}"
        elif name in ("neighbors", *_LABELS) and ds[name].dtype.kind not in "iu":
            yield f"{name}: found {ds[name].dtype}; expected whole numbers"


def _chosen(n_queries: int, sample: int | None, seed: int) -> Ids:
    """Return the rows of the queries that are looked at, in order."""
    if sample is None:
        return np.arange(n_queries)
    if sample < 1:
        raise Refused(f"sample: found {sample!r}; expected 1 or more queries")
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n_queries, min(sample, n_queries), replace=False))


def _legal(ds: xr.Dataset, stored: xr.Dataset, compute: Compute) -> Ids:
    """Return how many base vectors may be neighbors of each query."""
    n_queries = stored.sizes[_QUERY]
    if "train_labels" not in ds:
        return np.full(n_queries, ds.sizes["vector"])
    names, counts = compute(*da.unique(blocked(ds["train_labels"].variable), return_counts=True))
    own = stored["test_labels"].values
    place = np.minimum(np.searchsorted(names, own), len(names) - 1)
    found: Ids = np.where(names[place] == own, counts[place], 0).astype(np.int64)
    return found


def _right(ds: xr.Dataset, metric: Metric, k: int, compute: Compute) -> Ids:
    labels = [ds.get(name) for name in _LABELS]
    found = knn(
        ds["train"],
        ds["test"],
        k=k,
        metric=metric.name,
        base_labels=labels[0],
        query_labels=labels[1],
    )
    (found,) = compute(found[["neighbors"]])
    ids: Ids = found["neighbors"].values
    return ids


def _pairs(sums: xr.Dataset, part: slice, ds: xr.Dataset, *, is_whole: bool) -> Pairs:
    return Pairs(
        squares=sums["squares"].values[:, part],
        products=sums["products"].values[:, part],
        sizes=sums["sizes"].values[:, part],
        own=sums["own"].values[:, np.newaxis],
        n_features=ds.sizes["feature"],
        is_whole=is_whole,
    )


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "f" else np.dtype(np.float64)
