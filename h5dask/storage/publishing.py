"""A finished file appears under its name: by one rename locally, by an upload in a store."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from h5dask.errors import Conflict, H5daskError, OutOfSpace
from h5dask.storage.remote import filesystem_of, translated


def publish(
    temporary: str, url: str, options: Mapping[str, Any] | None = None, *, overwrite: bool = True
) -> None:
    """Make a finished local file appear under its name, whole or not at all.

    Locally: the file is synced, renamed over the target, and its folder synced. To a store: it
    is uploaded. A local target that appeared meanwhile and isn't to be overwritten is a `Conflict`.
    """
    if "://" in url:
        filesystem, path = filesystem_of(url, options)
        with translated(url):
            filesystem.put_file(temporary, path)
        os.unlink(temporary)
        return
    try:
        if os.path.exists(url):
            os.chmod(temporary, stat.S_IMODE(os.stat(url).st_mode))
        sync(temporary)
        if overwrite or not _linked(temporary, url):
            os.replace(temporary, url)
        sync(os.path.dirname(url), os.O_RDONLY)
    except H5daskError:
        raise
    except OSError as error:
        raise OutOfSpace(f"{url}: could not be written to disk ({error.strerror})") from None


def _linked(temporary: str, url: str) -> bool:
    """Give a file its name unless that is taken, in one step; False where there are no links."""
    try:
        os.link(temporary, url)
    except FileExistsError:
        raise Conflict(f"{url}: appeared while it was written; nothing was overwritten") from None
    except OSError:
        return False
    os.unlink(temporary)
    return True


def sync(path: str, flags: int = os.O_RDWR) -> None:
    """Bring a file to disk, or with `os.O_RDONLY` a folder; an error of the disk is told once."""
    number = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
