"""Boxes of a chunked dataset -> numpy, through the chunk grid: neighboring chunks at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex
from h5dask.errors import CorruptInput, Refused
from h5dask.kernels.scatter import scatter
from h5dask.storage import codec
from h5dask.storage.place import (
    PIECE,
    Box,
    Place,
    Scratch,
    bytes_of,
    fill_value,
    load,
    scratch,
    whole_from,
)
from h5dask.storage.ranges import Ranges

MAX_CHUNK = 2**29
"""Decoded bytes of one filtered chunk; more is refused, for a small file may hold huge ones."""
_SLACK = 2**16
"""Bytes by which a filtered chunk may exceed twice its decoded size: no filter adds so many."""

decoded = Scratch()
"""Each thread's buffer for chunks that are decoded apart from where they go."""


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
    """Byte offset of what must be read."""
    nbytes: int
    """Bytes that must be read: of a filtered chunk all, of another the rows that are needed."""
    mask: int


def read_chunked(
    file: Ranges, place: Place, index: ChunkIndex, box: Box, out: NDArray[Any]
) -> None:
    """Read a box through the chunk grid; chunks that lie side by side are read at once."""
    size = math.prod(index.chunks) * place.stored.itemsize
    if place.form.filters and size > MAX_CHUNK:
        raise Refused(
            f"/{place.path}: a compressed chunk of {size:,} bytes; at most {MAX_CHUNK:,} are "
            "decoded at once; rewrite it with smaller chunks"
        )
    if not place.form.filters and _read_tiles(file, place, index, box, out):
        return
    found = _stored(index, box)
    if len(found[0]) < math.prod(map(len, _spans(index, box))):
        out[...] = fill_value(place)
    pieces = list(_cut(place, index, box, *found))
    straight = (
        not place.form.filters
        and index.chunks[1:] == place.shape[1:]
        and whole_from(place.shape, box) <= 1
        and out.flags.c_contiguous
    )
    for run in _neighbors(pieces, PIECE * 8 if straight else PIECE):
        what = f", chunk at {run[0].corner}"
        nbytes = sum(piece.nbytes for piece in run)
        if straight:
            rows = out[run[0].target[0].start : run[-1].target[0].stop]
            load(file, place, what, run[0].offset, bytes_of(rows))
            continue
        raw = scratch.take(nbytes)
        if not load(file, place, what, run[0].offset, raw):
            continue
        at = 0
        for piece in run:
            _put(place, index, piece, raw[at : at + piece.nbytes], out)
            at += piece.nbytes


def _read_tiles(file: Ranges, place: Place, index: ChunkIndex, box: Box, out: NDArray[Any]) -> bool:
    """Read a box of rows and columns through narrow chunks, as h5py makes them by itself.

    Neighboring chunks are read at once, and all of them brought to their rows in one call without
    the interpreter. False where the box or the chunks aren't of that kind.
    """
    if (
        len(index.shape) < 2
        or index.chunks[1] >= index.shape[1]
        or index.chunks[2:] != index.shape[2:]
        or whole_from(index.shape, box) > 2
        or not out.flags.c_contiguous
        or not len(index.first)
    ):
        return False
    rows, columns = _spans(index, box)[:2]
    n_columns = index.grid[1]
    numbers = np.add.outer(np.array(rows) * n_columns, np.array(columns)).ravel()
    offsets, sizes, _ = index.locate(numbers)
    column = math.prod(index.shape[2:]) * place.stored.itemsize
    stride = index.chunks[1] * column
    if (offsets < 0).any() or (sizes != index.chunks[0] * stride).any():
        return False
    top, first, height = _cuts(rows, index.chunks[0], box[0])
    left, skipped, width = _cuts(columns, index.chunks[1], box[1])
    target_stride = (box[1].stop - box[1].start) * column
    wide = np.ones(len(columns), np.int64)
    tall = np.ones(len(rows), np.int64)
    starts = offsets + np.outer(first * stride, wide).ravel()
    heights = np.outer(height, wide).ravel()
    places = np.add.outer(top * target_stride, left * column).ravel()
    widths, within = (
        np.outer(tall, width * column).ravel(),
        np.outer(tall, skipped * column).ravel(),
    )
    lengths = heights * stride
    target = bytes_of(out)
    for run in _side_by_side(starts, lengths, PIECE):
        raw = scratch.take(int(lengths[run].sum()))
        at = np.unravel_index(run.start, (len(rows), len(columns)))
        corner = (rows[at[0]] * index.chunks[0], columns[at[1]] * index.chunks[1])
        if not load(file, place, f", chunk at {corner}", int(starts[run.start]), raw):
            continue
        begin = starts[run] - starts[run.start] + within[run]
        scatter(raw, begin, heights[run], widths[run], stride, places[run], target, target_stride)
    return True


