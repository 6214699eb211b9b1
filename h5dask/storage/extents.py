"""A box of a dataset, cut so that each piece lies in the file as runs of bytes. Pure arithmetic.

A piece at the dataset's edge takes the padding of its chunks with it: an element of padding goes
with the real element nearest to it, so that boxes that cover a dataset once cover its chunks once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex, Ints


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a box along one dim, which touches each of its chunks in the same way."""

    chunk: int
    """Number of the first chunk along the dim."""
    count: int
    """How many chunks."""
    within: int
    """First element inside each chunk."""
    length: int
    """Elements of each chunk, padding included."""
    real: int
    """Those of them that are values and not padding."""
    start: int
    """First element, counted from the start of the box."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The product of one stretch along each dim."""

    stretches: tuple[Stretch, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Chunks along each dim, then elements of a chunk along each dim, padding included."""
        return (*(s.count for s in self.stretches), *(s.length for s in self.stretches))

    @property
    def is_padded(self) -> bool:
        """Whether some of it is padding."""
        return any(s.real < s.length for s in self.stretches)

    def values(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the piece's values, a view of the box's with chunks first, elements last."""
        box: tuple[Any, ...] = tuple(
            slice(s.start, s.start + s.count * s.real) for s in self.stretches
        )
        split = [n for s in self.stretches for n in (s.count, s.real)]
        n = len(self.stretches)
        return (
            block[(*box, ...)].reshape(split).transpose([*range(0, 2 * n, 2), *range(1, 2 * n, 2)])
        )

    def real(self, staged: NDArray[Any]) -> NDArray[Any]:
        """Return the part of an array of the piece's `shape` that isn't padding."""
        inner = [slice(0, s.real) for s in self.stretches]
        box: tuple[Any, ...] = (*(slice(None) for _ in inner), *inner)
        return staged[(*box, ...)]


def pieces(
    index: ChunkIndex, start: Sequence[int], shape: Sequence[int], itemsize: int, most: int
) -> Iterator[Piece]:
    """Cut a box into pieces of at most `most` bytes, or one element, in a fixed order.

    Parameters
    ----------
    index : ChunkIndex
        The dataset.
    start, shape : sequence of int
        The box; it lies inside the dataset.
    itemsize : int
        Bytes of an element.
    most : int
        Bytes of a piece.
    """
    along = [
        list(_stretches(first, first + n, size, chunk))
        for first, n, size, chunk in zip(start, shape, index.shape, index.chunks, strict=True)
    ]
    for stretches in product(*along):
        yield from _cut(Piece(stretches), most // itemsize)


def _stretches(start: int, stop: int, size: int, chunk: int) -> Iterator[Stretch]:
    """Yield a chunk that is entered midway, whole chunks, a chunk that is left midway."""
    at = start
    while at < stop:
        number, within = divmod(at, chunk)
        n_whole = (stop - at) // chunk if within == 0 else 0
        if n_whole:
            yield Stretch(number, n_whole, 0, chunk, chunk, at - start)
            at += n_whole * chunk
            continue
        real = min(chunk - within, stop - at)
        length = chunk - within if stop == size else real
        yield Stretch(number, 1, within, length, real, at - start)
        at += real


def _cut(piece: Piece, most: int) -> Iterator[Piece]:
    """Cut along the first dim that can be cut: between chunks, else inside the one chunk."""
    n = math.prod(piece.shape)
    axis, by_chunks = _axis(piece)
    if n <= most or axis is None:
        yield piece
        return
    whole = piece.stretches[axis]
    size = whole.count if by_chunks else whole.length
    step = max(1, most * size // n)
    for at in range(0, size, step):
        length = min(step, size - at)
        part = _part_of_chunks(whole, at, length) if by_chunks else _part(whole, at, length)
        yield from _cut(Piece((*piece.stretches[:axis], part, *piece.stretches[axis + 1 :])), most)


def _axis(piece: Piece) -> tuple[int | None, bool]:
    for axis, stretch in enumerate(piece.stretches):
        if stretch.count > 1:
            return axis, True
    for axis, stretch in enumerate(piece.stretches):
        if stretch.length > 1:
            return axis, False
    return None, False


def _part_of_chunks(whole: Stretch, at: int, count: int) -> Stretch:
    start = whole.start + at * whole.real
    return replace(whole, chunk=whole.chunk + at, count=count, start=start)


def _part(whole: Stretch, at: int, length: int) -> Stretch:
    real = min(max(whole.real - at, 0), length)
    start = whole.start + min(at, whole.real)
    return replace(whole, within=whole.within + at, length=length, real=real, start=start)


def runs(index: ChunkIndex, piece: Piece, itemsize: int) -> tuple[Ints, Ints]:
    """Return offset and bytes of a piece's runs in the file, in the piece's own order.

    Neighboring runs are joined. An offset is negative where a chunk isn't allocated.
    """
    chunk = index.chunks
    offsets, _, _ = index.locate(_numbers(index, piece))
    n_inner = len(chunk)
    while n_inner and piece.stretches[n_inner - 1].length == chunk[n_inner - 1]:
        n_inner -= 1
    # Dims from n_inner on are whole; the one before them is one stretch of them.
    n_outer = max(n_inner - 1, 0)
    strides = [itemsize * math.prod(chunk[axis + 1 :]) for axis in range(len(chunk))]
    first = sum(s.within * step for s, step in zip(piece.stretches, strides, strict=True))
    inner = np.array([first], np.int64)
    for s, step in zip(piece.stretches[:n_outer], strides[:n_outer], strict=True):
        inner = (inner[:, None] + np.arange(s.length, dtype=np.int64) * step).ravel()
    nbytes = itemsize * math.prod(s.length for s in piece.stretches[n_outer:])
    absent = offsets < 0
    starts = (offsets[:, None] + inner).ravel()
    if absent.any():
        return np.array([-1], np.int64), np.array([0], np.int64)
    return _joined(starts, nbytes)


def lone_run(
    index: ChunkIndex, start: Sequence[int], shape: Sequence[int], itemsize: int
) -> int | None:
    """Return the offset of a box that is whole rows of a contiguous dataset, None of any other.

    Such a box is one run of bytes in the order of its values: there are many thousands of them
    where datasets are small, and nothing needs to be cut.
    """
    if index.chunks != index.shape or len(index.offset) != 1 or not shape:
        return None
    if tuple(shape[1:]) != index.shape[1:]:
        return None
    return int(index.offset[0]) + start[0] * itemsize * math.prod(shape[1:])


def _numbers(index: ChunkIndex, piece: Piece) -> Ints:
    """Return the numbers of a piece's chunks, in the order of the piece."""
    numbers = np.zeros(1, np.int64)
    for n, stretch in zip(index.grid, piece.stretches, strict=True):
        along = np.arange(stretch.chunk, stretch.chunk + stretch.count, dtype=np.int64)
        numbers = (numbers[:, None] * n + along).ravel()
    return numbers


def _joined(starts: Ints, nbytes: int) -> tuple[Ints, Ints]:
    """Join runs of equal length that follow one another in the file."""
    at = np.flatnonzero(np.diff(starts, prepend=starts[0] - nbytes - 1) != nbytes)
    counts = np.diff(np.append(at, len(starts)))
    return starts[at], counts * nbytes
