"""Folders such as .zarr in stores: all objects under one prefix, listed, uploaded, removed.

What they hold is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from h5dask.errors import CorruptInput, H5daskError, NotFound, exists_already
from h5dask.storage.remote import filesystem_of
from h5dask.storage.stores import Options
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.told import by_error, plain
from h5dask.storage.stores.trying import persistently

_MARKS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "mtime")
"""What listings call what changes with an object's bytes, the surest first."""
_AT_ONCE = 16
"""Objects that are uploaded or removed at once."""


def state_of(url: str, options: Options | None = None) -> str:
    """Return the fingerprint of a folder: of the names, sizes and marks of all below it.

    Raises
    ------
    NotFound
        There is nothing below it.
    """
    found = _listed(url, options)
    if not found:
        raise NotFound(f"{plain(url)}: no such folder; check the path")
    told = [(name, entry.get("size"), _mark(entry)) for name, entry in sorted(found.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def nbytes_of(url: str, options: Options | None = None) -> int:
    """Return the bytes of all below a folder."""
    return sum(entry.get("size") or 0 for entry in _listed(url, options).values())


def publish(folder: str, url: str, options: Options | None = None, *, overwrite: bool) -> None:
    """Upload all files below a local folder, which goes then.

    What lies at its top, without which nobody opens it, is removed first and comes last: who reads
    meanwhile finds no folder there rather than old and new values mixed. Where that fails, nothing
    is left.

    Raises
    ------
    Conflict
        There is something already, and `overwrite` is False.
    CorruptInput
        Something else than these files is there in the end.
    """
    sizes = {
        os.path.relpath(os.path.join(at, name), folder): os.stat(os.path.join(at, name)).st_size
        for at, _, names in os.walk(folder)
        for name in names
    }
    there = _listed(url, options)
    if there and not overwrite:
        raise exists_already(plain(url))
    try:
        _remove(url, filter(_is_top, there), options)
        _remove(url, (name for name in there if not _is_top(name) and name not in sizes), options)
        _upload(folder, url, (name for name in sizes if not _is_top(name)), options)
        _upload(folder, url, filter(_is_top, sizes), options)
        found = {name: entry.get("size") for name, entry in _listed(url, options).items()}
        if found != sizes:
            raise CorruptInput(
                f"{plain(url)}: found {len(found)} objects, expected {len(sizes)} of certain "
                "sizes; somebody else wrote there meanwhile: nothing was published, try again"
            )
    except BaseException:
        with suppress(H5daskError):
            remove(url, options)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def remove(url: str, options: Options | None = None) -> None:
    """Remove all below a folder, what lies at its top first; nothing happens where nothing is."""
    there = _listed(url, options)
    _remove(url, filter(_is_top, there), options)
    _remove(url, (name for name in there if not _is_top(name)), options)


def _listed(url: str, options: Options | None) -> dict[str, Mapping[str, Any]]:
    """Return what is known of each object below a folder, by its name there."""

    def listed() -> dict[str, Mapping[str, Any]]:
        filesystem, path = filesystem_of(url, options)
        try:
            filesystem.invalidate_cache()
            found = filesystem.find(path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # noqa: BLE001 - whatever a library raises, it is told in our words
            raise by_error(plain(url), error) from None
        prefix = path.rstrip("/") + "/"
        return {
            name.removeprefix(prefix): entry
            for name, entry in found.items()
            if name.startswith(prefix) and entry.get("type") != "directory"
        }

    return persistently(plain(url), listed)


def _mark(entry: Mapping[str, Any]) -> str:
    return next((str(entry[name]) for name in _MARKS if entry.get(name)), "")


def _is_top(name: str) -> bool:
    return "/" not in name


def _upload(folder: str, url: str, names: Iterable[str], options: Options | None) -> None:
    def put(name: str) -> None:
        there = object_at(f"{url}/{name}", options)
        persistently(there.url, lambda: there.put(Path(folder, name)))

    _at_once(put, names)


def _remove(url: str, names: Iterable[str], options: Options | None) -> None:
    def delete(name: str) -> None:
        there = object_at(f"{url}/{name}", options)
        persistently(there.url, there.delete)

    _at_once(delete, names)


def _at_once(do: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        try:
            for ended in [threads.submit(do, name) for name in names]:
                ended.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
