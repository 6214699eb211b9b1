"""A finished file appears under its name: by one rename locally, by an upload in a store."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from h5dask.errors import Conflict, H5daskError, NotFound, OutOfSpace, Refused, exists_already
from h5dask.storage.latecomers import unwritten
from h5dask.storage.stores import Object, uploads
from h5dask.storage.stores.appearing import appear, keeps_conditions, once_a_process
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.told import plain
from h5dask.storage.stores.trying import persistently
from h5dask.storage.stores.uploads import Part, Upload

AT_ONCE = 64 << 20
"""Bytes of a file that an object takes in one request; a larger one goes in parts."""
_SENDERS = 8
"""Parts of a local file that are under way at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a file came to be under its name."""

    enforced: bool | None
    """Whether the filesystem or store itself kept a file that may have been there from being
    overwritten; False where it was looked for only, None where it was to be replaced."""


def publish(
    temporary: str,
    url: str,
    options: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = True,
    mark: str = "",
) -> Published:
    """Make a finished local file appear under its name, whole or not at all, and remove it.

    Locally: the file is synced, renamed over the target, and its folder synced. To a store: it
    is uploaded, with a token by which it is known again where the store's reply is lost.

    Parameters
    ----------
    temporary : str
        The file, beside the target where that is local.
    url : str
        Local path, or URL of the object.
    options : mapping, optional
        The filesystem's options.
    overwrite : bool, default True
        Whether what is there is replaced.
    mark : str, optional
        Of the one object that may be replaced, where the store keeps such a condition.

    Raises
    ------
    Conflict
        There is a target, and it isn't to be overwritten.
    OutOfSpace
        The disk is full.
    """
    if "://" in url:
        published = _published_in_store(temporary, url, options, overwrite=overwrite, mark=mark)
        os.unlink(temporary)
        return published
    enforced = None
    try:
        if os.path.exists(url):
            os.chmod(temporary, stat.S_IMODE(os.stat(url).st_mode))
        with unwritten(temporary):
            sync(temporary)
            if not overwrite:
                enforced = _linked(temporary, url)
            if not enforced:
                os.replace(temporary, url)
        sync(os.path.dirname(url), os.O_RDONLY)
    except H5daskError:
        raise
    except OSError as error:
        raise OutOfSpace(f"{url}: could not be written to disk ({error.strerror})") from None
    return Published(enforced=enforced)


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


def _published_in_store(
    temporary: str, url: str, options: Mapping[str, Any] | None, *, overwrite: bool, mark: str
) -> Published:
    large = os.stat(temporary).st_size > AT_ONCE
    if large and uploads.offered(url):
        return _put_in_parts(temporary, url, options, overwrite=overwrite, mark=mark)
    found, token = object_at(url, options), uuid.uuid4().hex

    def put(absent: bool) -> None:
        found.put(Path(temporary), absent=absent, mark=mark, token=token)

    def enforced() -> bool:
        # Several requests for one object are under no condition.
        ask = partial(keeps_conditions, url, options)
        return not large and once_a_process(url, options, "put", ask)

    return Published(enforced=appear(found, token, put, overwrite=overwrite, enforced=enforced))


def _put_in_parts(
    temporary: str, url: str, options: Mapping[str, Any] | None, *, overwrite: bool, mark: str
) -> Published:
    """Upload a local file in parts, a few at a time."""
    nbytes = os.stat(temporary).st_size
    size = uploads.part_nbytes(nbytes)
    uploads.abort_abandoned(url, options)
    upload = uploads.begin(url, options, uuid.uuid4().hex)

    with uploads.aborted_on_error(upload):
        parts = send_parts(upload, temporary, range(1, -(-nbytes // size) + 1))
        return commit(upload, parts, nbytes, overwrite=overwrite, mark=mark)


def send_parts(upload: Upload, path: str, numbers: Sequence[int]) -> list[Part]:
    """Send some parts of a local file, a few at a time."""
    size = uploads.part_nbytes(os.stat(path).st_size)

    def send(number: int) -> Part:
        with open(path, "rb") as file:
            file.seek((number - 1) * size)
            return uploads.put_part(upload, number, file.read(size))

    threads = ThreadPoolExecutor(_SENDERS)
    try:
        return list(threads.map(send, numbers))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def commit(
    upload: Upload, parts: Sequence[Part], nbytes: int, *, overwrite: bool, mark: str = ""
) -> Published:
    """Make the object of a filled upload appear under its name; see `publish`.

    Parameters
    ----------
    upload : Upload
        Whoever began it aborts it where this fails.
    parts : sequence of Part
        All of its parts, in any order.
    nbytes : int
        The object's size.
    overwrite : bool
        Whether what is there is replaced.
    mark : str, optional
        Of the one object that may be replaced, where the store keeps such a condition.

    Raises
    ------
    CorruptInput
        The parts aren't all of such an object.
    Conflict
        There is a target, and it isn't to be overwritten; or the upload is gone.
    """
    ordered = sorted(parts, key=lambda part: part.number)
    uploads.refuse_incomplete(upload, ordered, nbytes)
    url, options = upload.url, upload.options

    def complete(absent: bool) -> None:
        if mark:  # asked before, since not every store that keeps the one condition keeps this one
            _refuse_another(object_at(url, options), mark)
        uploads.commit(upload, ordered, absent=absent, mark=mark)

    ask = partial(uploads.keeps_conditions, url, options)
    try:
        enforced = appear(
            object_at(url, options),
            upload.token,
            complete,
            overwrite=overwrite,
            enforced=partial(once_a_process, url, options, "commit", ask),
        )
    except NotFound:
        raise uploads.gone(upload) from None
    uploads.forget(upload)
    return Published(enforced=enforced)


def _refuse_another(found: Object, mark: str) -> None:
    if found.head().mark != mark:
        raise Conflict(f"{found.url}: was replaced while another was made; nothing was overwritten")


def refuse_existing(url: str, options: Mapping[str, Any] | None, *, overwrite: bool) -> None:
    """Refuse, before any work, an object that can't be written then.

    Raises
    ------
    Conflict
        It is there, and isn't to be overwritten.
    NotFound
        There is no such bucket.
    Refused
        The store only gives objects.
    """
    if url.startswith(("http://", "https://")):
        raise Refused(
            f"{plain(url)}: an HTTP address can only be read; write to a store or locally"
        )
    found = object_at(url, options)
    try:
        persistently(found.url, found.head)
    except NotFound as error:
        if "no such bucket" in str(error):
            raise
        return
    if not overwrite:
        raise exists_already(found.url)
