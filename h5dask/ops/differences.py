"""What two sets of vectors are compared by: sums of halves, products of differences, projections.

The records of `contrasts`, on numpy blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh
from scipy.stats import rankdata

from h5dask.ops.components import add_products

_PIECE = 2**19
"""Values that are made float64 at once."""
_SMALL = 64
"""Matrices so small are solved at once, larger ones for the vector that is asked for."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sides:
    """Sums over the vectors of two sides, a half at a time."""

    shift: NDArray[np.float64]
    """Subtracted from each vector first, so that an offset costs no digits: (column,)."""
    sums: NDArray[np.float64]
    """Of what is left: (side, half, column)."""
    counts: NDArray[np.int64]
    """Vectors that were added: (side, half)."""
    skipped: NDArray[np.int64]
    """Vectors that weren't, for something in them isn't finite: (side,)."""
    rows: NDArray[np.float64] | None = None
    """Differences of paired vectors, while there are fewer of them than columns ..."""
    products: NDArray[np.float64] | None = None
    """... and the sum of their products (column, column) from then on."""


def seen(block: NDArray[Any], half: NDArray[np.int8], *, side: int) -> Sides:
    """Return the sums of some vectors (row, column) of one side; `half` (row,) is 0 or 1."""
    made = _nothing(block.shape[1])
    for part in _parts(block):
        values = block[part].astype(np.float64)
        finite = np.isfinite(values).all(axis=1)
        made.skipped[side] += (~finite).sum()
        _add(made, side, values[finite], half[part][finite])
    return made


def seen_paired(first: NDArray[Any], second: NDArray[Any], half: NDArray[np.int8]) -> Sides:
    """Return the sums of pairs of vectors, which count where both are finite."""
    made = _nothing(first.shape[1])
    differences = []
    for part in _parts(first):
        sides = first[part].astype(np.float64), second[part].astype(np.float64)
        finite = [np.isfinite(values).all(axis=1) for values in sides]
        both = finite[0] & finite[1]
        differences.append(sides[0][both] - sides[1][both])
        for side, values in enumerate(sides):
            made.skipped[side] += (~both).sum()
            _add(made, side, values[both], half[part][both])
    return _with_differences(made, differences, None)


def merge(parts: list[Sides]) -> Sides:
    """Return the sums of all vectors that several were made of."""
    shift = next((part.shift for part in parts if part.counts.any()), parts[0].shift)
    made = Sides(
        shift=shift,
        sums=np.sum(
            [part.sums + part.counts[..., np.newaxis] * (part.shift - shift) for part in parts],
            axis=0,
        ),
        counts=np.sum([part.counts for part in parts], axis=0),
        skipped=np.sum([part.skipped for part in parts], axis=0),
    )
    if parts[0].rows is None and parts[0].products is None:
        return made
    products = None
    for held in (part.products for part in parts if part.products is not None):
        products = held.copy() if products is None else np.add(products, held, out=products)
    return _with_differences(made, [part.rows for part in parts if part.rows is not None], products)


def compared(found: Sides) -> dict[str, NDArray[Any]]:
    """Return what both sides are compared by; NaN where a side or a half of it is empty.

    The shift is the same on both sides, so that none is left.

    Returns
    -------
    dict of str to array
        `vector` (column,), `halves` (half, column), `count` and `skipped` (side,), and where there
        are differences `principal` (column,).
    """
    n = found.counts.sum(axis=1)
    known = np.where(found.counts > 0, found.counts, np.nan)
    means = found.sums / known[..., np.newaxis]
    whole = found.sums.sum(axis=1) / np.where(n > 0, n, np.nan)[:, np.newaxis]
    made = {
        "vector": whole[0] - whole[1],
        "halves": means[0] - means[1],
        "count": n,
        "skipped": found.skipped,
    }
    if found.rows is not None or found.products is not None:
        made["principal"] = _principal(found, made["vector"])
    return made


