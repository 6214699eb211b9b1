"""What a sparse file holds between its holes."""

from __future__ import annotations

import os
from collections.abc import Iterator

STEP = 1 << 20
"""Bytes that are read at once; no piece crosses a multiple of it."""
_PAGE = 4096
_NOTHING = bytes(_PAGE)


def between_holes(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of all that a file holds but pages of zeros, in order.

    Parameters
    ----------
    path : str
        A local file. Where its filesystem knows no holes, all of it is read.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        nbytes = os.fstat(number).st_size
        for start, stop in _extents(number, nbytes):
            at = start
            while at < stop:
                end = min(stop, (at // STEP + 1) * STEP)
                yield from _pages(os.pread(number, end - at, at), at)
                at = end
    finally:
        os.close(number)


def _extents(number: int, nbytes: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < nbytes:
        try:
            start = os.lseek(number, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole from here on
            return
        at = os.lseek(number, start, os.SEEK_HOLE)
        yield start, at


def _pages(raw: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield runs of pages that aren't all zeros."""
    start = None
    for at in range(0, len(raw), _PAGE):
        page = raw[at : at + _PAGE]
        if page == _NOTHING[: len(page)]:
            if start is not None:
                yield offset + start, raw[start:at]
            start = None
        elif start is None:
            start = at
    if start is not None:
        yield offset + start, raw[start:]
