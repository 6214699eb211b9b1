"""Where one dataset lies, and what every way of reading it shares. Bytes, no HDF5."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput
from h5dask.storage.ranges import Ranges

Box = tuple[slice, ...]


PIECE = 4 * 2**20
"""Bytes of neighboring chunks that are read at once."""


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


class Scratch(threading.local):
    """One buffer a thread, reused from block to block."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Return bytes to fill; the next call in this thread may return the same."""
        if nbytes > PIECE * 8:
            return np.empty(nbytes, np.uint8)
        if len(self.buffer) < nbytes:
            self.buffer = np.empty(nbytes, np.uint8)
        return self.buffer[:nbytes]


def fill_value(place: Place) -> Any:
    """Return what an element reads as that was never written."""
    if place.form.fill is None:
        return np.zeros((), place.stored)
    return np.frombuffer(place.form.fill, place.stored)[0]


def load(file: Ranges, place: Place, what: str, offset: int, into: NDArray[np.uint8]) -> bool:
    """Read bytes; a failure names the path and what was being read. False: they come later."""
    try:
        return file.read_into(offset, memoryview(into))
    except CorruptInput as error:
        url, _, rest = str(error).partition(": ")
        raise CorruptInput(f"{url}: /{place.path}{what}: {rest}") from None


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a C-contiguous array's bytes without a copy."""
    return array.reshape(-1).view(np.uint8)


def whole_from(shape: Sequence[int], box: Box) -> int:
    """Return the first axis from which on the box covers the dataset's whole extent."""
    axis = len(shape)
    while axis and (box[axis - 1].start, box[axis - 1].stop) == (0, shape[axis - 1]):
        axis -= 1
    return axis


scratch = Scratch()
"""Each thread's buffer for bytes as they are stored."""
