"""Ways to store how far two vectors are apart: exact values, and how far float32 may be off.

A way is a record, so that nothing chooses by name. Where the sums come from is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.ops.metrics import Metric, Numbers

ROUNDING = 2.0**-24
"""The share by which a float32 operation is off at most."""
TINY = 2.0**-126
"""What a float32 operation may lose beside, where its result is too small."""
WHOLE = 2.0**24
"""Up to here float32 adds whole numbers without rounding."""
LIMIT = 1e-3
"""Median share of their scale by which distances may be off a convention that they follow."""
FEW = 8
"""Roundings that can't tell one convention from another."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """What every distance of some pairs follows from."""

    squares: Numbers
    """Sums of squared differences: (query, neighbor)."""
    products: Numbers
    """Sums of products: (query, neighbor)."""
    sizes: Numbers
    """The base vectors' sums of squares: (query, neighbor)."""
    own: Numbers
    """The queries': (query, 1)."""
    n_features: int
    """Terms of a sum."""
    is_whole: bool
    """Whether all values are whole numbers."""

    @property
    def lengths(self) -> Numbers:
        """Products of both lengths."""
        found: Numbers = np.sqrt(self.own) * np.sqrt(self.sizes)
        return found

    @property
    def cosines(self) -> Numbers:
        """Cosines, NaN where a vector has no direction."""
        found = np.full(self.products.shape, np.nan)
        there = self.lengths > 0
        np.divide(self.products, np.sqrt(self.own * self.sizes), out=found, where=there)
        return found

    @property
    def share(self) -> float:
        """By which share of its terms' sizes a float32 sum may be off.

        Source: Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1.
        """
        off = (self.n_features + 3) * ROUNDING
        return off / max(1.0 - off, ROUNDING)

    def rounded(self, sizes: Numbers) -> Numbers:
        """Return how far float32 sums may be off whose terms' sizes add up to some numbers."""
        off = self.share * sizes + self.n_features * TINY
        return np.where(sizes <= WHOLE, 0.0, off) if self.is_whole else off


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """One way to store how far two vectors are apart."""

    name: str
    """As people write it."""
    value: Callable[[Pairs], Numbers]
    """Gives the exact distances."""
    scale: Callable[[Pairs], Numbers]
    """Gives the numbers to which deviations are compared."""
    slack: Callable[[Pairs, float], Numbers]
    """Takes the share by which a stored value is rounded; gives how far distances may be off that
    are computed in float32."""
    descends: bool = False
    """Whether the nearest have the largest."""


def _root(pairs: Pairs) -> Numbers:
    found: Numbers = np.sqrt(pairs.squares)
    return found


def _lengths_and_one(pairs: Pairs) -> Numbers:
    return 1.0 + pairs.lengths


def _ones(pairs: Pairs) -> Numbers:
    return np.ones(pairs.products.shape)


def _root_slack(pairs: Pairs, share: float) -> Numbers:
    """Return how far a root may be off: from |a^2 - b^2| both |a - b| a and |a - b|^2 are less."""
    off = pairs.rounded(pairs.squares) + 4 * share * pairs.squares
    least = np.maximum(pairs.squares, off)
    return np.divide(off, np.sqrt(least), out=np.zeros(off.shape), where=least > 0)


def _square_slack(pairs: Pairs, share: float) -> Numbers:
    return pairs.rounded(pairs.squares) + 2 * share * pairs.squares


def _product_slack(value: Callable[[Pairs], Numbers]) -> Callable[[Pairs, float], Numbers]:
    def slack(pairs: Pairs, share: float) -> Numbers:
        return pairs.rounded(pairs.lengths) + 2 * share * np.abs(value(pairs))

    return slack


def _cosine_slack(value: Callable[[Pairs], Numbers]) -> Callable[[Pairs, float], Numbers]:
    def slack(pairs: Pairs, share: float) -> Numbers:
        return pairs.share + 2 * share * np.abs(value(pairs))

    return slack


def _from_one(pairs: Pairs) -> Numbers:
    return 1.0 - pairs.products


def _negative(pairs: Pairs) -> Numbers:
    return -pairs.products


def _products(pairs: Pairs) -> Numbers:
    return pairs.products


def _apart(pairs: Pairs) -> Numbers:
    return 1.0 - pairs.cosines


def _cosines(pairs: Pairs) -> Numbers:
    return pairs.cosines


EUCLIDEAN = Convention(name="euclidean", value=_root, scale=_root, slack=_root_slack)
SQUARED = Convention(
    name="squared euclidean",
    value=lambda pairs: pairs.squares,
    scale=lambda pairs: pairs.squares,
    slack=_square_slack,
)
FROM_ONE = Convention(
    name="1 - a.b", value=_from_one, scale=_lengths_and_one, slack=_product_slack(_from_one)
)
NEGATIVE = Convention(
    name="-a.b", value=_negative, scale=lambda pairs: pairs.lengths, slack=_product_slack(_negative)
)
PRODUCT = Convention(
    name="a.b",
    value=_products,
    scale=lambda pairs: pairs.lengths,
    slack=_product_slack(_products),
    descends=True,
)
APART = Convention(name="1 - cos", value=_apart, scale=_ones, slack=_cosine_slack(_apart))
COSINE = Convention(
    name="cos", value=_cosines, scale=_ones, slack=_cosine_slack(_cosines), descends=True
)
CONVENTIONS = (EUCLIDEAN, SQUARED, FROM_ONE, NEGATIVE, PRODUCT, APART, COSINE)
"""The layout's own, and those that other tools store."""
_OURS = {
    ("euclidean", False): EUCLIDEAN,
    ("euclidean", True): EUCLIDEAN,
    ("ip", False): FROM_ONE,
    ("ip", True): NEGATIVE,
    ("angular", False): APART,
    ("angular", True): APART,
}
"""By metric, and whether all vectors are whole numbers."""


def expected(metric: Metric, *, is_whole: bool) -> Convention:
    """Return the convention that the distances of a metric have here.

    Examples
    --------
    >>> from h5dask.ops.metrics import metric_of
    >>> expected(metric_of("ip"), is_whole=True).name
    '-a.b'
    """
    return _OURS[metric.name, is_whole]


def followed(stored: Numbers, pairs: Pairs, wanted: Convention) -> Convention | None:
    """Return the convention that stored distances follow, None where they follow none.

    It is the one with the least median deviation, as a share of its scale, if that is less than
    `LIMIT`; the wanted one as soon as its median is that of a few roundings, for some conventions
    differ by less (products and cosines of unit vectors).

    Parameters
    ----------
    stored : (query, neighbor) float64
        Distances as they are stored.
    pairs : Pairs
        What they are distances of; those with NaN are left out.
    wanted : Convention
        What should be followed.
    """
    there = ~np.isnan(pairs.squares)
    if not there.any():
        return None
    medians = {one.name: _median(stored[there], pairs, one, there) for one in CONVENTIONS}
    if medians[wanted.name] <= FEW * ROUNDING:
        return wanted
    least = min(CONVENTIONS, key=lambda one: (medians[one.name], one is not wanted))
    return least if medians[least.name] <= LIMIT else None


def _median(stored: Numbers, pairs: Pairs, one: Convention, there: NDArray[np.bool_]) -> Any:
    """Return the median of the deviations; what is no number is as far off as can be."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(stored - one.value(pairs)[there])
    scale = one.scale(pairs)[there]
    share = np.where(off == 0, 0.0, np.inf)
    np.divide(off, scale, out=share, where=(scale > 0) & ~np.isnan(off))
    return np.median(share)
