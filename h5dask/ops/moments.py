"""What is known of numbers when each was seen once, target by target, and how it is merged.

The record of `statistics`; how its values get there lies in `kernels/moments`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.compile import as_bytes
from h5dask.kernels.moments import TILE, add_columns, add_whole_rows

KINDS = "biuf"
"""Kinds of numpy dtypes that are numbers here."""
_COMPILED = tuple(map(np.dtype, ("f2", "f4", "f8", "i1", "u1")))
"""What the kernels take; other numbers become the first of these that holds them, or float64."""
_NARROW = 64
"""Rows so short are laid side by side, so that many columns are added at once."""
_FEWEST, _PIECES = 32, 16
"""Sums beside each other in a short row, and in how many pieces a long one is added."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Moments:
    """Counts, extremes and moments of each group, at each place of the axes that are kept."""

    groups: NDArray[np.int64]
    """Which groups there are, ascending: (group,)."""
    counts: NDArray[np.int64]
    """How many are finite, NaN, infinity, minus infinity: (4, group, ...)."""
    mean: NDArray[np.float64]
    """Of the finite ones, as all that follows; 0 where there are none: (group, ...)."""
    rest: NDArray[np.float64]
    """What the mean lost in rounding: parts far from zero are merged without losing digits."""
    squares: NDArray[np.float64]
    """Sum of squared deviations from the mean."""
    low: NDArray[Any]
    """Least; of 64-bit integers as such, of all others float64; the largest if there are none."""
    high: NDArray[Any]
    """Largest, or the least if there are none."""


Runs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Lengths of runs of rows of one group, and their groups; -1 belongs to none."""


def moments(
    block: NDArray[Any], runs: Runs | None = None, *, axes: tuple[int, ...], along: int = 0
) -> Moments:
    """Return the moments of a block over some axes.

    Parameters
    ----------
    block : array of bool, int, uint or float
        Copied where it isn't C-contiguous or is of a rarer dtype.
    runs : Runs, optional
        Which rows of the axis `along` belong to which group; all of them to 0 without it.
    axes : tuple of int
        What is reduced.
    along : int, default 0
        Which of them is grouped.

    Examples
    --------
    >>> found = moments(np.array([[1.0, 3.0], [np.nan, 5.0]]), axes=(0,))
    >>> found.counts[0], found.mean, found.squares
    (array([[1, 2]]), array([[1., 4.]]), array([[0., 2.]]))
    """
    codes = None
    groups = np.zeros(1, np.int64)
    if runs is not None:
        codes = np.repeat(runs[1], runs[0])
        if (codes < 0).any():
            block, codes = np.compress(codes >= 0, block, along), codes[codes >= 0]
        groups, codes = np.unique(codes, return_inverse=True)
    shape = (len(groups), *(n for axis, n in enumerate(block.shape) if axis not in axes))
    if not block.size:
        return _nothing(groups, shape, block.dtype)
    first = _trailing(block.ndim, axes, along if codes is not None else -1)
    whole = first < block.ndim and first in axes
    values = np.ascontiguousarray(block).reshape(math.prod(block.shape[:first]), -1)
    if codes is None and all(axis in axes for axis in range(first)):
        order, starts = _all(len(values))
    else:
        order, starts = _in_order(targets(block.shape[:first], axes, codes, along))
    counts, sums = _reduced(_compiled(values), order, starts, whole=whole)
    low, high = sums[3:]
    if _is_wide(block.dtype):
        low, high = _extremes(values, order, starts, whole=whole)
    return Moments(
        groups=groups,
        counts=counts.reshape(4, *shape),
        mean=sums[0].reshape(shape),
        rest=sums[1].reshape(shape),
        squares=sums[2].reshape(shape),
        low=low.reshape(shape),
        high=high.reshape(shape),
    )


def merge(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all that several were made of (Chan, Golub and LeVeque 1979).

    Examples
    --------
    >>> one, other = (moments(np.array(values), axes=(0,)) for values in ([1.0, 2.0], [6.0]))
    >>> found = merge([one, other])
    >>> found.mean, found.squares, found.high
    (array([3.]), array([14.]), array([6.]))
    """
    if len(parts) == 1:
        return parts[0]
    groups = parts[0].groups
    if not all(np.array_equal(groups, part.groups) for part in parts):
        return _merged_by_group(parts)
    counts, sums = _joined(
        np.stack([part.counts for part in parts], axis=1),
        np.stack([[part.mean, part.rest, part.squares] for part in parts], axis=1),
    )
    return Moments(
        groups=groups,
        counts=counts,
        mean=sums[0],
        rest=sums[1],
        squares=sums[2],
        low=np.minimum.reduce([part.low for part in parts]),
        high=np.maximum.reduce([part.high for part in parts]),
    )


