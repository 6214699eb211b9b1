"""Sums of differences and products of two vectors in float64, feature after feature.

No term changes places with another one: these sums define which vectors are nearest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from h5dask.kernels.compile import inlined, kernel

_U = np.uint64
_ONE, _TWO, _THREE, _FOUR = _U(1), _U(2), _U(3), _U(4)
_F = np.float64


@inlined
def _apart(base: Any, row: Any, query: Any, own: Any, total: Any, j: Any) -> Any:
    """Return a sum with the square of one more difference."""
    off = _F(query[own, j]) - _F(base[row, j])
    return total + off * off


@kernel
def squared_distances(base: Any, rows: Any, query: Any, owners: Any, out: Any) -> None:
    """Sum the squared differences of pairs of vectors.

    Parameters
    ----------
    base, query : (vector, feature) float32 or float64
        Where the vectors are.
    rows, owners : (pair,) int64
        Which of them make a pair.
    out : (pair,) float64
        Written.
    """
    n, n_features = _U(len(rows)), _U(base.shape[1])
    for step in range(n // _FOUR):  # four sums at once: one waits for its last addition
        i = _U(step) * _FOUR
        r0, r1, r2, r3 = _U(rows[i]), _U(rows[i + _ONE]), _U(rows[i + _TWO]), _U(rows[i + _THREE])
        q0, q1 = _U(owners[i]), _U(owners[i + _ONE])
        q2, q3 = _U(owners[i + _TWO]), _U(owners[i + _THREE])
        a = b = c = d = 0.0
        for feature in range(n_features):
            j = _U(feature)
            a = _apart(base, r0, query, q0, a, j)
            b = _apart(base, r1, query, q1, b, j)
            c = _apart(base, r2, query, q2, c, j)
            d = _apart(base, r3, query, q3, d, j)
        out[i], out[i + _ONE], out[i + _TWO], out[i + _THREE] = a, b, c, d
    for rest in range(n // _FOUR * _FOUR, n):
        i, total = _U(rest), 0.0
        for feature in range(n_features):
            total = _apart(base, _U(rows[i]), query, _U(owners[i]), total, _U(feature))
        out[i] = total


@kernel
def products(base: Any, rows: Any, query: Any, owners: Any, out: Any) -> None:
    """Sum the products of pairs of vectors; parameters as of `squared_distances`."""
    n, n_features = _U(len(rows)), _U(base.shape[1])
    for step in range(n // _FOUR):
        i = _U(step) * _FOUR
        r0, r1, r2, r3 = _U(rows[i]), _U(rows[i + _ONE]), _U(rows[i + _TWO]), _U(rows[i + _THREE])
        q0, q1 = _U(owners[i]), _U(owners[i + _ONE])
        q2, q3 = _U(owners[i + _TWO]), _U(owners[i + _THREE])
        a = b = c = d = 0.0
        for feature in range(n_features):
            j = _U(feature)
            a += _F(base[r0, j]) * _F(query[q0, j])
            b += _F(base[r1, j]) * _F(query[q1, j])
            c += _F(base[r2, j]) * _F(query[q2, j])
            d += _F(base[r3, j]) * _F(query[q3, j])
        out[i], out[i + _ONE], out[i + _TWO], out[i + _THREE] = a, b, c, d
    for rest in range(n // _FOUR * _FOUR, n):
        i, total = _U(rest), 0.0
        for feature in range(n_features):
            j = _U(feature)
            total += _F(base[_U(rows[i]), j]) * _F(query[_U(owners[i]), j])
        out[i] = total


def call_each() -> None:
    """Call every kernel once on next to nothing."""
    query, out, at = np.ones((1, 1)), np.empty(1), np.zeros(1, np.int64)
    for read in (np.float32, np.float64):
        base = np.ones((1, 1), read)
        squared_distances(base, at, query, at, out)
        products(base, at, query, at, out)
        products(base, at, base, at, out)
