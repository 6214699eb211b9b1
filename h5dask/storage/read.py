"""Boxes of one stored dataset -> numpy, by byte ranges: no HDF5, no lock, no copy where it fits.

What lies where is told by a `Place`; how bytes come from a file or store is `remote`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import NOTHING
from h5dask.storage.chunked import read_chunked
from h5dask.storage.place import PIECE, Box, Place, bytes_of, fill_value, load, scratch, whole_from
from h5dask.storage.ranges import Ranges

_SPARSE = 16
"""A row that is needed to less than one part in this is read in parts ..."""
_NARROW = 16 * 2**10
"""... unless it has no more bytes than this."""


def read_box(file: Ranges, place: Place, box: Box, out: NDArray[Any]) -> None:
    """Read a box of a dataset into `out`, or note what of it is fetched later.

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
        read_chunked(file, place, place.index, box, out)
    elif place.inline is not None:
        whole = np.frombuffer(place.inline, place.stored).reshape(place.shape)
        out[...] = whole[box]
    elif place.offset == NOTHING:
        out[...] = fill_value(place)
    else:
        _read_contiguous(file, place, box, out)


def _read_contiguous(file: Ranges, place: Place, box: Box, out: NDArray[Any]) -> None:
    """Read a box of row-major values that lie in one byte range."""
    shape, itemsize = place.shape, place.stored.itemsize
    if not shape:
        shape, box, out = (1,), (slice(0, 1),), out.reshape(1)
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    axis = max(whole_from(shape, box) - 1, 0)
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
        load(file, place, "", offset, bytes_of(out))
        return
    row = out[0].nbytes
    for rows in _pieces(0, len(out), max(1, PIECE // row)):
        into = out[rows]
        part = scratch.take(into.nbytes)
        if load(file, place, "", offset + rows.start * row, part):
            into[...] = part.view(place.stored).reshape(into.shape)


def _read_whole_rows(file: Ranges, place: Place, box: Box, out: NDArray[Any]) -> None:
    """Read a box through whole rows, of which it takes the larger part."""
    row = math.prod(place.shape[1:]) * place.stored.itemsize
    for rows in _pieces(box[0].start, box[0].stop, max(1, PIECE // row)):
        part = scratch.take((rows.stop - rows.start) * row)
        if not load(file, place, "", place.offset + rows.start * row, part):
            continue
        whole = part.view(place.stored).reshape(-1, *place.shape[1:])
        out[rows.start - box[0].start : rows.stop - box[0].start] = whole[:, *box[1:]]


def _pieces(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(at, min(at + step, stop)) for at in range(start, stop, step))
