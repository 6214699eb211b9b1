"""How every kernel is compiled, and the one array type the byte kernels take; no kernel itself.

A kernel calls kernels of its own file only: the cached machine code is renewed when that file
changes, not when another one does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import event
from numpy.typing import NDArray

from h5dask.kernels.machinecode import folder_of, is_configured, keep, places

Bytes = NDArray[np.uint8]
Compiled = TypeVar("Compiled", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


def kernel(function: Compiled) -> Compiled:
    """Compile a function at its first call, without the GIL, and keep the machine code on disk.

    Where it is kept is told in `machinecode`: in ``NUMBA_CACHE_DIR`` if that is set.
    """
    return _compiled(function, frozenset())


def any_order(function: Compiled) -> Compiled:
    """Compile a kernel whose sums may be added in any order, several terms at once.

    For sums that serve an estimate with a stated error; never for those that are a result.
    """
    return _compiled(function, frozenset({"reassoc", "contract"}))


def _compiled(function: Compiled, fastmath: frozenset[str]) -> Compiled:
    made = numba.njit(nogil=True, fastmath=set(fastmath))(function)
    keep(made, function)
    return cast(Compiled, made)


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


class _Announcing(event.Listener):
    """Says once that a kernel is compiled, which numba tells only where its cache has none."""

    said = False

    def on_start(self, event: Any) -> None:
        """Say so, the first time that a kernel of ours is compiled."""
        compiled = event.data["dispatcher"].py_func
        if not self.said and compiled.__module__.startswith(__package__):
            self.said = True
            _log.info("Compiling kernels (%s) ...", _how_often(compiled.__code__.co_filename))

    def on_end(self, event: Any) -> None:
        """Take no notice."""


def _how_often(source: str) -> str:
    """Say how often the kernels of a file are compiled, and why where that isn't once."""
    folder, best = folder_of(source), next(places())
    if folder is None:
        return "in each process: set NUMBA_CACHE_DIR to a folder of your own where they can be kept"
    if is_configured() and not folder.startswith(best):
        return f"once: NUMBA_CACHE_DIR, {best!r}, is no folder that is yours alone to write to"
    return "once"


event.register("numba:compile", _Announcing())  # type: ignore[no-untyped-call]
