"""Writers that come late: they share a lock on the part they write, and whoever publishes asks.

Where a filesystem has no locks, a late writer writes the bytes once more that are there already.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from h5dask.errors import NotFound
from h5dask.storage.parts import COPY

_PIECE_NBYTES = 8 << 20


@contextmanager
def to_write(path: str) -> Iterator[int]:
    """Open a part to write into it; it is never made here.

    Raises
    ------
    NotFound
        It is gone, or about to be published: a task that comes late must not change it.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # on NFS a shared lock wants to read
    except FileNotFoundError:
        raise gone(path) from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file), os.stat(path)):
                raise gone(path)
        except (BlockingIOError, FileNotFoundError):
            raise gone(path) from None
        except OSError:
            pass  # no locks here
        yield file
    finally:
        os.close(file)


def gone(path: str) -> NotFound:
    """Return the error of a part that isn't there any more."""
    return NotFound(f"{path}: the file that is being written is gone; write it again")


@contextmanager
def unwritten(path: str) -> Iterator[None]:
    """Keep everybody from writing into a file that gets its last name inside.

    Where somebody is at it, frozen perhaps or cut off, a copy takes its place and he keeps his own.
    """
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with _copied(path):
                yield
            return
        except OSError:
            pass  # no locks here
        yield


@contextmanager
def _copied(path: str) -> Iterator[None]:
    copy = path + COPY
    try:
        with open(path, "rb") as file, open(copy, "wb") as made:
            fcntl.flock(made, fcntl.LOCK_EX)
            shutil.copyfileobj(file, made, _PIECE_NBYTES)
            os.fchmod(made.fileno(), os.fstat(file.fileno()).st_mode)
            made.flush()
            os.replace(copy, path)
            yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(copy)
