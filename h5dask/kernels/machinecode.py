"""Where the machine code of kernels is kept between runs; no kernel, and not how one is compiled.

Each source file has a folder of the user's own for each kind of processor. Whatever is wrong with
it costs time alone: then kernels are compiled anew in each process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

# Numba fills this module from the environment, out of sight of type checkers.
_config: Any = numba.config
_LOCK = "lock"
_OURS = 0o755
"""Mode of folders: what others could change would run as the user."""
_SUPERUSER = 0


class Kept(FunctionCache):
    """The machine code of one kernel, as numba keeps it, which fails nobody.

    Left to itself, numba lets a full disk or a damaged file end what calls the kernel. And two
    processes that save two kinds of arguments at once may give both the same number, by which
    one then runs as the other.
    """

    patience: ClassVar[float] = 5.0
    """Seconds for which others may keep this process from saving; after them it saves nothing."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._folder = os.path.dirname(self.cache_path)
        os.chmod(self.cache_path, _OURS)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is kept for arguments of these types, None where that can't be used."""
        if not (_is_own(self._folder) and _is_own(self.cache_path)):
            return None
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except OSError:
            return None
        except Exception:  # noqa: BLE001 - it is damaged, whatever that leads to
            with suppress(OSError), locked(self._folder, 0) as is_ours:
                if is_ours:
                    shutil.rmtree(self.cache_path, ignore_errors=True)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if that can be done."""
        with suppress(OSError):
            os.makedirs(self.cache_path, _OURS, exist_ok=True)
            with locked(self._folder, Kept.patience) as is_ours:
                if not is_ours:
                    Kept.patience = 0.0
                elif _is_own(self._folder):
                    super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def keep(kernel: Any, function: Callable[..., Any]) -> None:
    """Let a compiled function look for its machine code where that is kept, and put it there."""
    configured = _config.CACHE_DIR
    try:
        if folder := folder_of(function.__code__.co_filename):
            _config.CACHE_DIR = folder
            kernel._cache = Kept(function)  # noqa: SLF001 - where numba's `cache=True` puts it
    except (OSError, RuntimeError):
        return
    finally:
        _config.CACHE_DIR = configured


@lru_cache
def folder_of(source: str) -> str | None:
    """Return the folder for the machine code of a source file; None where there is none.

    Another processor or numba has another one, and so has the file once it is changed: numba saves
    what there is before the code, and who is killed between the two leaves other code in its place.

    Parameters
    ----------
    source : str
        Path of the file.

    Returns
    -------
    str or None
        A folder that only this user can change, and in which locks work. What the superuser or
        this user has put into one that can't be written to, as in an image, is copied.
    """
    processor = cpu_target.target_context.codegen().magic_tuple()
    mark = hashlib.sha256(f"{processor} {numba.__version__}\n".encode())
    mark.update(Path(source).read_bytes())
    name = f"{Path(source).stem}-{mark.hexdigest()[:16]}"
    full: list[str] = []
    for place in places():
        folder = os.path.join(place, name)
        is_new = not os.path.isdir(folder)
        if _is_usable(folder):
            for one in full if is_new else ():
                _copy(one, folder)
            return folder
        if _is_own(folder, _SUPERUSER):
            full.append(folder)
    return None


def is_configured() -> bool:
    """Return whether the user has named the best place, as ``NUMBA_CACHE_DIR``."""
    return bool(_config.CACHE_DIR)


def places() -> Iterator[str]:
    """Yield where machine code may lie, the best place first.

    They are ``NUMBA_CACHE_DIR`` where that is set, or a folder in it that is the user's own where
    others can write there, too; beside the source; the user's cache folder; and a folder of the
    user's own in the temporary folder.
    """
    if is_configured():
        named = os.path.abspath(os.path.expanduser(_config.CACHE_DIR))
        is_shared = os.path.isdir(named) and not _is_own(named)
        yield os.path.join(named, f"h5dask-{os.geteuid()}") if is_shared else named
    yield os.path.join(os.path.dirname(__file__), "__pycache__")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(base):  # it isn't for a user without a home
        yield os.path.join(base, "h5dask", "kernels")
    with suppress(OSError):
        yield os.path.join(tempfile.gettempdir(), f"h5dask-kernels-{os.geteuid()}")


def _is_usable(folder: str) -> bool:
    """Return whether files can be made and locked in a folder of one's own, made if need be."""
    try:
        for one in (os.path.dirname(folder), folder):
            os.makedirs(one, _OURS, exist_ok=True)
        with locked(folder, 0):
            tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return _is_own(folder)


def _is_own(folder: str, *others: int) -> bool:
    """Return whether a folder is this user's, or one of some others', and nobody else changes it.

    Nor may the folder above be anybody else's, who could put another one in its place.
    """
    trusted = {os.geteuid(), *others}
    try:
        state, above = os.lstat(folder), os.stat(os.path.dirname(folder))
    except OSError:
        return False
    return (
        stat.S_ISDIR(state.st_mode)
        and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and state.st_uid in trusted
        and above.st_uid in {*trusted, _SUPERUSER}
    )


def _copy(folder: str, target: str) -> None:
    """Copy what is kept in a folder; half of it is as good as nothing."""
    with suppress(OSError, shutil.Error):
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=lambda *_: [_LOCK])


@contextmanager
def locked(folder: str, seconds: float) -> Iterator[bool]:
    """Keep other processes out of a folder, and give whether that was to be had in time.

    Parameters
    ----------
    folder : str
        Where the lock lies; whoever dies lets go of it.
    seconds : float
        What others may take until they let go of it.

    Raises
    ------
    OSError
        There can't be a lock: the folder isn't there or read-only, its filesystem knows none.
    """
    with open(os.path.join(folder, _LOCK), "ab") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                yield False
            else:
                yield True
            return
