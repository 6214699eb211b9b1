"""All bytes of a file at hand: held in memory, or mapped by the operating system."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from h5dask.storage.held import Held
from h5dask.storage.ranges import truncated


@contextmanager
def mapped(file: str | BinaryIO | Held) -> Iterator[memoryview | None]:
    """Give all bytes of a file that are in memory, or that the operating system can map."""
    if isinstance(file, Held):
        yield file.view if file.is_whole else None
        return
    if isinstance(file, io.BytesIO):
        with file.getbuffer() as view:
            yield view
        return
    if not isinstance(file, str):
        yield None
        return
    with (
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        yield view


class Viewed:
    """A view of a file's bytes as a source of ranges, like an open file."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Fill `into` with the bytes that start at `offset`."""
        part = self._view[offset : offset + into.nbytes]
        if offset < 0 or len(part) < into.nbytes:
            raise truncated("the file", offset, into.nbytes, len(part))
        into[:] = part
        return True

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> bool:
        """Fill one part after the other with the bytes that start at `offset`."""
        for part in parts:
            self.read_into(offset, part)
            offset += part.nbytes
        return True
