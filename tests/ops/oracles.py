"""The defined answer of a search for neighbors in a few lines of numpy, and data that is hard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRICS = ("euclidean", "ip", "angular")
Rng = np.random.Generator
Numbers = NDArray[np.float64]


def whole(*sides: NDArray[Any]) -> bool:
    """Whether all values are whole numbers."""
    return all(side.dtype.kind in "iub" for side in sides)


def keys(base: NDArray[Any], query: NDArray[Any], metric: str) -> Numbers:
    """Return what orders vectors (query, vector): float64, added feature after feature."""
    x, q = (np.asarray(side).astype(np.float64) for side in (base, query))
    if metric == "angular":  # by powers of two, which change no digit
        x, q = (np.ldexp(side, -np.frexp(np.abs(side).max(1))[1][:, None]) for side in (x, q))
    sums, sizes, own = np.zeros((len(q), len(x))), np.zeros((1, len(x))), np.zeros((len(q), 1))
    for j in range(x.shape[1]):
        a, b = q[:, j, None], x[None, :, j]
        sums += (a - b) ** 2 if metric == "euclidean" else a * b
        if metric == "angular":
            sizes, own = sizes + b**2, own + a**2
    if metric == "angular":
        return -sums / np.sqrt(own * sizes)
    return sums if metric == "euclidean" else -sums


def distances(found: Numbers, metric: str, is_whole: bool) -> Numbers:
    """Return what is answered for keys."""
    if metric == "euclidean":
        return np.sqrt(found)
    return found if metric == "ip" and is_whole else 1.0 + found


def nearest(
    base: NDArray[Any],
    query: NDArray[Any],
    k: int,
    metric: str,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], Numbers]:
    """Return ids and distances (query, k), ordered by key, then by id."""
    found = keys(base, query, metric)
    found = found if allowed is None else np.where(allowed, found, np.inf)
    ids = np.argsort(found, axis=1, kind="stable")[:, :k]
    listed = np.take_along_axis(found, ids, 1)
    assert np.isfinite(listed).all(), "fewer than k are allowed"
    return ids, distances(listed, metric, whole(base, query))


def _normal(rng: Rng, shape: tuple[int, int]) -> Numbers:
    return rng.standard_normal(shape)


def _lattice(rng: Rng, shape: tuple[int, int]) -> Numbers:
    return rng.integers(0, 3, shape).astype(float)


def _copies(rng: Rng, shape: tuple[int, int]) -> Numbers:
    few = np.random.default_rng(shape[1]).standard_normal((2, shape[1]))
    return few[rng.integers(0, 2, shape[0])]


def _decades(rng: Rng, shape: tuple[int, int]) -> Numbers:
    rows, columns = (10.0 ** rng.uniform(-5, 5, n) for n in (shape[0], shape[1]))
    return rng.standard_normal(shape) * rows[:, None] * columns


def _clusters(rng: Rng, shape: tuple[int, int]) -> Numbers:
    far = np.where(rng.random((shape[0], 1)) < 0.5, 1e3, -1e3)
    return far + 1e-4 * rng.standard_normal(shape)


def _constant(rng: Rng, shape: tuple[int, int]) -> Numbers:
    found = rng.standard_normal(shape)
    found[:, :: 2 if shape[1] > 1 else 1] = 7.25
    return found


def _moved(offset: float, scale: float = 1.0) -> Callable[[Rng, tuple[int, int]], Numbers]:
    return lambda rng, shape: offset + scale * rng.standard_normal(shape)


KINDS: dict[str, Callable[[Rng, tuple[int, int]], Numbers]] = {
    "normal": _normal,
    "lattice": _lattice,
    "copies": _copies,
    "decades": _decades,
    "clusters": _clusters,
    "constant columns": _constant,
    "offset 1e4": _moved(1e4),
    "offset 1e8": _moved(1e8),
    "one direction": _moved(1.0, 1e-12),
    "far": _moved(0.0, 1e30),
    "near nothing": _moved(0.0, 1e-30),
    "subnormal float32": _moved(0.0, 1e-41),
    "large": _moved(0.0, 1e149),
    "small": _moved(0.0, 1e-157),
    "tiny": _moved(0.0, 1e-300),
}
"""Values by kind: takes a generator and a shape."""
NARROW = ("normal", "lattice", "copies", "clusters", "constant columns")
"""Those that all dtypes can hold."""


def drawn(kind: str, dtype: str, rng: Rng, shape: tuple[int, int]) -> NDArray[Any]:
    """Return vectors of a kind in a dtype; none is zero."""
    values = KINDS[kind](rng, shape)
    if np.dtype(dtype).kind in "iub":
        values = np.abs(values * 8) % 100 if "u" in dtype else values * 8 % 100
    found = values.astype(dtype)
    found[~found.any(axis=1), 0] = 1
    return found
