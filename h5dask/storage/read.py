"""Boxes of one stored dataset -> numpy, by byte ranges: no HDF5, no lock, no copy where it fits.

What lies where is told by a `Place`; how bytes come from a file or store is `remote`'s matter.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import NOTHING, ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput, Refused
from h5dask.storage import codec
from h5dask.storage.remote import Ranges

Box = tuple[slice, ...]

PIECE = 4 * 2**20
"""Bytes of neighboring chunks that are read at once."""
MAX_CHUNK = 2**29
"""Decoded bytes of one filtered chunk; more is refused, for a small file may hold huge ones."""
_SPARSE = 16
"""A row that is needed to less than one part in this is read in parts ..."""
_NARROW = 16 * 2**10
"""... unless it has no more bytes than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one dataset lies in its file, and in which form."""

    path: str
    shape: tuple[int, ...]
    form: ArrayForm
    offset: int
    """Byte offset of contiguous values, or one of `chunkindex`'s codes."""
    index: ChunkIndex | None = None
    inline: bytes | None = None
    heap_base: int = 0
    """What to add to global-heap addresses."""

    @property
    def stored(self) -> np.dtype[Any]:
        """The dtype of stored elements; a variable-length one is a descriptor of 16 bytes."""
        if self.form.dtype == "str" or self.form.is_ragged_bytes:
            return DESCRIPTOR
        return np.dtype(self.form.dtype)


DESCRIPTOR = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""HDF5's variable-length element: how many, and where in the global heap."""


class _Scratch(threading.local):
    """One buffer a thread, reused from block to block."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        if nbytes > PIECE * 8:
            return np.empty(nbytes, np.uint8)
        if len(self.buffer) < nbytes:
            self.buffer = np.empty(nbytes, np.uint8)
        return self.buffer[:nbytes]


_scratch, _decoded = _Scratch(), _Scratch()


def read_box(file: Ranges, place: Place, box: Box, out: NDArray[Any]) -> None:
    """Read a box of a dataset into `out`.

    Parameters
    ----------
    file : Ranges
        The open file.
    place : Place
        Where the dataset lies; not one that only HDF5's library can read.
    box : tuple of slice
        Start and stop along each axis of the dataset.
    out : ndarray
        Of the box's shape and `place.stored` dtype; need not be contiguous.

    Raises
    ------
    CorruptInput
        The file is shorter than its metadata says, or a chunk can't be decoded.
    """
    if not out.size:
        return
    if place.index is not None:
        _read_chunked(file, place, place.index, box, out)
    elif place.inline is not None:
        whole = np.frombuffer(place.inline, place.stored).reshape(place.shape)
        out[...] = whole[box]
    elif place.offset == NOTHING:
        out[...] = _fill_value(place)
    else:
        _read_contiguous(file, place, box, out)


def _fill_value(place: Place) -> Any:
    if place.form.fill is None:
        return np.zeros((), place.stored)
    return np.frombuffer(place.form.fill, place.stored)[0]


def _load(file: Ranges, place: Place, what: str, offset: int, into: NDArray[np.uint8]) -> None:
    """Read bytes; a failure names the path and what was being read."""
    try:
        file.read_into(offset, memoryview(into))
    except CorruptInput as error:
        url, _, rest = str(error).partition(": ")
        raise CorruptInput(f"{url}: /{place.path}{what}: {rest}") from None


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a C-contiguous array's bytes without a copy."""
    return array.reshape(-1).view(np.uint8)


def _read_contiguous(file: Ranges, place: Place, box: Box, out: NDArray[Any]) -> None:
    """Read a box of row-major values that lie in one byte range."""
    shape, itemsize = place.shape, place.stored.itemsize
    if not shape:
        shape, box, out = (1,), (slice(0, 1),), out.reshape(1)
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    axis = max(_whole_from(shape, box) - 1, 0)
    if axis and (strides[0] <= _NARROW or out[0].nbytes * _SPARSE >= strides[0]):
        _read_whole_rows(file, place, box, out)
        return
    start = place.offset + sum(s.start * n for s, n in zip(box, strides, strict=True))
    for at in np.ndindex(*out.shape[:axis]):
        offset = start + sum(i * n for i, n in zip(at, strides, strict=False))
        _load_run(file, place, offset, out[at])


