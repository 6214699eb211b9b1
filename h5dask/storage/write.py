"""Blocks of numbers -> their places in a file whose skeleton is made. HDF5's library isn't used.

Every task opens the file by name and writes byte ranges that no other task writes, so any thread,
process or machine may do it, in any order, twice or late, and the file is the same.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex, Ints
from h5dask.errors import CorruptInput, LayoutError
from h5dask.storage.extents import Piece, lone_run, pieces, runs
from h5dask.storage.latecomers import gone, to_write
from h5dask.storage.space import full_disk_told

PIECE_NBYTES = 4 << 20
"""Bytes that are put in order, summed and written at once: they stay in the processor's cache."""

Bytes = NDArray[np.uint8]
Part = tuple[ChunkIndex, tuple[int, ...], NDArray[Any]]
"""A dataset's index, the start of a box in it, and the box's values."""
Box = tuple[ChunkIndex, tuple[int, ...], tuple[int, ...]]
"""A dataset's index, the start of a box in it, and the box's shape."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written. Equal blocks at equal places give equal receipts."""

    n_values: int
    """Values, padding apart."""
    nbytes: int
    """Bytes, padding included."""
    crc: int
    """CRC-32 of the bytes in the order of writing, which the box alone decides."""


class _Staging(threading.local):
    """One buffer a thread, in which a piece is put in the file's order."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        nbytes = math.prod(shape) * dtype.itemsize
        if len(self._buffer) < nbytes:
            self._buffer = np.empty(max(nbytes, PIECE_NBYTES), np.uint8)
        return self._buffer[:nbytes].view(dtype).reshape(shape)


_staging = _Staging()


def write_block(
    path: str,
    index: ChunkIndex,
    start: tuple[int, ...],
    block: NDArray[Any],
    dtype: str,
    fill: bytes | None = None,
) -> Receipt:
    """Write a block of a dataset to its place.

    Blocks need not align with chunks. Whoever writes a chunk's last values along a dim writes the
    padding beyond them too, so that blocks that cover a dataset once define every chunk of it.

    Parameters
    ----------
    path : str
        Local path of a file that `skeleton.create` made, closed.
    index : ChunkIndex
        Where the dataset's chunks lie.
    start : tuple of int
        Place of the block's first value.
    block : array
        The values, of any rank and memory order. Memory: 4 MiB beside it in each thread, nothing
        where its bytes can be written as they lie.
    dtype : str
        The stored dtype, such as ">f4"; the block's may differ in byte order only.
    fill : bytes, optional
        The fill value's bytes in the stored dtype, for padding; zeros without.

    Raises
    ------
    NotFound
        Where the file is gone.
    LayoutError
        Where the block has another dtype, or doesn't lie in the dataset's allocated chunks.
    OutOfSpace
        Where the disk, a quota or the limit of file sizes is reached.
    """
    return write_pieces(path, [(index, start, block)], dtype, fill)


def write_pieces(
    path: str, parts: Iterable[Part], dtype: str, fill: bytes | None = None
) -> Receipt:
    """Write boxes of several datasets of one dtype, such as a block that spans many small ones.

    As `write_block`, with the file opened once; the receipt is that of all parts end to end.
    """
    stored = np.dtype(dtype)
    receipt = Receipt(0, 0, 0)
    with to_write(path) as file, full_disk_told(path):
        for index, start, block in parts:
            _check(path, index, start, block, stored)
            crc, nbytes = receipt.crc, receipt.nbytes
            for raw, places in _in_file_order(path, index, start, block, stored, fill):
                crc = deflate.crc32(raw, crc)
                nbytes += raw.nbytes
                for offset, at, n in places:
                    _write_all(file, raw[at : at + n], offset)
            receipt = Receipt(receipt.n_values + block.size, nbytes, crc)
    return receipt


def laid_out(
    path: str, parts: Iterable[Part], dtype: str, fill: bytes | None = None
) -> Iterator[tuple[Bytes, int]]:
    """Yield the bytes that `write_pieces` would write, and the offset of each run of them.

    They must be used at once: a buffer may be filled anew with what comes next.
    """
    stored = np.dtype(dtype)
    for index, start, block in parts:
        _check(path, index, start, block, stored)
        for raw, places in _in_file_order(path, index, start, block, stored, fill):
            for offset, at, n in places:
                yield raw[at : at + n], offset


def runs_of(path: str, boxes: Iterable[Box], dtype: str) -> Iterator[tuple[Ints, Ints]]:
    """Yield offset and bytes of the runs in the file that boxes fill, padding included."""
    itemsize = np.dtype(dtype).itemsize
    for index, start, shape in boxes:
        offset = lone_run(index, start, shape, itemsize)
        if offset is not None:
            yield np.array([offset]), np.array([math.prod(shape) * itemsize])
            continue
        for piece in pieces(index, start, shape, itemsize, PIECE_NBYTES):
            yield _runs(path, index, piece, itemsize)


def read_receipt(path: str, boxes: Iterable[Box], dtype: str) -> Receipt:
    """Read boxes back and return the receipt that writing them gave, if all is as it was written.

    Parameters
    ----------
    path : str
        Local path.
    boxes : iterable of (ChunkIndex, start, shape)
        The same boxes in the same order. Memory: 4 MiB in each thread.
    dtype : str
        The stored dtype.

    Raises
    ------
    CorruptInput
        Where the file ends too early.
    """
    stored = np.dtype(dtype)
    receipt = Receipt(0, 0, 0)
    with _opened(path) as file:
        for index, start, shape in boxes:
            crc, nbytes = receipt.crc, receipt.nbytes
            for raw, places in _to_fill(path, index, start, shape, stored):
                for offset, at, n in places:
                    _read_all(path, file, raw[at : at + n], offset)
                crc = deflate.crc32(raw, crc)
                nbytes += raw.nbytes
            receipt = Receipt(receipt.n_values + math.prod(shape), nbytes, crc)
    return receipt


_Places = Iterable[tuple[int, int, int]]
"""Of each run: offset in the file, start in the bytes at hand, how many."""


def _in_file_order(
    path: str,
    index: ChunkIndex,
    start: tuple[int, ...],
    block: NDArray[Any],
    stored: np.dtype[Any],
    fill: bytes | None,
) -> Iterator[tuple[Bytes, _Places]]:
    """Yield a block's bytes in the order of the file, a few at a time, and their places."""
    offset = lone_run(index, start, block.shape, stored.itemsize)
    if offset is not None and block.flags.c_contiguous and block.dtype == stored:
        raw = _bytes_of(block)
        for at in range(0, len(raw), PIECE_NBYTES):
            part = raw[at : at + PIECE_NBYTES]
            yield part, [(offset + at, 0, len(part))]
        return
    for piece in pieces(index, start, block.shape, stored.itemsize, PIECE_NBYTES):
        places = _places(path, index, piece, stored.itemsize)
        yield _staged(piece, block, stored, fill), places


