"""The folder in which workers put what they have on disk, which goes with whoever started them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from h5dask.errors import AccessDenied

_NAME = "h5dask-workers-"
_LOCK = "lock"


@contextmanager
def scratch_folder(parent: str | None = None) -> Iterator[str]:
    """Make a folder and remove it at the end, and now those that killed processes have left.

    Parameters
    ----------
    parent : str, optional
        Where it is made; the system's temporary folder without it.

    Raises
    ------
    AccessDenied
        It can't be made.

    Examples
    --------
    >>> with scratch_folder() as folder:
    ...     os.listdir(folder)
    ['lock']
    >>> os.path.exists(folder)
    False
    """
    where = parent or tempfile.gettempdir()
    _remove_abandoned(where)
    try:
        made = tempfile.mkdtemp(prefix=f".{_NAME}", dir=where)
    except OSError as error:
        text = f"{where}: workers can't have a folder there ({error.strerror}); name another one"
        raise AccessDenied(text) from None
    folder = os.path.join(where, os.path.basename(made)[1:])
    # The system lets go of a lock when its process ends, however that comes about.
    with open(os.path.join(made, _LOCK), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(made, folder)  # seen by others only when it is locked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(where: str) -> None:
    with suppress(OSError), os.scandir(where) as entries:
        for entry in [one for one in entries if one.name.startswith(_NAME)]:
            with suppress(OSError), open(os.path.join(entry.path, _LOCK), "rb+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
