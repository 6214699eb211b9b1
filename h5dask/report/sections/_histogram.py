"""Histograms made of bins of any scale: where the bars end, and how much lies in each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h5dask.report.sections._spread import N_BINS, Spread

MOST_BARS = 48
BIN = 1 / 128
"""Width of a bin, as a share of its distance from the origin."""
_DECADES = 3.0
"""Positive values whose bulk spans more powers of ten than this lie on a log axis."""
_TAIL = 0.001
"""Share of the values at either end that may be left out ..."""
_WORTH = 3.0
"""... where all of them would take so many times the room."""
_LARGEST = 1e38
_FINEST = 1e-11

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges, and of what lies outside."""

    edges: Floats
    """Ascending."""
    counts: Floats
    """One fewer; a bin that an edge divides is shared out evenly."""
    log: bool = False
    """Whether the edges are even on a log axis."""
    n_below: int = 0
    """Values left of the first edge."""
    n_above: int = 0
    """Values right of the last."""


def histogram(spread: Spread, *, whole: bool) -> Histogram | None:
    """Return counts of the bulk of some numbers between even edges, of at most 48 bars.

    Parameters
    ----------
    spread : Spread
        Of any numbers.
    whole : bool
        Whether all are integers: no bar then ends within one.

    Returns
    -------
    Histogram or None
        None where there is nothing to see: fewer than two different finite values, or values
        that a picture can't tell apart.
    """
    if spread.least is None or spread.most is None or spread.least == spread.most:
        return None
    far = max(abs(spread.least), abs(spread.most))
    if far > _LARGEST or spread.most - spread.least < _FINEST * far:
        return None
    bounds, passed = _distribution(spread, whole=whole)
    ends = float(bounds[0]), float(bounds[-1])
    tails = np.interp([_TAIL * passed[-1], (1 - _TAIL) * passed[-1]], passed, bounds)
    positive = spread.least > 0 and not (whole or spread.origin)
    log = bool(positive and math.log10(tails[1] / tails[0]) > _DECADES)
    if log:
        low, high = _window(*np.log10(ends), *np.log10(tails))
        edges = np.logspace(low, high, MOST_BARS + 1)
        low, high = 10**low, 10**high
    else:
        low, high = _window(*ends, float(tails[0]), float(tails[1]))
        edges = _whole_edges(low, high) if whole else _even_edges(low, high)
    # What lies at an end itself is within.
    if math.isclose(low, ends[0]):
        edges[0] = min(edges[0], ends[0])
    if math.isclose(high, ends[1]):
        edges[-1] = max(edges[-1], ends[1])
    return _counted(bounds, passed, edges, origin=spread.origin, log=log)


def alike(spread: Spread, other: Histogram, *, whole: bool) -> Histogram:
    """Return counts of some numbers between the edges of another histogram.

    Parameters
    ----------
    spread : Spread
        Of any numbers, with the origin of those that the other was made of.
    other : Histogram
        Whose edges are taken.
    whole : bool
        Whether all are integers.
    """
    edges = other.edges - spread.origin
    if not spread.n_finite:
        return Histogram(edges=other.edges, counts=np.zeros(len(edges) - 1), log=other.log)
    bounds, passed = _distribution(spread, whole=whole)
    return _counted(bounds, passed, edges, origin=spread.origin, log=other.log)


def _counted(
    bounds: Floats, passed: Floats, edges: Floats, *, origin: float, log: bool
) -> Histogram:
    """Return what lies between edges, which are seen from the origin as the bounds are."""
    below = np.interp(edges, bounds, passed, left=0.0, right=passed[-1])
    if edges[0] <= bounds[0]:
        below[0] = 0.0
    return Histogram(
        edges=edges + origin,
        counts=np.diff(below),
        log=log,
        n_below=round(below[0]),
        n_above=round(passed[-1] - below[-1]),
    )


def _distribution(spread: Spread, *, whole: bool) -> tuple[Floats, Floats]:
    """Return ascending bounds, seen from the origin, and how many values lie below each."""
    keys = spread.keys.astype(np.uint32)
    near, far = (
        np.abs((ends << np.uint32(16)).view(np.float32).astype(np.float64))
        for ends in (keys, keys + 1)
    )
    if whole:
        near, far = np.ceil(near) - 0.5, np.maximum(np.ceil(far), np.ceil(near) + 1) - 0.5
    negative = keys >= N_BINS // 2
    low, high = np.where(negative, -far, near), np.where(negative, -near, far)
    order = np.argsort(low, kind="stable")
    half = 0.5 if whole else 0.0
    least, most = (float((end or 0) - spread.origin) for end in (spread.least, spread.most))
    bounds = np.clip(np.stack([low, high], axis=1)[order], least - half, most + half)
    counts = spread.counts[order]
    passed = np.cumsum(counts, dtype=np.float64)
    return bounds.reshape(-1), np.stack([passed - counts, passed], axis=1).reshape(-1)


def _window(least: float, most: float, low: float, high: float) -> tuple[float, float]:
    """Return all that there is, or its bulk where that takes far less room."""
    if not high > low or most - least <= _WORTH * (high - low):
        return least, most
    margin = 0.05 * (high - low)
    return max(least, low - margin), min(most, high + margin)


def _whole_edges(low: float, high: float) -> Floats:
    """Return edges halfway between integers."""
    first, last = math.floor(low + 0.5) - 0.5, math.ceil(high - 0.5) + 0.5
    width = max(1, math.ceil((last - first) / MOST_BARS))
    return first + width * np.arange(math.ceil((last - first) / width) + 1, dtype=np.float64)


def _even_edges(low: float, high: float) -> Floats:
    """Return edges no closer to each other than the widest bin is wide."""
    n_bars = (high - low) / (max(abs(low), abs(high)) * BIN)
    return np.linspace(low, high, 1 + int(min(MOST_BARS, max(1.0, n_bars))))
