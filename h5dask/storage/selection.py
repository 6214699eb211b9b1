"""What is asked of one axis: a covering slice, runs of consecutive positions. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection along one axis: a covering slice, and what is wanted of it."""

    cover: slice
    inside: slice | NDArray[np.int64]
    size: int

    def wanted(self) -> NDArray[np.int64]:
        """Return the selected positions."""
        return np.arange(self.cover.start, self.cover.stop)[self.inside]

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Yield each run of consecutive positions and where it starts in the output."""
        if isinstance(self.inside, slice) and self.inside == slice(None):
            yield 0, self.cover
            return
        wanted = self.wanted()
        borders = np.flatnonzero(np.diff(wanted) != 1) + 1
        starts = [0, *borders.tolist()] if len(wanted) else []
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            yield start, slice(int(wanted[start]), int(wanted[stop - 1]) + 1)


def select(key: Any, size: int) -> Selection:
    """Return a slice, int or integer array as a selection along an axis of `size`."""
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        if step == 1:
            return Selection(slice(start, max(start, stop)), slice(None), max(0, stop - start))
        positions = np.arange(start, stop, step)
    else:
        positions = np.atleast_1d(np.asarray(key))
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        positions = np.where(positions < 0, positions + size, positions).astype(np.int64)
        if len(positions) and not (positions.min() >= 0 and positions.max() < size):
            raise IndexError(f"index {key!r} is out of bounds for a dim of size {size}")
    if not len(positions):
        return Selection(slice(0, 0), slice(None), 0)
    low, high = int(positions.min()), int(positions.max())
    return Selection(slice(low, high + 1), positions - low, len(positions))


def per_axis(key: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return one key an axis, ellipsis and missing ones filled in."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    return keys + [slice(None)] * (len(shape) - len(keys))
