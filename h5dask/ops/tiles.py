"""Room for the products of some base vectors with some queries, as large as caches take best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.kernels.nearest import SEGMENT
from h5dask.ops.products import Filter

WIDE = 256
"""Features from which on larger tiles are quicker."""
SMALL, LARGE = (512, 1056), (1024, 1568)
"""Base vectors and queries of a tile."""
_APART = 16
"""Numbers between rows that would all fall into the same few lines of a cache."""
_ALIASED = 256


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A buffer that is filled again and again."""

    height: int
    """Base vectors at most."""
    width: int
    """Queries at most."""
    numbers: NDArray[Any]
    """What the filter gave last, row by row."""

    @classmethod
    def of(cls, n_features: int, dtype: np.dtype[Any]) -> Tile:
        """Return an empty one."""
        height, width = tile_shape(n_features)
        return cls(height, width, np.empty(height * (whole_segments(width) + _APART), dtype))

    def fill(
        self, which: Filter, base: NDArray[Any], queries: NDArray[Any]
    ) -> tuple[int, int, int]:
        """Multiply packed vectors; return rows, queries, and numbers from one row to the next."""
        shape, width = (len(base), len(queries)), whole_segments(len(queries))
        stride = width + _APART * (width % _ALIASED == 0)
        out = self.numbers[: shape[0] * stride].reshape(shape[0], stride)[:, : shape[1]]
        which.multiply(base, queries, out)
        return *shape, stride


def whole_segments(n_queries: int) -> int:
    """Return how many queries fill the segments that so many need.

    Examples
    --------
    >>> whole_segments(33)
    64
    """
    return -(-n_queries // SEGMENT) * SEGMENT


def tile_shape(n_features: int) -> tuple[int, int]:
    """Return the base vectors and queries of a tile.

    Examples
    --------
    >>> tile_shape(128), tile_shape(960)
    ((512, 1056), (1024, 1568))
    """
    return SMALL if n_features < WIDE else LARGE