def _merged_by_group(parts: Sequence[Moments]) -> Moments:
    """Merge parts one after the other, each into its own groups: mostly they have few in common."""
    groups = np.unique(np.concatenate([part.groups for part in parts]))
    shape = (len(groups), *parts[0].mean.shape[1:])
    made = _nothing(groups, shape, parts[0].low.dtype)
    for part in parts:
        at = np.searchsorted(groups, part.groups)
        both = merge([_taken(made, at), part])
        made.counts[:, at] = both.counts
        made.mean[at], made.rest[at], made.squares[at] = both.mean, both.rest, both.squares
        made.low[at], made.high[at] = both.low, both.high
    return made


def _taken(part: Moments, at: NDArray[np.intp]) -> Moments:
    """Return some of the groups."""
    return Moments(
        groups=part.groups[at],
        counts=part.counts[:, at],
        mean=part.mean[at],
        rest=part.rest[at],
        squares=part.squares[at],
        low=part.low[at],
        high=part.high[at],
    )


def spread(part: Moments, groups: NDArray[np.int64]) -> Moments:
    """Return the moments with more groups, of which nothing was seen: (group,) int64, ascending."""
    at = np.searchsorted(groups, part.groups)
    made = _nothing(groups, (len(groups), *part.mean.shape[1:]), part.low.dtype)
    made.counts[:, at] = part.counts
    made.mean[at], made.rest[at], made.squares[at] = part.mean, part.rest, part.squares
    made.low[at], made.high[at] = part.low, part.high
    return made


