"""Folders of what is remembered between runs, of which none can be changed by anybody else."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_log = logging.getLogger(__name__)
_PRIVATE = 0o700


def folder() -> Path:
    """Return the folder for what is remembered, which stays the same as long as the process runs.

    It is H5DASK_CACHE where that is set, else `h5dask/indexes` in XDG's cache folder. Where that
    can't be written to, it is one in the temporary folder; where others can write there, too, or
    it is somebody else's, one of the user's own inside. It is made where it isn't there.

    Returns
    -------
    Path
        Absolute. If no folder can be written to, one that isn't there: do without.
    """
    return folders()[0]


def folders() -> tuple[Path, ...]:
    """Return that folder, and others where more may be remembered that can only be read."""
    named, home = os.environ.get("H5DASK_CACHE", ""), os.environ.get("XDG_CACHE_HOME", "")
    return _chosen(named, home or os.path.expanduser("~/.cache"))


@lru_cache
def _chosen(named: str, home: str) -> tuple[Path, ...]:
    wanted = os.path.expanduser(named)
    if not named and os.path.isabs(home):  # it isn't for a user without one
        wanted = os.path.join(home, "h5dask", "indexes")
    own = _of_user(wanted, "") if wanted else None
    if own is not None and os.access(own, os.W_OK | os.X_OK):
        return (own,)
    others = () if own is None else (own,)
    with suppress(OSError):
        spare = _of_user(tempfile.gettempdir())
        if spare is not None and os.access(spare, os.W_OK | os.X_OK):
            if named:
                _log.info(
                    "H5DASK_CACHE, %r, can't be written to: what is remembered lies in %r",
                    named, str(spare),
                )  # fmt: skip
            return (spare, *others)
    return (Path(os.devnull, "h5dask"), *others)


def _of_user(place: str, *names: str) -> Path | None:
    """Return a folder in a place that only this user can change; "" is the place itself."""
    for name in (*names, f"h5dask-{os.geteuid()}"):
        with suppress(OSError):
            path = Path(place, name).absolute()
            with suppress(OSError):  # in what is read-only, it may be there
                path.mkdir(_PRIVATE, parents=True, exist_ok=True)
            # A link that the user names is as good as a folder; one in others' folder is a trap.
            state = os.lstat(path) if name else os.stat(path)
            is_open = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not is_open:
                return path
    return None
