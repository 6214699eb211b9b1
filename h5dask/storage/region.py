"""Arrays of numbers that lie in one byte range of a file without a structure of its own.

What a header says is held against the file's size before anything of that size is allocated.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput
from h5dask.storage.array import Segments, StoredArray
from h5dask.storage.place import PIECE
from h5dask.storage.ranges import Ranges
from h5dask.storage.remote import Source
from h5dask.storage.selection import per_axis, select
from h5dask.storage.space import Reservation, full_disk_told

COUNT = np.dtype("<i4")
"""What stands before each row of a file of counted rows: the number of its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One array of numbers in C order, and where it lies."""

    offset: int
    """Byte offset of the first value, or of the first row's count."""
    shape: tuple[int, ...]
    """Its shape."""
    dtype: str
    """The stored dtype, such as "<f4"."""
    counted: bool = False
    """Whether the number of its values, int32, stands before each row."""
    by_columns: bool = False
    """Whether the array is the transpose of what is meant: columns lie end to end."""

    @property
    def row_nbytes(self) -> int:
        """Bytes from one row to the next."""
        values = math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize
        return values + COUNT.itemsize * self.counted

    @property
    def end(self) -> int:
        """Byte offset behind the last value."""
        return self.offset + self.shape[0] * self.row_nbytes

    @property
    def rows(self) -> str:
        """Its rows in words: "1,000 rows of 128 float32"."""
        n, *width = self.shape[::-1] if self.by_columns else self.shape
        return f"{n:,} rows of {math.prod(width):,} {np.dtype(self.dtype).name}"

    def array(self, source: Source, name: str) -> StoredArray | CountedRows:
        """Return the values as a lazy array: it reads what it is asked for, by byte ranges."""
        if self.counted:
            return CountedRows(self, source, name)
        return _stored(source, name, self.offset, self.shape, self.dtype)


class CountedRows:
    """Rows before each of which the number of its values stands, all of one length.

    Indexed like numpy, or wrapped by `dask.array.from_array`. Each count is checked when its row
    is read. Memory: the rows, and about 4 MiB.
    """

    def __init__(self, region: Region, source: Source, name: str) -> None:
        self.name = name
        self.shape = region.shape
        self.dtype = np.dtype(region.dtype).newbyteorder("=")
        self._region = region
        self._source = source
        lines = (region.shape[0], region.row_nbytes)
        self._bytes = _stored(source, name, region.offset, lines, "|u1")

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, columns = per_axis(key, self.shape)
        chosen = select(rows, self.shape[0])
        out = np.empty((chosen.size, self.shape[1]), self.dtype)
        step = max(1, PIECE // self._region.row_nbytes)
        for first, run in chosen.runs():
            for start in range(run.start, run.stop, step):
                stop = min(start + step, run.stop)
                at = first + start - run.start
                out[at : at + stop - start] = self._read(start, stop)
        return out[0 if isinstance(rows, (int, np.integer)) else slice(None), columns]

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Return consecutive rows, once their counts are seen to be right."""
        lines: NDArray[np.uint8] = self._bytes[start:stop]
        counts = lines[:, : COUNT.itemsize].copy().view(COUNT)[:, 0]
        wrong = np.flatnonzero(counts != self.shape[1])
        if len(wrong):
            at = int(wrong[0])
            raise CorruptInput(
                f"{self._source.url}: row {start + at:,}: found {int(counts[at])!r} values, "
                f"expected {self.shape[1]!r} as in row 0; rows of one width only are vectors: "
                "write the file again"
            )
        return lines[:, COUNT.itemsize :].view(self._region.dtype)


def counted(rows: NDArray[Any], stored: str) -> NDArray[np.uint8]:
    """Return the bytes of rows, the number of its values before each: (row, byte), uint8.

    Memory: the rows once more.
    """
    width = rows.shape[1] * np.dtype(stored).itemsize
    out = np.empty((len(rows), COUNT.itemsize + width), np.uint8)
    out[:, : COUNT.itemsize] = np.array([rows.shape[1]], COUNT).view(np.uint8)
    values = np.ascontiguousarray(rows, stored)
    out[:, COUNT.itemsize :] = values.view(np.uint8).reshape(len(rows), width)
    return out


def read_start(file: Ranges, nbytes: int, size: int) -> bytes:
    """Return the first bytes of a file, fewer where it has fewer."""
    start = bytearray(min(nbytes, size))
    file.read_into(0, memoryview(start))
    return bytes(start)


def read_words(source: Source, file: Ranges, dtype: str, what: str) -> tuple[int, int]:
    """Return the two numbers of 4 bytes with which a file begins; `what` says which they are."""
    size = source.nbytes
    if size < 8:
        raise CorruptInput(
            f"{source.url}: found {size:,} bytes, expected 8 at least for {what}; "
            "copy or download it again"
        )
    first, second = np.frombuffer(read_start(file, 8, size), dtype).tolist()
    return int(first), int(second)


def refuse_other_size(source: Source, region: Region) -> None:
    """Raise where a file hasn't the size that its header asks for.

    Raises
    ------
    CorruptInput
        Found and expected bytes are named.
    """
    if source.nbytes != region.end:
        raise CorruptInput(
            f"{source.url}: found {source.nbytes:,} bytes, expected {region.end:,} for the "
            f"{region.rows} that its header tells of; copy or download it again, or correct the "
            "header"
        )


def begin(path: str, header: bytes, nbytes: int) -> None:
    """Make a new file of a size that begins with a header, its space taken.

    Raises
    ------
    OutOfSpace
        The disk hasn't room for it; nothing is left behind.
    """
    try:
        with full_disk_told(path), open(path, "xb") as file:
            file.write(header)
            file.flush()
            with Reservation(path) as reservation:
                reservation.need(nbytes)
                file.truncate(nbytes)
                reservation.finish()
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise


def _stored(
    source: Source, name: str, offset: int, shape: tuple[int, ...], dtype: str
) -> StoredArray:
    segments = Segments(
        starts=np.array([0, shape[0]]),
        sources=np.zeros(1, np.int32),
        offsets=np.array([[offset]]),
        forms=np.zeros((1, 1), np.int32),
        heap_bases=np.zeros(1, np.int64),
        paths=((name,),),
    )
    return StoredArray(name, (source,), segments, (ArrayForm(dtype=dtype, type=b""),), shape[1:])
