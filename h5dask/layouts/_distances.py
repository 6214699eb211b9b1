"""Whether stored distances, labels and ratios agree with the vectors: ann's relations.

Each reads what it needs of a lazy Dataset and says what it finds; samples are the same at every
run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from h5dask.check.attributes import text_of
from h5dask.problem import Problem

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]
SAMPLE = 64
"""Queries whose distances are computed again."""
_MAX_VALUES = 2**23
"""Features of neighbors that are held at once, in float64: 64 MiB."""


def _squares(a: Floats, b: Floats) -> Floats:
    squares: Floats = np.square(a - b).sum(-1)
    return squares


def _cosine(a: Floats, b: Floats) -> Floats:
    norms = np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1))
    # A vector without direction is told by a check of its own.
    cosine = np.full(norms.shape, np.nan)
    np.divide((a * b).sum(-1), norms, out=cosine, where=norms > 0)
    return cosine


CONVENTIONS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "euclidean, sqrt(sum (a-b)^2)": lambda a, b: np.sqrt(_squares(a, b)),
    "squared euclidean": _squares,
    "ip of real vectors, 1 - a.b": lambda a, b: 1 - (a * b).sum(-1),
    "ip of integer vectors, -a.b": lambda a, b: -(a * b).sum(-1),
    "plain inner product, a.b": lambda a, b: (a * b).sum(-1),
    "angular, 1 - cos": lambda a, b: 1 - _cosine(a, b),
    "cosine similarity": _cosine,
    "hamming, mean of a xor b": lambda a, b: (a != b).mean(-1, dtype=np.float64),
}
"""Ways to store how far two vectors are apart, the four known ones and frequent mistakes."""
_METRICS = ("euclidean", "ip", "angular", "hamming")


def convention(distance: str, dtype: np.dtype[Any]) -> str | None:
    """Return which of `CONVENTIONS` a metric has for vectors of a dtype, None for other metrics."""
    if distance not in _METRICS:
        return None
    if distance == "ip":
        distance = "ip of real" if dtype.kind == "f" else "ip of integer"
    return next(name for name in CONVENTIONS if name.startswith(distance))


def _sampled(ds: xr.Dataset) -> NDArray[np.int64]:
    """Return up to `SAMPLE` queries, evenly spread, the first and the last among them."""
    n, width = ds.sizes["query"], ds.sizes["neighbor"] * ds.sizes.get("feature", 1)
    many = min(SAMPLE, n, max(1, _MAX_VALUES // max(1, width)))
    return np.unique(np.linspace(0, n - 1, many).astype(np.int64))


def _valid(ids: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Return which ids name a row; the others are told by a check of their own."""
    valid: NDArray[np.bool_] = (ids >= 0) & (ids < n)
    return valid


def distances_agree(ds: xr.Dataset, subject: str) -> Iterator[Problem]:
    """Yield where stored distances aren't those to the rows that the neighbors name.

    Distances of 64 queries (fewer where neighbors are many and wide) are computed in float64, in
    about 512 MiB at most. The tolerance is that of float32 values computed by
    |a|^2 + |b|^2 - 2ab, as public tools do.
    """
    if not {"train", "test", "neighbors", "distances"} <= set(ds.variables):
        return
    dtype = ds["train"].dtype
    wanted = convention(text_of(ds.attrs.get("distance")) or "", dtype)
    if wanted is None or not min(ds.sizes[dim] for dim in ("query", "vector", "neighbor")):
        return
    queries = _sampled(ds)
    ids = ds["neighbors"].isel(query=queries).values
    stored = ds["distances"].isel(query=queries).values.astype(np.float64)
    valid = _valid(ids, ds.sizes["vector"])
    rows, back = np.unique(ids[valid], return_inverse=True)
    b = ds["train"].isel(vector=rows).values.astype(np.float64)[back]
    a = ds["test"].isel(query=queries).values.astype(np.float64)[np.nonzero(valid)[0]]
    apart = ~_close(wanted, a, b, stored[valid], dtype)
    if not apart.any():
        return
    at = np.argwhere(valid)[apart]
    query, neighbor = int(queries[at[0][0]]), int(at[0][1])
    computed = _computed(wanted, a, b)[apart][0]
    other = next((x for x in CONVENTIONS if _close(x, a, b, stored[valid], dtype).all()), None)
    yield Problem(
        where=f"{subject}: /distances",
        found=f"{len(at)} of {len(a)} sampled distances are not those to the rows that /neighbors "
        f"names: /distances[{query}, {neighbor}] is {float(stored[tuple(at[0])])!r}",
        expected=f"{float(computed)!r}, as {wanted} gives",
        way_out=f"the values follow {other}: convert them, or correct the attribute 'distance'"
        if other
        else "compute the ground truth again",
    )


