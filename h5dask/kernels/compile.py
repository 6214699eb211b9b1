"""How every kernel is compiled, and the one array type the byte kernels take; no kernel itself.

A kernel calls kernels of its own file only: the cached machine code is renewed when that file
changes, not when another one does.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import event
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
# Numba fills this module from the environment, out of sight of type checkers.
_config: Any = numba.config
Compiled = TypeVar("Compiled", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


def kernel(function: Compiled) -> Compiled:
    """Compile a function at its first call, without the GIL, and keep the machine code on disk.

    The code is kept in ``NUMBA_CACHE_DIR`` where that is set, else beside the source, else (a
    package that can't be written to) in a folder of the user's own in the temporary folder.
    """
    return _compiled(function, frozenset())


def any_order(function: Compiled) -> Compiled:
    """Compile a kernel whose sums may be added in any order, several terms at once.

    For sums that serve an estimate with a stated error; never for those that are a result.
    """
    return _compiled(function, frozenset({"reassoc", "contract"}))


def _compiled(function: Compiled, fastmath: frozenset[str]) -> Compiled:
    configured = _config.CACHE_DIR
    _config.CACHE_DIR = configured or _FALLBACK_FOLDER
    try:
        made = numba.njit(nogil=True, cache=True, fastmath=set(fastmath))(function)
        return cast(Compiled, made)
    finally:
        _config.CACHE_DIR = configured


def inlined(function: Compiled) -> Compiled:
    """Make a function a part of each kernel that calls it; it has no machine code of its own.

    LLVM left to itself calls such parts in the innermost loop, at twice the time.
    """
    return cast(Compiled, numba.njit(forceinline=True)(function))


def as_bytes(buffer: bytes | bytearray | memoryview | NDArray[Any]) -> Bytes:
    """View a contiguous buffer as the array type of every byte kernel; nothing is copied.

    Numba compiles a kernel once more for a read-only array, so a read-only buffer is lent under
    the type of a writeable one. Kernels write to their targets only, never to a source.

    Parameters
    ----------
    buffer : bytes-like
        Any C-contiguous buffer.

    Returns
    -------
    (nbytes,) uint8
        A view that keeps the buffer alive.

    Examples
    --------
    >>> as_bytes(b"abc")
    array([97, 98, 99], dtype=uint8)
    """
    view = np.frombuffer(buffer, np.uint8)
    return view if view.flags.writeable else np.asarray(_Lent(view))


class _Lent:
    """A read-only array, offered through numpy's array interface without its read-only mark."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: Bytes) -> None:
        address, _ = owner.__array_interface__["data"]
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "shape": owner.shape,
            "typestr": "|u1",
            "data": (address, False),
        }


def fallback_folder(package: Path, temporary: Path) -> str:
    """Return the folder for machine code that can't lie beside its source; "" where it can.

    Machine code is loaded by unpickling, so the folder in `temporary` must be the user's own:
    where its name is taken by somebody else, a new one with a name of its own serves this
    process.
    """
    if _is_writable(package / "__pycache__"):
        return ""
    folder = temporary / f"h5dask-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix="h5dask-kernels-", dir=temporary)
    private = stat.S_ISDIR(state.st_mode) and not state.st_mode & 0o077
    if private and state.st_uid == os.getuid():
        return str(folder)
    return tempfile.mkdtemp(prefix="h5dask-kernels-", dir=temporary)


def _is_writable(folder: Path) -> bool:
    """Return whether a file can be made in the folder, which is made where it is missing."""
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


_FALLBACK_FOLDER = fallback_folder(Path(__file__).parent, Path(tempfile.gettempdir()))


class _Announcing(event.Listener):
    """Says once that a kernel is compiled, which numba tells only where its cache has none."""

    said = False

    def on_start(self, event: Any) -> None:
        """Say so, the first time that a kernel of ours is compiled."""
        compiled = event.data["dispatcher"].py_func.__module__
        if not self.said and compiled.startswith(__package__):
            self.said = True
            _log.info("Compiling kernels (once) ...")

    def on_end(self, event: Any) -> None:
        """Take no notice."""


event.register("numba:compile", _Announcing())  # type: ignore[no-untyped-call]