def _load_run(file: Ranges, place: Place, offset: int, out: NDArray[Any]) -> None:
    """Read one byte range, straight into `out` where that is contiguous."""
    if out.flags.c_contiguous:
        _load(file, place, "", offset, _bytes_of(out))
        return
    row = out[0].nbytes
    for rows in _pieces(0, len(out), max(1, PIECE // row)):
        into = out[rows]
        part = _scratch.take(into.nbytes)
        _load(file, place, "", offset + rows.start * row, part)
        into[...] = part.view(place.stored).reshape(into.shape)


def _read_whole_rows(file: Ranges, place: Place, box: Box, out: NDArray[Any]) -> None:
    """Read a box through whole rows, of which it takes the larger part."""
    row = math.prod(place.shape[1:]) * place.stored.itemsize
    for rows in _pieces(box[0].start, box[0].stop, max(1, PIECE // row)):
        part = _scratch.take((rows.stop - rows.start) * row)
        _load(file, place, "", place.offset + rows.start * row, part)
        whole = part.view(place.stored).reshape(-1, *place.shape[1:])
        out[rows.start - box[0].start : rows.stop - box[0].start] = whole[:, *box[1:]]


def _pieces(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))


def _whole_from(shape: Sequence[int], box: Box) -> int:
    """Return the first axis from which on the box covers the dataset's whole extent."""
    axis = len(shape)
    while axis and (box[axis - 1].start, box[axis - 1].stop) == (0, shape[axis - 1]):
        axis -= 1
    return axis


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of one stored chunk that a box needs."""

    corner: tuple[int, ...]
    """The chunk's first element in the dataset."""
    inside: Box
    """What is needed of it, within the chunk."""
    target: Box
    """Where that goes in the output."""
    offset: int
    """Byte offset of what must be read; -1 where nothing is stored."""
    nbytes: int
    """Bytes that must be read: of a filtered chunk all, of another the rows that are needed."""
    mask: int


def _read_chunked(
    file: Ranges, place: Place, index: ChunkIndex, box: Box, out: NDArray[Any]
) -> None:
    """Read a box through the chunk grid; chunks that lie side by side are read at once."""
    size = math.prod(index.chunks) * place.stored.itemsize
    if place.form.filters and size > MAX_CHUNK:
        raise Refused(
            f"/{place.path}: a compressed chunk of {size:,} bytes; at most {MAX_CHUNK:,} are "
            "decoded at once; rewrite it with smaller chunks"
        )
    pieces = []
    for piece in _cut(place, index, box):
        if piece.offset < 0:
            out[piece.target] = _fill_value(place)
        else:
            pieces.append(piece)
    straight = (
        not place.form.filters
        and index.chunks[1:] == place.shape[1:]
        and _whole_from(place.shape, box) <= 1
        and out.flags.c_contiguous
    )
    for run in _neighbors(pieces, PIECE * 8 if straight else PIECE):
        what = f", chunk at {run[0].corner}"
        nbytes = sum(piece.nbytes for piece in run)
        if straight:
            rows = out[run[0].target[0].start : run[-1].target[0].stop]
            _load(file, place, what, run[0].offset, _bytes_of(rows))
            continue
        raw = _scratch.take(nbytes)
        _load(file, place, what, run[0].offset, raw)
        at = 0
        for piece in run:
            _put(place, index, piece, raw[at : at + piece.nbytes], out)
            at += piece.nbytes


def _cut(place: Place, index: ChunkIndex, box: Box) -> Iterator[_Piece]:
    """Yield what the box needs of each chunk it touches, in grid order."""
    spans = [range(s.start // c, -(-s.stop // c)) for s, c in zip(box, index.chunks, strict=True)]
    numbers = np.zeros((1,) * 0, np.int64)
    for span, count in zip(spans, index.grid, strict=True):
        numbers = numbers[..., None] * count + np.arange(span.start, span.stop)
    offsets, sizes, masks = index.locate(numbers.ravel())
    row = math.prod(index.chunks[1:]) * place.stored.itemsize
    whole = bool(place.form.filters)
    cells = product(*spans)
    for cell, offset, nbytes, mask in zip(
        cells, offsets.tolist(), sizes.tolist(), masks.tolist(), strict=True
    ):
        corner = tuple(n * c for n, c in zip(cell, index.chunks, strict=True))
        inside, target = [], []
        for first, chunk, s in zip(corner, index.chunks, box, strict=True):
            start, stop = max(s.start, first), min(s.stop, first + chunk)
            inside.append(slice(start - first, stop - first))
            target.append(slice(start - s.start, stop - s.start))
        rows = inside[0].stop - inside[0].start
        place_in_file, wanted = offset, nbytes
        if offset >= 0 and not whole:
            place_in_file, wanted = offset + inside[0].start * row, rows * row
        yield _Piece(corner, tuple(inside), tuple(target), place_in_file, wanted, mask)


def _neighbors(pieces: Sequence[_Piece], most: int) -> Iterator[list[_Piece]]:
    """Yield runs of pieces that lie side by side in the file, of limited size."""
    run: list[_Piece] = []
    nbytes = 0
    for piece in pieces:
        joins = run and piece.offset == run[-1].offset + run[-1].nbytes
        if run and not (joins and nbytes + piece.nbytes <= most):
            yield run
            run, nbytes = [], 0
        run.append(piece)
        nbytes += piece.nbytes
    if run:
        yield run


def _put(
    place: Place, index: ChunkIndex, piece: _Piece, raw: NDArray[np.uint8], out: NDArray[Any]
) -> None:
    """Decode one chunk's bytes where needed, and copy what the box needs of it."""
    if not place.form.filters:
        rows = raw.view(place.stored).reshape(-1, *index.chunks[1:])
        out[piece.target] = rows[:, *piece.inside[1:]]
        return
    size = math.prod(index.chunks) * place.stored.itemsize
    target = out[piece.target]
    straight = target.flags.c_contiguous and target.nbytes == size
    decoded = _bytes_of(target) if straight else _decoded.take(size)
    try:
        codec.decode(memoryview(raw), place.form.filters, piece.mask, decoded)
    except codec.DecodeError as error:
        raise CorruptInput(
            f"/{place.path}, chunk at {piece.corner}, {piece.nbytes:,} bytes at offset "
            f"{piece.offset:,}: {error}; copy or download the file again"
        ) from None
    if not straight:
        target[...] = decoded.view(place.stored).reshape(index.chunks)[piece.inside]