def _to_fill(
    path: str,
    index: ChunkIndex,
    start: tuple[int, ...],
    shape: tuple[int, ...],
    stored: np.dtype[Any],
) -> Iterator[tuple[Bytes, _Places]]:
    """Yield room for a box's bytes, a few at a time, and where they come from."""
    offset = lone_run(index, start, shape, stored.itemsize)
    if offset is not None:
        nbytes = math.prod(shape) * stored.itemsize
        for at in range(0, nbytes, PIECE_NBYTES):
            n = min(PIECE_NBYTES, nbytes - at)
            yield _staging.take((n,), np.dtype(np.uint8)), [(offset + at, 0, n)]
        return
    for piece in pieces(index, start, shape, stored.itemsize, PIECE_NBYTES):
        places = _places(path, index, piece, stored.itemsize)
        yield _bytes_of(_staging.take(piece.shape, stored)), places


def _places(path: str, index: ChunkIndex, piece: Piece, itemsize: int) -> _Places:
    """Return offset in the file, start in the piece and bytes of each of its runs."""
    offsets, nbytes = _runs(path, index, piece, itemsize)
    starts = np.cumsum(nbytes) - nbytes
    return zip(offsets.tolist(), starts.tolist(), nbytes.tolist(), strict=True)


def _runs(path: str, index: ChunkIndex, piece: Piece, itemsize: int) -> tuple[Ints, Ints]:
    offsets, nbytes = runs(index, piece, itemsize)
    if int(offsets.min()) < 0:
        raise LayoutError(
            f"{path}: a block lies in chunks that aren't allocated, in a dataset of shape "
            f"{index.shape!r}; write a dataset with filters chunk by chunk"
        )
    return offsets, nbytes


def _staged(piece: Piece, block: NDArray[Any], stored: np.dtype[Any], fill: bytes | None) -> Bytes:
    """Return a piece's bytes in the file's order: the block's own where they lie so already."""
    values = piece.values(block)
    if values.flags.c_contiguous and values.dtype == stored and not piece.is_padded:
        return _bytes_of(values)
    staged = _staging.take(piece.shape, stored)
    if piece.is_padded:
        staged[...] = np.frombuffer(fill, stored)[0] if fill else np.zeros((), stored)
    np.copyto(piece.real(staged), values, casting="equiv")
    return _bytes_of(staged)


def _bytes_of(values: NDArray[Any]) -> Bytes:
    return values.reshape(-1).view(np.uint8)


def _check(
    path: str,
    index: ChunkIndex,
    start: Sequence[int],
    block: NDArray[Any],
    stored: np.dtype[Any],
) -> None:
    if block.dtype.newbyteorder("=") != stored.newbyteorder("="):
        raise LayoutError(
            f"{path}: a block is {block.dtype.str!r}, its dataset {stored.str!r}; "
            f"convert it with astype({stored.str!r})"
        )
    inside = len(start) == block.ndim == len(index.shape) and all(
        at >= 0 and at + n <= size
        for at, n, size in zip(start, block.shape, index.shape, strict=True)
    )
    if not inside:
        raise LayoutError(
            f"{path}: a block of shape {block.shape!r} at {tuple(start)!r} doesn't lie in its "
            f"dataset of shape {index.shape!r}; plan the file anew for these values"
        )


@contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise gone(path) from None
    try:
        yield file
    finally:
        os.close(file)


def _write_all(file: int, raw: Bytes, offset: int) -> None:
    view = memoryview(raw)
    while view:
        n = os.pwrite(file, view, offset)
        view, offset = view[n:], offset + n


def _read_all(path: str, file: int, into: Bytes, offset: int) -> None:
    view = memoryview(into)
    while view:
        n = os.preadv(file, [view], offset)
        if not n:
            raise CorruptInput(
                f"{path}: ends before byte {offset + len(view):,}, where values were written; "
                "write it again"
            )
        view, offset = view[n:], offset + n
