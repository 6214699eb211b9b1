"""Where the blocks of a Dataset begin and end: about one block size each, at natural borders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZE = 16 * 2**20
"""Bytes of a block where dask's configuration has no `h5dask.block-size`."""
MOST_BLOCKS = 100_000
"""Blocks along one dim; where a declared shape would give more, blocks grow instead."""
_LARGEST_ALIGNED = 8
"""A block grows to this many block sizes so as to hold whole stored chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What decides the blocks along one dim of rows."""

    size: int
    """Number of rows."""
    nbytes: float
    """Bytes of a row of the widest variable."""
    ends: NDArray[np.int64]
    """Row after the last of each dataset, ascending."""
    chunk: int
    """Rows of a stored chunk of the widest variable; 1 where it is contiguous."""


def cut(rows: Rows, block_size: int, most: int = MOST_BLOCKS) -> tuple[int, ...]:
    """Return block lengths along a dim of rows.

    Blocks end where datasets end where those are smaller than a block, else at borders of stored
    chunks. Of rows in one piece there are at most about `most` blocks.
    """
    if rows.size == 0:
        return (0,)
    wanted = max(1, int(block_size / max(rows.nbytes, 1)), -(-rows.size // most))
    step = wanted
    if rows.chunk > 1:
        step = wanted // rows.chunk * rows.chunk
        if step == 0:
            step = rows.chunk if rows.chunk <= wanted * _LARGEST_ALIGNED else wanted
    ends = np.unique(rows.ends)
    borders, start = [], 0
    while start < rows.size:
        at = int(np.searchsorted(ends, start + wanted, side="right")) - 1
        end = int(ends[at]) if at >= 0 else 0
        if end <= start:
            first = int(np.searchsorted(ends, start, side="right"))
            origin = int(ends[first - 1]) if first else 0
            end = min(origin + ((start - origin) // step + 1) * step, int(ends[first]))
        borders.append(end)
        start = end
    return tuple(np.diff([0, *borders]).tolist())


def columns(sizes: Sequence[int], itemsize: int, block_size: int) -> tuple[tuple[int, ...], ...]:
    """Return block lengths of the trailing dims: whole, unless one row exceeds a few blocks."""
    chunks: list[tuple[int, ...]] = [(size,) for size in sizes]
    for axis, size in enumerate(sizes):
        rest = math.prod(sizes[axis + 1 :]) * itemsize
        if size * rest <= 4 * block_size:
            break
        step = max(1, block_size // max(rest, 1), -(-size // MOST_BLOCKS))
        whole, left = divmod(size, step)
        chunks[axis] = (step,) * whole + ((left,) if left else ())
    return tuple(chunks)


def widest(rows: Mapping[str, Sequence[Rows]]) -> dict[str, Rows]:
    """Return for each dim the rows of its widest variable: all that share a dim share blocks."""
    found = {}
    for dim, candidates in rows.items():
        top = max(candidates, key=lambda one: one.nbytes)
        ends = max(candidates, key=lambda one: len(one.ends)).ends
        found[dim] = Rows(size=top.size, nbytes=top.nbytes, ends=ends, chunk=top.chunk)
    return found
