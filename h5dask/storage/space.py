"""Disk space taken before it is written, and a full disk told as one. No value and no HDF5 here.

HDF5 must never meet a full disk: a file it couldn't flush stays open in the library and ends the
process with a fault. So space is reserved first, by us, where an error is only an error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from h5dask.errors import OutOfSpace

STEP = 32 << 20
"""Bytes reserved at once when more turns out to be needed than was asked for first."""

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_KEEP_SIZE = 1

_IN_MEMORY = (0x01021994, 0x858458F6)
"""Linux' numbers of tmpfs and ramfs."""

# glibc's posix_fallocate writes a byte into every page where a filesystem can't reserve: minutes
# for a large file. The system call says so instead; where there is none, nothing is reserved.
_c = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_c, "fallocate", None) if sys.platform == "linux" else None
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@contextmanager
def full_disk_told(path: str) -> Iterator[None]:
    """Turn the system's errors of a full disk, quota or file-size limit into `OutOfSpace`."""
    try:
        yield
    except OutOfSpace:
        raise
    except (OSError, RuntimeError) as error:
        code = getattr(error, "errno", None) or _code_in(str(error))
        if code not in _FULL:
            raise
        raise OutOfSpace(_sentence(path, os.strerror(code))) from error


def _code_in(text: str) -> int | None:
    """Return the errno that HDF5's own text names: h5py finds it there for some calls only."""
    found = re.search(r"errno = (\d+),", text)
    return int(found[1]) if found else None


class Reservation:
    """Space held for a file while it is written, given back at the end where it wasn't used.

    Parameters
    ----------
    path : str
        A file that exists.
    sparse : bool, default False
        Whether what follows later stays a hole in the file, which takes no space.

    Notes
    -----
    On a filesystem that can't reserve, on one in memory (where it would write every page once
    more), outside Linux and of a sparse file the free space is looked up instead.
    """

    def __init__(self, path: str, *, sparse: bool = False) -> None:
        self.path = path
        self._needed = 0
        self._holes = 0
        self._held = 0
        self._sparse = sparse
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._reserves = _fallocate is not None and not sparse and not _is_in_memory(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; what is reserved beyond its end stays until it is cut."""
        os.close(self._file)

    def need(self, nbytes: int, later: int = 0) -> None:
        """Reserve `nbytes` more, and room for `later` bytes that follow once the file is closed.

        Raises
        ------
        OutOfSpace
            Where the disk, a quota or the limit of file sizes doesn't hold that much.
        """
        first = not self._needed
        self._needed += nbytes + later
        self._holes += later if self._sparse else 0
        self._refuse_beyond_limit()
        if self._needed <= self._held:
            return
        self._refuse_beyond_disk()
        if first or not self._take(self._needed + STEP):
            with full_disk_told(self.path):
                self._take(self._needed, strict=True)

    def finish(self) -> None:
        """Hold every byte of the file as long as it is now, and give back what lies beyond."""
        nbytes = os.fstat(self._file).st_size
        with full_disk_told(self.path):
            self._held = 0
            self._take(nbytes, strict=True)
            os.ftruncate(self._file, nbytes)

    def _refuse_beyond_limit(self) -> None:
        # Space beyond the end of a file can be reserved beyond this limit, but not written to.
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY and self._needed > limit:
            found = f"needs {self._needed:,} bytes, files may have {limit:,} here"
            raise OutOfSpace(_sentence(self.path, found))

    def _refuse_beyond_disk(self) -> None:
        """Compare with what the system says is left, which it does everywhere."""
        disk = os.fstatvfs(self._file)
        free = disk.f_bavail * disk.f_frsize + os.fstat(self._file).st_blocks * 512
        if self._needed - self._holes > free:
            found = f"needs {self._needed - self._holes:,} bytes, {free:,} are free on its disk"
            raise OutOfSpace(_sentence(self.path, found))

    def _take(self, nbytes: int, *, strict: bool = False) -> bool:
        """Reserve the file's first `nbytes` without changing its size; say whether it was done."""
        if _fallocate is None or not self._reserves or nbytes <= self._held:
            return True
        if _fallocate(self._file, _KEEP_SIZE, self._held, nbytes - self._held) == 0:
            self._held = nbytes
            return True
        code = ctypes.get_errno()
        if code in _NOT_OFFERED:
            self._reserves = False
            return True
        if strict:
            raise OSError(code, os.strerror(code), self.path)
        return False


def _is_in_memory(file: int) -> bool:
    found = ctypes.create_string_buffer(1024)
    if _c.fstatfs(file, found):
        return False
    return ctypes.c_long.from_buffer(found).value in _IN_MEMORY


def _sentence(path: str, found: str) -> str:
    return f"{path}: {found}; free some space or choose another target"