Ints = NDArray[np.int64]


def _cuts(span: range, size: int, wanted: slice) -> tuple[Ints, Ints, Ints]:
    """Return for each chunk along a dim: where its part goes, where that begins, and how much."""
    corners = np.arange(span.start, span.stop) * size
    start = np.maximum(corners, wanted.start)
    stop = np.minimum(corners + size, wanted.stop)
    return start - wanted.start, start - corners, stop - start


def _side_by_side(starts: Ints, lengths: Ints, most: int) -> Iterator[slice]:
    """Yield runs of byte ranges that lie side by side, of limited size."""
    apart = starts[1:] != starts[:-1] + lengths[:-1]
    borders = [0, *(np.flatnonzero(apart) + 1).tolist(), len(starts)]
    for first, last in pairwise(borders):
        ends = np.cumsum(lengths[first:last])
        at, done = first, 0
        while at < last:
            n = int(np.searchsorted(ends, done + most, side="right")) + first
            stop = max(n, at + 1)
            yield slice(at, stop)
            at, done = stop, int(ends[stop - first - 1])


def _spans(index: ChunkIndex, box: Box) -> list[range]:
    """Return the chunks that a box touches, along each dim of the chunk grid."""
    return [range(s.start // c, -(-s.stop // c)) for s, c in zip(box, index.chunks, strict=True)]


_Cells = list[tuple[int, ...]]


def _stored(index: ChunkIndex, box: Box) -> tuple[_Cells, list[int], list[int], list[int]]:
    """Return place in the grid, offset, stored bytes and mask of each chunk that is allocated."""
    if not len(index.first):
        return [], [], [], []  # whatever its shape is: nothing in proportion to it is made
    spans = _spans(index, box)
    numbers = np.zeros((1,) * 0, np.int64)
    for span, count in zip(spans, index.grid, strict=True):
        numbers = numbers[..., None] * count + np.arange(span.start, span.stop)
    offsets, sizes, masks = index.locate(numbers.ravel())
    held = np.flatnonzero(offsets >= 0)
    at = np.unravel_index(held, numbers.shape)
    along = [(axis + span.start).tolist() for axis, span in zip(at, spans, strict=True)]
    cells: _Cells = list(zip(*along, strict=True))
    return cells, offsets[held].tolist(), sizes[held].tolist(), masks[held].tolist()


def _cut(
    place: Place,
    index: ChunkIndex,
    box: Box,
    cells: _Cells,
    offsets: list[int],
    sizes: list[int],
    masks: list[int],
) -> Iterator[_Piece]:
    """Yield what the box needs of each allocated chunk it touches, in grid order."""
    row = math.prod(index.chunks[1:]) * place.stored.itemsize
    whole = bool(place.form.filters)
    size = row * index.chunks[0]
    for cell, offset, nbytes, mask in zip(cells, offsets, sizes, masks, strict=True):
        corner = tuple(n * c for n, c in zip(cell, index.chunks, strict=True))
        if nbytes != size and (not whole or nbytes > 2 * size + _SLACK):
            raise CorruptInput(
                f"/{place.path}, chunk at {corner}, {nbytes:,} bytes at offset {offset:,}: "
                f"expected {size:,} bytes; copy or download the file again"
            )
        inside, target = [], []
        for first, chunk, s in zip(corner, index.chunks, box, strict=True):
            start, stop = max(s.start, first), min(s.stop, first + chunk)
            inside.append(slice(start - first, stop - first))
            target.append(slice(start - s.start, stop - s.start))
        rows = inside[0].stop - inside[0].start
        place_in_file, wanted = offset, nbytes
        if not whole:
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
    into = bytes_of(target) if straight else decoded.take(size)
    try:
        codec.decode(memoryview(raw), place.form.filters, piece.mask, into)
    except codec.DecodeError as error:
        raise CorruptInput(
            f"/{place.path}, chunk at {piece.corner}, {piece.nbytes:,} bytes at offset "
            f"{piece.offset:,}: {error}; copy or download the file again"
        ) from None
    if not straight:
        target[...] = into.view(place.stored).reshape(index.chunks)[piece.inside]
