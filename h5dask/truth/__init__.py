"""Vectors -> a whole vector-search benchmark: types, labels and the neighbors that are true.

It knows the layout's conventions. How neighbors are found lies in `ops/neighbors`; whether a
file's own are right is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute as dask_compute

from h5dask.ops.metrics import metric_of
from h5dask.ops.neighbors import knn
from h5dask.ops.sides import Labels, Vectors
from h5dask.truth.vectorset import stored, vector_set

Compute = Callable[..., tuple[Any, ...]]


def ground_truth(  # noqa: PLR0913 - each is one choice of the benchmark's maker
    base: Vectors | xr.Dataset,
    query: Vectors | None = None,
    *,
    k: int,
    metric: str | None = None,
    base_labels: Labels | None = None,
    query_labels: Labels | None = None,
    test_size: float | None = None,
    seed: int = 0,
    base_rows: int | None = None,
    quantize: str | None = None,
    relabel: bool = False,
    clip_k: bool = False,
    compute: Compute = dask_compute,
) -> xr.Dataset:
    """Return a whole benchmark: vectors, labels and each query's true neighbors.

    Parameters
    ----------
    base : DataArray, array of numpy or dask, or Dataset
        (vector, feature); or a benchmark whose vectors, labels and metric are taken, while all
        else is made new.
    query : DataArray, or array of numpy or dask, optional
        (query, feature).
    k : int
        Neighbors of each query.
    metric : {"euclidean", "ip", "angular"}, optional
        "euclidean" without it, or what the benchmark has.
    base_labels, query_labels : array, optional
        A label a vector, from 0; neighbors are the nearest among the vectors with the query's.
        Queries that are taken out of the base take their labels along. They are loaded.
    test_size : int or float, optional
        Without queries: how many base vectors, or what share of them, become queries.
    seed : int, default 0
        Chooses them.
    base_rows : int, optional
        Use the first so many base vectors only.
    quantize : {"int8"}, optional
        Round all values to whole numbers from -127 to 127, times the one scale that takes the
        largest there; it is recorded as the attribute `scale`.
    relabel : bool, default False
        Number the labels from 0 in their order; they may be text then.
    clip_k : bool, default False
        Lower k to the number of vectors that the rarest label of a query has.
    compute : callable, default dask.compute
        What computes the neighbors.

    Returns
    -------
    Dataset
        In the analysis form of the layout: `train`, `test` lazy where they were, float32, or int8
        where all vectors are whole numbers of a byte; `neighbors` int64 and `distances` float32
        (query, neighbor), of the stored values: euclidean, not squared; ip 1 - a.b, of int8 -a.b;
        angular 1 - cos. With labels `train_labels`, `test_labels` int64, and `valid_ratios`
        float32, indexed by the label itself. Attributes: distance, type, dimension, point_type,
        and `certified`: how many queries the float32 bound alone was enough for.
        Neighbors are computed at once; memory per task as of `knn`.

    Raises
    ------
    Refused
        What is asked for can't be: all reasons at once; or a value has no place in the stored
        dtype, when it is read.

    Examples
    --------
    >>> base = xr.DataArray(np.arange(12.0).reshape(6, 2), dims=("vector", "feature"))
    >>> ds = ground_truth(base, k=2, test_size=1)
    >>> ds.train.shape, ds.test.values, ds.neighbors.values, ds.distances.values.round(3)
    ((5, 2), array([[10., 11.]], dtype=float32), array([[4, 3]]), array([[2.828, 5.657]], ...))
    """
    own = base.attrs.get("distance") if isinstance(base, xr.Dataset) else None
    metric = metric or (own if own is None else str(own)) or "euclidean"
    metric_of(metric)
    vectors = vector_set(base, query, base_labels, query_labels)
    vectors = vectors.first(base_rows).divided(test_size, seed).labelled(relabel=relabel)
    k = vectors.fewest(k, clip=clip_k)
    made, scale = stored(vectors, quantize, compute)
    train, test = xr.DataArray(made.train), xr.DataArray(made.test)
    (found,) = compute(
        knn(
            train,
            test,
            k=k,
            metric=metric,
            base_labels=made.train_labels,
            query_labels=made.test_labels,
        )
    )
    variables: dict[str, Any] = {
        "train": made.train,
        "test": made.test,
        "neighbors": found.neighbors.variable,
        "distances": found.distances.variable.astype(np.float32),
    }
    if made.train_labels is not None and made.test_labels is not None:
        variables["train_labels"] = ("vector", made.train_labels)
        variables["test_labels"] = ("query", made.test_labels)
        counts = np.bincount(made.train_labels)
        variables["valid_ratios"] = ("label", (counts / len(train)).astype(np.float32))
    attrs: dict[str, Any] = {
        "distance": metric,
        "type": "dense",
        "dimension": np.int64(train.shape[1]),
        "point_type": "float" if train.dtype.kind == "f" else "int8",
        **({} if scale is None else {"scale": scale}),
        "certified": np.int64(found.certified.values.sum()),
    }
    return xr.Dataset(variables, attrs=attrs)
