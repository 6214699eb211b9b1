"""The product that tells most base vectors apart from the nearest, and how far it may be off.

A filter is one record: another product, of bytes or on another processor, is another record. Which
filter is used, and what is made of its numbers, lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.packing import finish, pack
from h5dask.ops.metrics import Metric, Numbers, Vectors

_SAMPLE = 256
"""Vectors whose mean becomes the centre."""
_BESIDE = 2
"""Columns of a packed vector beside its features."""
_SLACK = 2.25
"""Times a product's share of error: it may be off both ways, and is rounded."""
_EXACT = 2.0**23
"""Up to here float32 holds all halves of whole numbers; no part of a sum is above all sizes."""
_WHOLE = 2.0**53
"""Up to here float64 holds all whole numbers."""
_FAR = 2.0**900
"""What products may be multiplied by; of vectors as short as that, squares hold no digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where vectors are put before they are multiplied, so that products lose little."""

    metric: Metric
    """What near means."""
    centre: Numbers
    """What is subtracted from base vectors, and from queries where the metric allows: (feature,)"""
    scale: float
    """What both are multiplied by then, a power of two: no base value is above 1."""
    query_scale: float
    """What queries are multiplied by too, so that none of their values is above 1."""
    reach: float
    """A length that no base vector exceeds, before it is moved."""
    is_exact: bool
    """Whether all products and their sums are whole numbers, or half ones, that float32 holds."""

    @property
    def factor(self) -> float:
        """What products of vectors are multiplied by."""
        return self.scale * (self.scale * self.query_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Vectors as a filter multiplies them."""

    values: NDArray[Any]
    """(vector, column), of whatever the filter takes."""
    slack: NDArray[Any]
    """How far a number may lie above the true one is the sum of the products of a base vector's
    two with a query's two: (vector, 2), of the dtype of the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A tile's product and its bound: numbers that are larger the nearer two vectors are.

    Of vectors x and q of the space, the true number is q.x, less half of |x|^2 where the metric is
    moved, times the space's query_scale. A filter's is no less, and no more than the slack above.
    """

    name: str
    """What people call it."""
    dtype: np.dtype[Any]
    """Of the numbers."""
    base: Callable[[Vectors, NDArray[np.int64], Space], Packed]
    """Packs base vectors; takes which of them."""
    queries: Callable[[Vectors, NDArray[np.int64], Space], Packed]
    """Packs queries; takes which of them."""
    multiply: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], None]
    """Takes values of some base vectors and of some queries; fills (base vector, query)."""
    suits: Callable[[Space], bool]
    """Whether its numbers tell anything in a space."""


def space_of(
    base: Vectors,
    order: NDArray[np.int64],
    queries: Vectors,
    most: tuple[float, float],
    metric: Metric,
    *,
    is_whole: bool,
) -> Space:
    """Return where to multiply some base vectors and queries.

    Parameters
    ----------
    base, queries : (vector, feature) float32 or float64
        Finite, and not zero where the metric is of directions.
    order : (vector,) int64
        Which base vectors will be multiplied.
    most : (float, float)
        What no value of the base, and of the queries, exceeds in size; not above 2^500.
    metric : Metric
        What near means.
    is_whole : bool
        Whether all values are whole numbers.

    Examples
    --------
    >>> from h5dask.ops.metrics import metric_of
    >>> base = np.array([[100.0], [102.0]])
    >>> metric, most = metric_of("euclidean"), (102.0, 102.0)
    >>> found = space_of(base, np.arange(2), base, most, metric, is_whole=True)
    >>> float(found.centre[0]), found.scale, found.is_exact
    (101.0, 1.0, True)
    """
    sample = base[order[:: max(1, len(order) // _SAMPLE)]].astype(np.float64)
    if metric.is_unit:
        sample /= np.sqrt(np.einsum("ij,ij->i", sample, sample))[:, np.newaxis]
    centre = sample.mean(axis=0)
    if is_whole and not metric.is_unit:
        centre = np.rint(centre)
        size, own = _span(base, centre), _span(queries, centre if metric.is_moved else 0.0)
        terms = np.square(own + size) if metric.is_moved else own * (np.abs(centre).max() + size)
        products = size * (own + size / 2)
        if max(products / _EXACT, terms / _WHOLE) * base.shape[1] <= 1.0:
            return Space(
                metric=metric,
                centre=centre,
                scale=1.0,
                query_scale=1.0,
                reach=np.sqrt(base.shape[1]) * most[0],
                is_exact=True,
            )
    off = float(np.abs(centre).max(initial=0.0))
    size, own = (1.0, 1.0) if metric.is_unit else most
    scale = _shrinking(size + off)
    own_scale = _shrinking(own + metric.is_moved * off)
    return Space(
        metric=metric,
        centre=centre,
        scale=scale,
        query_scale=max(min(1.0, own_scale / scale), 2.0**-1000),
        reach=1.0 if metric.is_unit else np.sqrt(base.shape[1]) * size,
        is_exact=False,
    )


def _span(vectors: Vectors, centre: Numbers | float) -> float:
    """Return the largest size of vectors less a centre."""
    low, high = vectors.min(axis=0) - centre, vectors.max(axis=0) - centre
    return float(max(np.abs(low).max(), np.abs(high).max()))


def _shrinking(size: float) -> float:
    """Return the power of two, within reason, that makes a size at most 1, and more than a half."""
    _, exponent = np.frexp(size)
    return float(np.ldexp(1.0, int(np.clip(-exponent, -1000, 1000)))) if size else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rounding:
    """What is lost in sums of products of floating-point numbers (Higham 2002, section 3.1)."""

    dtype: np.dtype[Any]
    """Of the numbers."""

    def share(self, space: Space) -> float:
        """Return the share of |q||x| + |x|^2 / 2 by which a product can be off, in any order.

        Beside the sum of all columns, both vectors are rounded, and the columns beside them; and
        so, in float64, are keys.
        """
        if space.is_exact:
            return 0.0
        n_features, unit = len(space.centre), float(np.finfo(self.dtype).eps) / 2
        one = (n_features + _BESIDE + 6) * unit + (n_features + 8) * 2.0**-47
        return one / max(1.0 - 3.0 * one, 0.1)

    def lost(self, space: Space) -> float:
        """Return what is lost, at most, of values too small to be held."""
        if space.is_exact:
            return 0.0
        return 8.0 * (len(space.centre) + _BESIDE) * float(np.finfo(self.dtype).tiny)

    def suits(self, space: Space) -> bool:
        """Return whether the losses are small."""
        lost = self.lost(space) / space.query_scale
        return self.share(space) < 0.1 and lost < 0.1 and space.factor < _FAR


def _base(
    vectors: Vectors, order: NDArray[np.int64], space: Space, *, rounding: _Rounding
) -> Packed:
    """Pack base vectors: the columns beside them hold half the square, and what may be lost."""
    share, lost = rounding.share(space), rounding.lost(space) / space.query_scale
    columns = [
        [lost, 0.0, share - 1.0],
        [0.0, share, 0.0],
        [0.0, _SLACK * share, 0.0],
        [_SLACK * lost, 0.0, _SLACK * share],
    ]
    return _packed(vectors, order, space, space.scale, columns, rounding, is_moved=True)


def _queries(
    vectors: Vectors, order: NDArray[np.int64], space: Space, *, rounding: _Rounding
) -> Packed:
    """Pack queries: the columns beside them are what those of base vectors are multiplied by."""
    scale, own = space.scale * space.query_scale, space.query_scale
    columns = [[own, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [own, 0.0, 0.0]]
    moved = space.metric.is_moved
    return _packed(vectors, order, space, scale, columns, rounding, is_moved=moved)


def _packed(
    vectors: Vectors,
    order: NDArray[np.int64],
    space: Space,
    scale: float,
    columns: list[list[float]],
    rounding: _Rounding,
    *,
    is_moved: bool,
) -> Packed:
    """Return rows, their columns beside the features and their slack, as `finish` fills them."""
    centre = space.centre if is_moved else np.zeros_like(space.centre)
    values = np.empty((len(order), len(centre) + _BESIDE), rounding.dtype)
    slack = np.empty((len(order), 2), rounding.dtype)
    squares = np.empty(len(order))
    pack(vectors, order, space.metric.is_unit, centre, scale, values, squares)
    half = 0.5 if space.metric.is_moved else 0.0
    extra = 0.0 if space.is_exact else 2.0 * float(np.finfo(rounding.dtype).eps)
    finish(squares, np.array(columns), half, extra, values, slack)
    return Packed(values=values, slack=slack)


def _multiply(base: NDArray[Any], queries: NDArray[Any], out: NDArray[Any]) -> None:
    np.matmul(base, queries.T, out=out)


def _floating(name: str, dtype: type[Any]) -> Filter:
    """Return the filter that multiplies floating-point numbers by numpy's BLAS."""
    rounding = _Rounding(dtype=np.dtype(dtype))
    return Filter(
        name=name,
        dtype=rounding.dtype,
        base=partial(_base, rounding=rounding),
        queries=partial(_queries, rounding=rounding),
        multiply=_multiply,
        suits=rounding.suits,
    )


FLOAT32 = _floating("float32", np.float32)
FLOAT64 = _floating("float64", np.float64)
