"""Base vectors, queries and labels as a benchmark holds them: taken, divided, numbered, rounded.

Neighbors aren't known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.ops.folding import blocked, edges_of
from h5dask.ops.sides import BASE_DIMS, QUERY_DIMS, Labels, Vectors, vectors_of

MOST_LABEL = 1_000_000
"""The largest label that is stored as it is: shares of all labels up to it are."""
QUANTIZED = ("int8",)
"""What vectors can be rounded to."""
_LIMIT = 127
"""The largest value of an int8."""
_NAMED = 5
"""Labels that a message names."""

Compute = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorSet:
    """Base vectors and queries, with what labels them."""

    train: xr.Variable
    """(vector, feature)"""
    test: xr.Variable | None
    """(query, feature); nothing until they are taken out of the base."""
    train_labels: NDArray[Any] | None
    """(vector,)"""
    test_labels: NDArray[Any] | None
    """(query,)"""

    def first(self, n: int | None) -> VectorSet:
        """Return it with so many base vectors only, the first; all without a number."""
        if n is None:
            return self
        there = len(self.train)
        if not 1 <= n <= there:
            raise Refused(f"base_rows: found {n!r}; expected 1 to {there}, the base vectors")
        labels = None if self.train_labels is None else self.train_labels[:n]
        return replace(self, train=self.train[:n], train_labels=labels)

    def divided(self, size: float | None, seed: int) -> VectorSet:
        """Return it with queries, taken at random out of the base where there are none."""
        there = len(self.train)
        if self.test is not None:
            if size is not None:
                raise Refused(f"test_size: found {size!r} beside queries; give one of the two")
            return self
        if size is None:
            raise Refused("query: found none; give queries, or test_size to take some of the base")
        n = size if isinstance(size, int) else round(size * there)
        if not (1 <= n < there and (isinstance(size, int) or 0 < size < 1)):
            raise Refused(
                f"test_size: found {size!r}, of {there} base vectors; expected a number of them, "
                "or a share between 0 and 1, that leaves some on both sides"
            )
        taken = np.zeros(there, np.bool_)
        taken[np.random.default_rng(seed).choice(there, n, replace=False)] = True
        kept, out = np.flatnonzero(~taken), np.flatnonzero(taken)
        labels = self.train_labels
        return VectorSet(
            train=self.train[kept],
            test=xr.Variable(QUERY_DIMS, self.train[out].data),
            train_labels=None if labels is None else labels[kept],
            test_labels=None if labels is None else labels[out],
        )

    def labelled(self, *, relabel: bool) -> VectorSet:
        """Return it with labels from 0, numbered in their order where that is asked for."""
        if self.train_labels is None or self.test_labels is None:
            return self
        sides = {"base": self.train_labels, "query": self.test_labels}
        if relabel:
            names = np.unique(np.concatenate(list(sides.values())))
            sides = {side: np.searchsorted(names, one) for side, one in sides.items()}
        faults = []
        for side, labels in sides.items():
            if labels.dtype.kind not in "iu":
                faults.append(
                    f"{side}_labels: found {labels.dtype}; expected whole numbers; number them by "
                    "relabel=True (--relabel)"
                )
            elif labels.size and not 0 <= labels.min() <= labels.max() <= MOST_LABEL:
                low, high = int(labels.min()), int(labels.max())
                faults.append(
                    f"{side}_labels: found {low} to {high}; expected 0 to {MOST_LABEL}, for the "
                    "share of each is stored; number them by relabel=True (--relabel)"
                )
        if faults:
            raise Refused("\n".join(faults))
        train, test = (one.astype(np.int64) for one in sides.values())
        return replace(self, train_labels=train, test_labels=test)

    def fewest(self, k: int, *, clip: bool) -> int:
        """Return k, lowered where that is asked for to what the rarest label of a query has."""
        if self.train_labels is None or self.test_labels is None or k < 1:
            return min(k, len(self.train)) if clip else k
        asked = np.unique(self.test_labels)
        counts = np.bincount(self.train_labels, minlength=int(asked.max()) + 1)[asked]
        least = int(counts.min())
        if least >= k or (clip and least):
            return min(k, least)
        few = np.flatnonzero(counts < (1 if clip else k))
        lines = [
            f"train_labels: found {counts[i]} base vectors with the label {asked[i]}; expected at "
            f"least k = {k}, for queries have that label"
            for i in few[:_NAMED]
        ]
        lines += [f"and so of {len(few) - _NAMED} more labels"] if len(few) > _NAMED else []
        way_out = f"lower k to {least} (clip_k=True, --clip-k)" if least else "drop those queries"
        raise Refused("\n".join([*lines, way_out]))


def vector_set(
    base: Vectors | xr.Dataset,
    query: Vectors | None,
    base_labels: Labels | None,
    query_labels: Labels | None,
) -> VectorSet:
    """Return what is given, under the names and dims of a benchmark; labels are loaded.

    A benchmark's own vectors and labels are taken where no others are given.
    """
    if not isinstance(base, xr.Dataset):
        base = vectors_of(base, "base", BASE_DIMS)
    test = None if query is None else vectors_of(query, "query", QUERY_DIMS)
    labels: tuple[Labels | None, Labels | None] = (base_labels, query_labels)
    if isinstance(base, xr.Dataset):
        lacking = [name for name in ("train", "test") if name not in base]
        if lacking:
            raise Refused(
                f"base: found a Dataset of {list(map(str, base.data_vars))!r} without "
                f"{' and '.join(lacking)}; expected a benchmark, or an array of vectors"
            )
        if query is None:
            stored_labels = (base.get("train_labels"), base.get("test_labels"))
            test = base.test
            labels = labels if any(one is not None for one in labels) else stored_labels
        train = base.train
    else:
        train = base
    faults = [
        f"{side}: found {dict(one.sizes)}; expected two dims, of vectors and their features"
        for side, one in (("base", train), ("query", test))
        if one is not None and one.ndim != 2
    ]
    theirs, own = (None if one is None else np.asarray(one) for one in labels)
    if test is None and own is not None:
        faults.append("query_labels: found some without queries; those of the base are divided")
    if test is not None and (theirs is None) != (own is None):
        lacking_side = "base" if theirs is None else "query"
        faults.append(f"{lacking_side}_labels: found none beside the others; give both or neither")
    for side, one, x in (("base", theirs, train), ("query", own, test)):
        if one is not None and x is not None and one.shape != x.shape[:1]:
            faults.append(f"{side}_labels: found the shape {one.shape}; expected {x.shape[:1]}")
    if faults:
        raise Refused("\n".join(faults))
    return VectorSet(
        train=xr.Variable(BASE_DIMS, train.variable.data),
        test=None if test is None else xr.Variable(QUERY_DIMS, test.variable.data),
        train_labels=theirs,
        test_labels=own,
    )


def stored(
    vectors: VectorSet, quantize: str | None, compute: Compute
) -> tuple[VectorSet, float | None]:
    """Return vectors in the dtype that a benchmark stores, lazily, and the scale of rounded ones.

    Whole numbers of a byte become int8, all else float32. A value that has no place there is
    refused when it is read.
    """
    there = {"train": vectors.train}
    there |= {} if vectors.test is None else {"test": vectors.test}
    wrong = [f"{name} {one.dtype}" for name, one in there.items() if one.dtype.kind not in "biuf"]
    if wrong:
        raise Refused(f"vectors: found {', '.join(wrong)}; expected numbers")
    if quantize not in (None, *QUANTIZED):
        raise Refused(f"quantize: found {quantize!r}; expected {', '.join(QUANTIZED)}")
    scale = None
    if quantize is not None:
        sizes = compute(*(abs(blocked(one)).max() for one in there.values()))
        largest = float(max(sizes))
        if not 0 < largest < np.inf:
            raise Refused(f"quantize: found {largest} as the largest size; expected a number")
        scale = _LIMIT / largest
    small = scale is not None or all(one.dtype in (np.int8, np.uint8) for one in there.values())
    dtype = np.dtype(np.int8 if small else np.float32)
    made = {name: _converted(one, name, dtype, scale) for name, one in there.items()}
    return replace(vectors, train=made["train"], test=made.get("test")), scale


def _converted(
    vectors: xr.Variable, side: str, dtype: np.dtype[Any], scale: float | None
) -> xr.Variable:
    """Return vectors in another dtype, block by block."""
    if vectors.dtype == dtype and scale is None:
        return vectors
    convert = partial(_convert, side=side, dtype=dtype, scale=scale)
    if vectors.chunks is None:
        return vectors.copy(data=convert(vectors.values, 0))
    array = blocked(vectors)
    starts = da.from_array(np.array(edges_of(array, 0)[:-1])[:, np.newaxis], chunks=1)
    wide = array.rechunk({1: -1})
    return vectors.copy(
        data=da.map_blocks(
            _block,
            wide,
            starts,
            convert=convert,
            dtype=dtype,
            chunks=wide.chunks,
            name=f"convert-{wide.name}",
        )
    )


def _block(block: NDArray[Any], start: NDArray[np.int64], *, convert: Any) -> NDArray[Any]:
    made: NDArray[Any] = convert(block, int(start[0, 0]))
    return made


def _convert(
    block: NDArray[Any], start: int, *, side: str, dtype: np.dtype[Any], scale: float | None
) -> NDArray[Any]:
    """Return one block in another dtype; Refused where a value has no place there."""
    if scale is not None:
        return np.rint(block * scale).astype(dtype)
    with np.errstate(over="ignore"):
        made = block.astype(dtype)
    lost = block > _LIMIT if dtype.kind == "i" else np.isinf(made) & np.isfinite(block)
    rows = start + np.flatnonzero(lost.any(axis=1))
    if len(rows):
        named = ", ".join(map(str, rows[:_NAMED]))
        more = f" and {len(rows) - _NAMED} more of this block" if len(rows) > _NAMED else ""
        raise Refused(
            f"{side}: found {block.dtype} values that {dtype} can't hold, up to "
            f"{block[lost].max()}, in rows {named}{more}; convert the vectors to float32, or "
            "scale them"
        )
    return made