def _nothing(groups: NDArray[np.int64], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Moments:
    """Return the moments of no values at all."""
    low, high = (np.iinfo(dtype).max, np.iinfo(dtype).min) if _is_wide(dtype) else (np.inf, -np.inf)
    kind = dtype if _is_wide(dtype) else np.dtype(np.float64)
    return Moments(
        groups=groups,
        counts=np.zeros((4, *shape), np.int64),
        mean=np.zeros(shape),
        rest=np.zeros(shape),
        squares=np.zeros(shape),
        low=np.full(shape, low, kind),
        high=np.full(shape, high, kind),
    )


def _is_wide(dtype: np.dtype[Any]) -> bool:
    """Whether float64 doesn't hold each of its values."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def _trailing(ndim: int, axes: tuple[int, ...], grouped: int) -> int:
    """Return where the trailing axes begin that are all reduced, ungrouped, or all kept."""
    first = ndim
    while first and first - 1 != grouped and (first - 1 in axes) == (ndim - 1 in axes):
        first -= 1
    return first


def targets(
    shape: tuple[int, ...], axes: tuple[int, ...], codes: NDArray[np.int64] | None, along: int
) -> NDArray[np.int64]:
    """Return which place of which group each row counts for: (row,) int64.

    Parameters
    ----------
    shape : tuple of int
        Of the leading axes, whose rows these are.
    axes : tuple of int
        Those that are reduced; the places of all others count up, the last one the quickest.
    codes : (n,) int64 or None
        Groups of the rows along the axis `along`, which are the slowest; one group without it.
    """
    target = np.zeros((1,) * len(shape), np.int64)
    for axis, n in enumerate(shape):
        if axis not in axes:
            place = np.arange(n).reshape(-1, *(1,) * (len(shape) - axis - 1))
            target = target * n + place
    if codes is not None:
        n_places = math.prod(n for axis, n in enumerate(shape) if axis not in axes)
        target = target + n_places * codes.reshape(-1, *(1,) * (len(shape) - along - 1))
    return np.array(np.broadcast_to(target, shape)).reshape(-1)


def _in_order(target: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows in the order of their targets, and where each target's rows begin."""
    order = np.arange(target.size)
    if (target[1:] < target[:-1]).any():
        order = np.argsort(target, kind="stable")
        target = target[order]
    return order, np.searchsorted(target, np.arange(target[-1] + 2))


def _compiled(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers of a dtype for which the kernels are compiled, in this machine's order."""
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "b":
        return values.view(np.uint8)
    if dtype not in _COMPILED:
        holding = (one for one in _COMPILED if np.can_cast(dtype, one))
        dtype = next(holding, np.dtype(np.float64))
    return values.astype(dtype, copy=False)


def _reduced(
    values: NDArray[Any], order: NDArray[np.int64], starts: NDArray[np.int64], *, whole: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return counts and sums of rows by target, as the kernels give them."""
    half = values.dtype == np.float16
    # A kernel would be compiled once more for what is read-only.
    lent = as_bytes(values).view(np.uint16 if half else values.dtype)
    bits = lent.reshape(values.shape)
    n_columns, n_targets = values.shape[1], len(starts) - 1
    width = 1 if whole else n_columns
    counts = np.zeros((4, n_targets, width), np.int64)
    sums = np.empty((5, n_targets, width))
    filled = counts.reshape(-1), sums.reshape(-1)
    if whole:
        many = TILE if n_targets == 1 else max(_FEWEST, n_columns // _PIECES)
        add_whole_rows(bits, half, order, starts, min(many, TILE, n_columns), *filled)
        return counts, sums
    beside = TILE // n_columns if n_columns <= _NARROW and n_targets == 1 else 1
    n_long = len(values) // beside
    if beside == 1 or not n_long:
        add_columns(bits, half, order, starts, *filled)
        return counts, sums
    found = _reduced(values[: n_long * beside].reshape(n_long, -1), *_all(n_long), whole=False)
    parts_counts = [found[0].reshape(4, beside, n_columns)]
    parts_sums = [found[1].reshape(5, beside, n_columns)]
    if rest := len(values) % beside:
        last = _reduced(values[-rest:], *_all(rest), whole=False)
        parts_counts.append(last[0])
        parts_sums.append(last[1])
    by_part = np.concatenate(parts_sums, axis=1)
    joined, means = _joined(np.concatenate(parts_counts, axis=1), by_part[:3])
    low, high = by_part[3].min(axis=0), by_part[4].max(axis=0)
    return joined[:, np.newaxis], np.stack([*means, low, high])[:, np.newaxis]


def _all(n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order and starts of rows of one target."""
    return np.arange(n_rows), np.array([0, n_rows])


def _joined(
    counts: NDArray[np.int64], sums: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Put counts (4, part, ...) and sums (3, part, ...) of parts together: (4, ...), (3, ...)."""
    n, (mean, rest, squares) = counts[0], sums
    total = n.sum(axis=0)
    # Differences from one of the means, so that an offset costs no digits.
    most = n.argmax(axis=0)[np.newaxis]
    near = np.take_along_axis(mean, most, axis=0)[0]
    gaps = np.where(n > 0, (mean - near) + rest, 0.0)
    shares = n / np.maximum(total, 1)
    off = (shares * gaps).sum(axis=0)
    joint = near + off
    kept = joint - near
    lost = (near - (joint - kept)) + (off - kept)
    apart = (squares + n * (gaps - off) ** 2).sum(axis=0)
    return counts.sum(axis=1), np.stack([joint, lost, apart])


def _extremes(
    values: NDArray[Any], order: NDArray[np.int64], starts: NDArray[np.int64], *, whole: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and largest of 64-bit integers, of which float64 would lose digits."""
    rows = values[order] if (np.diff(order) != 1).any() else values
    low, high = (one.reduceat(rows, starts[:-1], axis=0) for one in (np.minimum, np.maximum))
    return (low.min(axis=1), high.max(axis=1)) if whole else (low, high)
