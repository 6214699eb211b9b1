"""Byte ranges of an open source: one after the other, or several neighboring ones in one read.

What a source is named by, and whether it changed, is `remote`'s matter.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, StoreUnavailable

_GAP = 16 * 2**10
"""Bytes between two ranges that cost less to read than another read."""
_PARTS = 1000
"""Places that one read fills; Linux takes 1,024."""


class Ranges(Protocol):
    """An open source of bytes; False where they are fetched later, and the read is repeated."""

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Fill `into` with the bytes that start at `offset`."""

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> bool:
        """Fill one part after the other with the bytes that start at `offset`; 1,000 at most."""


def read_ranges(
    file: Ranges, offsets: NDArray[np.int64], sizes: NDArray[np.int64], into: memoryview
) -> bool:
    """Read ranges of bytes end to end, those that lie close together in one read.

    Parameters
    ----------
    file : Ranges
        The open source.
    offsets, sizes : (range,) int64
        Where each begins, and how many bytes it has.
    into : memoryview
        Of as many bytes as all of them.

    Returns
    -------
    bool
        False where bytes are fetched later, and this is called again.

    Raises
    ------
    CorruptInput
        The source has no such bytes.
    """
    gaps = offsets[1:] - offsets[:-1] - sizes[:-1]
    apart = np.flatnonzero((gaps < 0) | (gaps > _GAP)) + 1
    between, lengths = gaps.tolist(), sizes.tolist()
    spare = memoryview(bytearray(_GAP))
    at, all_there = 0, True
    for first, stop in pairwise([0, *apart.tolist(), len(offsets)]):
        for start in range(first, stop, _PARTS // 2):
            parts: list[memoryview] = []
            for i in range(start, min(start + _PARTS // 2, stop)):
                if parts and between[i - 1]:
                    parts.append(spare[: between[i - 1]])
                parts.append(into[at : at + lengths[i]])
                at += lengths[i]
            all_there &= file.read_parts(int(offsets[start]), parts)
    return all_there


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that the operating system has opened."""

    url: str
    """What errors call it."""
    number: int
    """Its descriptor."""

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Fill `into`, in several reads where one gives less."""
        done, wanted = 0, into.nbytes
        while done < wanted:
            n = self._read(offset + done, [into[done:] if done else into], wanted)
            if n == 0:
                raise truncated(self.url, offset, wanted, done)
            done += n
        return True

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> bool:
        """Fill all parts at once; each by itself where that gives less."""
        wanted = sum(part.nbytes for part in parts)
        if self._read(offset, parts, wanted) == wanted:
            return True
        for part in parts:
            self.read_into(offset, part)
            offset += part.nbytes
        return True

    def _read(self, offset: int, parts: Sequence[memoryview], wanted: int) -> int:
        try:
            return os.preadv(self.number, parts, offset)
        except OverflowError:
            return 0  # an offset that no file has
        except OSError as error:
            raise StoreUnavailable(
                f"{self.url}: {wanted:,} bytes at offset {offset:,} can't be read "
                f"({error.strerror}); check the disk or network it is on"
            ) from None


@dataclass(frozen=True, slots=True)
class InMemory:
    """The bytes of a file object that was read whole."""

    url: str
    """What errors call it."""
    content: bytes | memoryview
    """They themselves."""

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Copy bytes."""
        return self.read_parts(offset, [into])

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> bool:
        """Copy bytes, part after part."""
        wanted = sum(part.nbytes for part in parts)
        found = memoryview(self.content)[max(0, offset) : max(0, offset + wanted)]
        if offset < 0 or found.nbytes != wanted:
            raise truncated(self.url, offset, wanted, found.nbytes)
        at = 0
        for part in parts:
            part.cast("B")[:] = found[at : at + part.nbytes]
            at += part.nbytes
        return True


def truncated(url: str, offset: int, wanted: int, got: int) -> CorruptInput:
    """Return the error for a byte range that the file doesn't have."""
    return CorruptInput(
        f"{url}: truncated: {wanted:,} bytes wanted at offset {offset:,}, {got:,} there; "
        "copy or download it again"
    )
