"""Objects that were fetched whole, once a process: in files without a name, which end with it."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import warnings
from collections import OrderedDict

from h5dask.errors import InputChanged, Refused
from h5dask.storage.space import full_disk_told
from h5dask.storage.stores import Object, settings
from h5dask.storage.stores.trying import persistently
from h5dask.words import nbytes_in_words

LIMIT = "8 GiB"
"""Bytes of an object that is fetched whole, unless `h5dask.store-whole` says else."""
_MOST_KNOWN = 16
"""Objects that are kept."""

_known: OrderedDict[tuple[str, str], memoryview] = OrderedDict()
_lock = threading.Lock()


def scratch(nbytes: int) -> tuple[int, memoryview]:
    """Return a file without a name, of a size, and its bytes as they will be written to it."""
    with tempfile.TemporaryFile() as file:
        number = os.dup(file.fileno())
    os.truncate(number, nbytes)
    return number, memoryview(mmap.mmap(number, nbytes, access=mmap.ACCESS_READ))


def known(url: str, mark: str) -> memoryview | None:
    """Return the bytes of an object that was fetched whole before."""
    return _known.get((url, mark))


def fetched(held: Object, mark: str, nbytes: int | None) -> memoryview:
    """Return all bytes of an object whose server gives no parts, fetched by one request.

    Raises
    ------
    Refused
        It is larger than `h5dask.store-whole`.
    """
    with _lock:  # whoever needs it too waits for it
        found = _known.get((held.url, mark))
        if found is None:
            refuse_large(held.url, nbytes)
            warnings.warn(
                f"{held.url}: its server gives no parts of it; it is fetched whole, once a "
                "process, into the temporary folder",
                UserWarning,
                stacklevel=2,
            )
            found = _kept(held.url, persistently(held.url, lambda: held.whole(mark)), nbytes)
            remember(held.url, mark, found)
    return found


def refuse_large(url: str, nbytes: int | None) -> None:
    """Refuse what is too large to be fetched whole."""
    most = settings.nbytes("whole", LIMIT)
    if nbytes is not None and nbytes > most:
        raise Refused(
            f"{url}: found {nbytes_in_words(nbytes)} that could only be fetched whole, at most "
            f"{nbytes_in_words(most)} are; copy it to a disk, or allow more with h5dask.store-whole"
        )


def remember(url: str, mark: str, found: memoryview) -> None:
    """Keep an object's bytes for the process, and let go of the one that was kept longest."""
    _known[url, mark] = found
    while len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)


def forget(url: str, mark: str) -> None:
    """Let go of an object's bytes."""
    _known.pop((url, mark), None)


def _kept(url: str, content: memoryview, nbytes: int | None) -> memoryview:
    if nbytes is not None and content.nbytes != nbytes:
        raise InputChanged(
            f"{url}: found {content.nbytes:,} bytes, {nbytes:,} when it was opened; open it again"
        )
    if not content.nbytes:
        return content
    number, view = scratch(content.nbytes)
    try:
        with full_disk_told(url):
            done = 0
            while done < content.nbytes:
                done += os.pwrite(number, content[done:], done)
    finally:
        os.close(number)
    return view
