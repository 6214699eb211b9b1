"""Where an array's stored chunks lie in its file: columns of numbers, no file and no HDF5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of an HDF5 filter pipeline."""

    id: int
    """HDF5's number of the filter: 1 deflate, 2 shuffle, 3 fletcher32, 32000 lzf."""
    flags: int
    """HDF5's flags; bit 0 marks the filter optional."""
    values: tuple[int, ...]
    """The filter's client values, such as the deflate level."""
    name: str
    """The filter's name as the file gives it."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkIndex:
    """Byte ranges of one dataset's stored chunks, in runs of equal stride.

    Chunk numbers count the chunk grid in C order. A chunk in no run is not allocated: it holds
    the fill value. Contiguous storage is one chunk of the dataset's whole shape.
    """

    shape: tuple[int, ...]
    """Shape of the dataset."""
    chunks: tuple[int, ...]
    """Shape of one stored chunk."""
    first: Ints
    """Number of the first chunk of each run, ascending."""
    count: Ints
    """Chunks in each run."""
    offset: Ints
    """Byte offset in the file of each run's first chunk."""
    stride: Ints
    """Bytes from one chunk of a run to the next."""
    nbytes: Ints
    """Stored bytes of each of the run's chunks."""
    mask: NDArray[np.uint32]
    """HDF5's filter mask of the run's chunks: bit i set, filter i was not applied."""

    @classmethod
    def contiguous(cls, shape: tuple[int, ...], offset: int, nbytes: int) -> ChunkIndex:
        """Return the index of a dataset stored as one byte range (none where offset < 0)."""
        stored = int(offset >= 0 and nbytes > 0)
        first, count, at, stride, size = (
            np.full(stored, n, np.int64) for n in (0, 1, offset, nbytes, nbytes)
        )
        return cls(shape, shape, first, count, at, stride, size, np.zeros(stored, np.uint32))

    @classmethod
    def from_chunks(
        cls,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        numbers: Ints,
        offsets: Ints,
        nbytes: Ints,
        masks: NDArray[np.uint32],
    ) -> ChunkIndex:
        """Return the index of the listed chunks, run-length encoded.

        Parameters
        ----------
        shape, chunks : tuple of int
            Shape of the dataset and of one chunk.
        numbers, offsets, nbytes : (chunk,) int64
            Number in the grid, byte offset and stored size of each chunk, in any order.
        masks : (chunk,) uint32
            Filter mask of each chunk.
        """
        order = np.argsort(numbers, kind="stable")
        numbers, offsets, nbytes = numbers[order], offsets[order], nbytes[order]
        masks = masks[order]
        n = len(numbers)
        stride = np.diff(offsets)
        starts = np.ones(n, bool)
        joins = (np.diff(numbers) == 1) & (np.diff(nbytes) == 0) & (masks[1:] == masks[:-1])
        if n > 1:
            joins[1:] &= (stride[1:] == stride[:-1]) | ~joins[:-1]
            starts[1:] = ~joins
        at = np.flatnonzero(starts)
        count = np.diff(np.append(at, n))
        step = np.append(stride, 0)[at]
        step[count == 1] = 0
        return cls(shape, chunks, numbers[at], count, offsets[at], step, nbytes[at], masks[at])

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each dim."""
        return tuple(-(-n // c) if c else 0 for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def n_stored(self) -> int:
        """Number of chunks that are allocated."""
        return int(self.count.sum())

    @property
    def stored_nbytes(self) -> int:
        """Bytes that the allocated chunks take in the file."""
        return int((self.count * self.nbytes).sum())

    @property
    def n_chunks(self) -> int:
        """Number of chunks in the grid, allocated or not."""
        return math.prod(self.grid)

    def locate(self, numbers: Ints) -> tuple[Ints, Ints, NDArray[np.uint32]]:
        """Return offset (-1: not allocated), stored bytes and filter mask of chunks by number."""
        if not len(self.first):
            nothing = np.zeros(len(numbers), np.int64)
            return nothing - 1, nothing, nothing.astype(np.uint32)
        run = np.maximum(np.searchsorted(self.first, numbers, side="right") - 1, 0)
        within = numbers - self.first[run]
        held = (within >= 0) & (within < self.count[run])
        offsets = np.where(held, self.offset[run] + within * self.stride[run], -1)
        return offsets, np.where(held, self.nbytes[run], 0), self.mask[run]


NOTHING, CHUNKED, INLINE, LIBRARY = -1, -2, -3, -4
"""In `FileIndex.offsets`: nothing stored; see `chunked`; see `inline`; only HDF5 can read it."""


@dataclass(frozen=True, slots=True, eq=False)
class FileIndex:
    """Where every dataset of one file lies, by the dataset's position in its Contents."""

    offsets: Ints
    """Byte offset of each contiguous dataset, else one of the negative constants above."""
    chunked: dict[int, ChunkIndex]
    """Index of each chunked dataset."""
    inline: dict[int, bytes]
    """Values of compact datasets, which lie among the file's metadata."""
    heap_base: int
    """What to add to a global-heap address to get a file offset; -1 where addresses aren't
    8 bytes wide, so that variable-length values can't be read by byte ranges."""

    def only(self, positions: Sequence[int]) -> FileIndex:
        """Return the index of only some of the datasets."""
        at = list(enumerate(positions))
        return FileIndex(
            self.offsets[list(positions)],
            {new: self.chunked[old] for new, old in at if old in self.chunked},
            {new: self.inline[old] for new, old in at if old in self.inline},
            self.heap_base,
        )