@np.errstate(over="ignore", invalid="ignore")
def _computed(name: str, a: Floats, b: Floats) -> Floats:
    """Return distances by a convention; damaged values overflow without a word."""
    return CONVENTIONS[name](a, b)


@np.errstate(over="ignore", invalid="ignore")
def _close(
    name: str, a: Floats, b: Floats, stored: Floats, dtype: np.dtype[Any]
) -> NDArray[np.bool_]:
    """Whether stored distances are those of a convention, but for rounding."""
    eps = 1e-5 if dtype.kind != "f" else max(1e-5, 4 * float(np.finfo(dtype).eps))
    computed = _computed(name, a, b)
    close: NDArray[np.bool_]
    scale = np.square(a).sum(-1) + np.square(b).sum(-1)
    if name.startswith("euclidean"):
        # Rounding adds to the square, so that near 0 its root is far off.
        close = np.abs(np.square(stored) - np.square(computed)) <= eps * scale
        close = close & (stored >= 0) | (np.abs(stored - computed) <= eps * computed)
    elif name.startswith(("angular", "cosine", "hamming")):
        close = (np.abs(stored - computed) <= eps) | np.isnan(computed)
    else:
        close = np.abs(stored - computed) <= eps * (1 + scale)
    return close


def labels_agree(ds: xr.Dataset, subject: str) -> Iterator[Problem]:
    """Yield sampled neighbors of another label than their query's, and labels of too few rows."""
    if not {"train_labels", "test_labels", "neighbors"} <= set(ds.variables):
        return
    train, test = ds["train_labels"].values, ds["test_labels"].values
    if not (len(train) and len(test)):
        return
    queries, k = _sampled(ds), ds.sizes["neighbor"]
    ids = ds["neighbors"].isel(query=queries).values
    valid = _valid(ids, len(train))
    unlike = valid & (train[np.where(valid, ids, 0)] != test[queries][:, None])
    if unlike.any():
        row, neighbor = (int(x) for x in np.argwhere(unlike)[0])
        found = train[ids[row, neighbor]].item()
        yield Problem(
            where=f"{subject}: /neighbors",
            found=f"{int(unlike.sum())} of {int(valid.sum())} sampled neighbors have another label "
            f"than their query: /neighbors[{int(queries[row])}, {neighbor}] has {found!r}",
            expected=f"{test[queries[row]].item()!r}, that of the query",
            way_out="compute the ground truth among the rows of the query's label",
        )
    known, counts = np.unique(train, return_counts=True)
    rows = dict(zip(known.tolist(), counts.tolist(), strict=True))
    few = [label for label in np.unique(test).tolist() if rows.get(label, 0) < k]
    if few:
        told = ", ".join(f"label {x!r} has {rows.get(x, 0)} rows" for x in few[:5])
        yield Problem(
            where=f"{subject}: /test_labels",
            found=f"{len(few)} labels of queries with fewer rows than neighbors: {told}",
            expected=f"at least {k} rows, the number of neighbors",
            way_out="leave those queries out, or keep fewer neighbors",
        )


def ratios_agree(ds: xr.Dataset, subject: str) -> Iterator[Problem]:
    """Yield where `valid_ratios` isn't each label's share of the base."""
    if not {"train_labels", "valid_ratios"} <= set(ds.variables):
        return
    labels, stored = ds["train_labels"].values, ds["valid_ratios"].values.astype(np.float64)
    if not len(labels) or labels.min() < 0:
        return
    known, counts = np.unique(labels, return_counts=True)
    by_label = len(stored) == int(known[-1]) + 1
    where, index = f"{subject}: /valid_ratios", "indexed by the label itself"
    if not by_label and len(stored) != len(known):
        yield Problem(
            where=where,
            found=f"{len(stored)} values for {len(known)} labels, of which the largest is "
            f"{known[-1].item()!r}",
            expected=f"{int(known[-1]) + 1}, {index}",
            way_out="compute them anew",
        )
        return
    if not by_label:
        yield Problem(
            where=where,
            found=f"{len(stored)} values, one a distinct label, of which the largest is "
            f"{known[-1].item()!r}",
            expected=f"{int(known[-1]) + 1} where they are {index}, as the consumer does",
            way_out="number the labels from 0 without gaps",
            level="note",
        )
    shares = np.zeros(len(stored))
    shares[known if by_label else np.arange(len(known))] = counts / len(labels)
    for at in np.flatnonzero(~(np.abs(stored - shares) <= 1e-6))[:5].tolist():
        label = at if by_label else known[at].item()
        yield Problem(
            where=where,
            found=f"{float(stored[at])!r} for label {label!r}",
            expected=f"{float(shares[at])!r}, its share of the {len(labels)} rows",
            way_out="compute them anew",
        )
