"""What a person names as inputs: the files of a folder, those of a pattern, what a small one holds.

How they are read in blocks, and what of, is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from h5dask.errors import NotFound
from h5dask.storage.remote import expand, translated


def files_in(landing: str) -> str:
    """Return the pattern of a folder's HDF5 files; a file or pattern as it is.

    Of URLs, a folder is what has no ending.

    Examples
    --------
    >>> files_in("s3://bucket/landing"), files_in("s3://bucket/landing/a.h5")
    ('s3://bucket/landing/*.h5', 's3://bucket/landing/a.h5')
    """
    name = landing.rstrip("/").rpartition("/")[2]
    is_folder = not ({".", "*"} & set(name)) if "://" in landing else os.path.isdir(landing)
    return f"{landing.rstrip('/')}/*.h5" if is_folder else landing


def names_of(pattern: str, *, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Return the paths or URLs of the files that a pattern matches, in order; there may be none.

    Examples
    --------
    >>> names_of("/nowhere/*.h5")
    []
    """
    try:
        return [source.url for source in expand(pattern, storage_options)]
    except NotFound:
        return []


def content_of(urlpath: str, *, storage_options: Mapping[str, Any] | None = None) -> bytes:
    """Return all bytes of a small file or object.

    Raises
    ------
    NotFound
        It isn't there.
    """
    if "://" not in urlpath:
        with translated(urlpath):
            return Path(urlpath).read_bytes()
    (source,) = expand(urlpath, storage_options)
    return source.read()
