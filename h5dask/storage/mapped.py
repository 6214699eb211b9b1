"""All bytes of a file at hand: held in memory, or mapped by the operating system."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from h5dask.storage.held import Held


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
