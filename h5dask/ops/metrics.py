"""What near means: a metric's key, which orders vectors, and the distance that it stands for.

How keys are found quickly lies elsewhere; a metric is a record, so that nothing chooses by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.ordered import products, squared_distances

Vectors = NDArray[np.floating[Any]]
Numbers = NDArray[np.float64]
Which = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How near two vectors are."""

    name: str
    """As people and files call it."""
    is_moved: bool
    """Whether it stays the same when both vectors are moved."""
    is_unit: bool
    """Whether it is of directions: lengths don't count, and none may be zero."""
    keys: Callable[[Vectors, Which, Vectors, Which], Numbers]
    """Takes base vectors and which of them, queries and which of them: float32 or float64, pair by
    pair. Gives a number that is less the nearer the two are."""
    distances: Callable[[Numbers, bool], Numbers]
    """Takes keys and whether all vectors are whole numbers; gives the layout's distances."""
    key_within: Callable[[float, bool], float]
    """Takes a distance, and as above; gives a key that no key of a lesser distance exceeds."""


ALSO_CALLED = {"cosine": "angular", "l2": "euclidean", "dot": "ip"}
"""What others call metrics, and their names here."""


def metric_of(name: str) -> Metric:
    """Return a metric by its name.

    Raises
    ------
    Refused
        There is no such metric.

    Examples
    --------
    >>> metric_of("ip").is_moved
    False
    """
    if name not in METRICS:
        told = ", ".join(f"{other} is {own!r} here" for other, own in ALSO_CALLED.items())
        raise Refused(
            f"metric: found {name!r}; expected one of {', '.join(map(repr, METRICS))}, "
            f"letter by letter; {told}"
        )
    return METRICS[name]


def _apart(base: Vectors, rows: Which, query: Vectors, owners: Which) -> Numbers:
    """Return sums of squared differences."""
    found = np.empty(len(rows))
    squared_distances(base, rows, query, owners, found)
    return found


def _along(base: Vectors, rows: Which, query: Vectors, owners: Which) -> Numbers:
    """Return sums of products, less than nothing where vectors point the same way."""
    found = np.empty(len(rows))
    products(base, rows, query, owners, found)
    return np.negative(found, out=found)


def _turned(base: Vectors, rows: Which, query: Vectors, owners: Which) -> Numbers:
    """Return cosines, less than nothing where vectors point the same way."""
    sizes, own = np.empty(len(rows)), np.empty(len(query))
    products(base, rows, base, rows, sizes)
    each = np.arange(len(query))
    products(query, each, query, each, own)
    return _along(base, rows, query, owners) / _root_of(own[owners], sizes)


def _root_of(one: Numbers, other: Numbers) -> Numbers:
    """Return the root of products that may be no numbers themselves, rounded as if they were."""
    (first, exponent), (second, more) = np.frexp(one), np.frexp(other)
    odd = (exponent + more) % 2
    found: Numbers = np.ldexp(np.sqrt(first * second * (1 + odd)), (exponent + more - odd) // 2)
    return found


def _root(keys: Numbers, _: bool) -> Numbers:
    found: Numbers = np.sqrt(keys)
    return found


def _from_product(keys: Numbers, is_whole: bool) -> Numbers:
    return keys if is_whole else 1.0 + keys


def _from_cosine(keys: Numbers, _: bool) -> Numbers:
    return 1.0 + keys


def _squared(distance: float, _: bool) -> float:
    # The square is rounded, and so was the root that made the distance.
    return distance * distance * (1.0 + 2.0**-50) + 2.0**-1070


def _product_within(distance: float, is_whole: bool) -> float:
    return distance if is_whole else distance - 1.0 + 2.0**-51 * (1.0 + abs(distance))


def _cosine_within(distance: float, _: bool) -> float:
    return distance - 1.0 + 2.0**-51 * (1.0 + abs(distance))


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            name="euclidean",
            is_moved=True,
            is_unit=False,
            keys=_apart,
            distances=_root,
            key_within=_squared,
        ),
        Metric(
            name="ip",
            is_moved=False,
            is_unit=False,
            keys=_along,
            distances=_from_product,
            key_within=_product_within,
        ),
        Metric(
            name="angular",
            is_moved=False,
            is_unit=True,
            keys=_turned,
            distances=_from_cosine,
            key_within=_cosine_within,
        ),
    )
}
"""By name."""