def projected(
    block: NDArray[Any], half: NDArray[np.int8], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far vectors (row, column) lie along the other half's vector: (row,), or NaN."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(length > 0, length, np.nan)
    made = np.empty(len(block))
    for part in _parts(block):
        values = block[part].astype(np.float64)
        values[~np.isfinite(values).all(axis=1)] = np.nan
        along = values @ units[::-1].T
        made[part] = np.take_along_axis(along, half[part][:, np.newaxis].astype(np.intp), 1)[:, 0]
    return made


def judged(projection: NDArray[np.float64], half: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return d' and the area under the curve of two sides' projections, the mean of both halves.

    Parameters
    ----------
    projection : (..., side, row) float64
        NaN where there is none.
    half : (..., side, row) int8
        Broadcast against it.

    Returns
    -------
    (..., 2) float64
        Of halves that have both sides; NaN where none has, and d' where a side of one has a
        single value. d' is infinite where both sides are constant, but not the same.
    """
    made = np.full((*projection.shape[:-2], 2), np.nan)
    half = np.broadcast_to(half, projection.shape)
    for at in np.ndindex(*projection.shape[:-2]):
        found = []
        for one in (0, 1):
            sides = [
                values[(flags == one) & np.isfinite(values)]
                for values, flags in zip(projection[at], half[at], strict=True)
            ]
            if sides[0].size and sides[1].size:
                found.append((_dprime(*sides), _auc(*sides)))
        if found:
            with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
                made[at] = np.mean(found, axis=0)
    return made


def halves_of(n: int, random: np.random.Generator) -> NDArray[np.int8]:
    """Return which half each of some samples is in, at random: (n,) of 0 and 1."""
    return (random.permutation(n) < n // 2).astype(np.int8)


def _nothing(width: int) -> Sides:
    return Sides(
        shift=np.zeros(width),
        sums=np.zeros((2, 2, width)),
        counts=np.zeros((2, 2), np.int64),
        skipped=np.zeros(2, np.int64),
    )


def _add(made: Sides, side: int, values: NDArray[np.float64], half: NDArray[np.int8]) -> None:
    """Add vectors, of which nothing is left afterwards."""
    if len(values) and not made.counts.any():
        made.shift[:] = values.mean(axis=0)
    values -= made.shift
    for one in (0, 1):
        mine = values[half == one]
        made.sums[side, one] += mine.sum(axis=0)
        made.counts[side, one] += len(mine)


def _with_differences(
    made: Sides, rows: list[NDArray[np.float64]], products: NDArray[np.float64] | None
) -> Sides:
    """Return sums with differences, as rows or as products (filled), whichever is smaller."""
    width = made.sums.shape[-1]
    if products is None:
        if sum(map(len, rows)) < width:
            return replace(made, rows=np.concatenate([np.empty((0, width)), *rows]))
        products = np.zeros((width, width))
    for one in rows:
        add_products(products, one)
    return replace(made, products=products)


def _principal(found: Sides, along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the direction in which differences are largest, oriented along a vector."""
    rows, products = found.rows, found.products
    square = products if rows is None else rows @ rows.T
    if square is None or not square.size or not square.any():
        return np.full(found.sums.shape[-1], np.nan)
    if len(square) <= _SMALL:
        top = np.linalg.eigh(square)[1][:, -1]
    else:
        # A start by the matrix itself may be at right angles to what is looked for.
        start = np.random.default_rng(0).standard_normal(len(square))
        top = eigsh(square, k=1, v0=start)[1][:, 0]
    direction: NDArray[np.float64] = top if rows is None else rows.T @ top
    direction /= np.linalg.norm(direction)
    return -direction if direction @ along < 0 else direction


def _dprime(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if min(first.size, second.size) < 2:
        return np.nan
    spread = np.sqrt((first.var() + second.var()) / 2)
    gap = first.mean() - second.mean()
    return float(gap / spread) if spread > 0 else float(np.sign(gap) * np.inf if gap else 0.0)


def _auc(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([first, second]))[: first.size]
    wins = ranks.sum() - first.size * (first.size + 1) / 2
    return float(wins / (first.size * second.size))


def _parts(block: NDArray[Any]) -> Iterator[slice]:
    step = max(1, _PIECE // max(1, block.shape[1]))
    for first in range(0, len(block), step):
        yield slice(first, first + step)
