"""Which library reaches the object of a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import fsspec

from h5dask.errors import Refused
from h5dask.storage.stores import Object, Options
from h5dask.storage.stores.clients import held, key_of
from h5dask.storage.stores.told import missing_extra, plain
from h5dask.storage.stores.translating import Told, for_azure, for_gcs, for_s3
from h5dask.storage.stores.trying import AT_LENGTH, deadline, timeout

_S3, _GCS, _AZURE = ("s3", "s3a"), ("gs", "gcs"), ("az", "abfs", "abfss")
_SENDING = 4
"""Deadlines that a request with many bytes may take: 64 MiB in four minutes, usually."""


def object_at(url: str, options: Options | None = None) -> Object:
    """Return the object that a URL names, there or not; nothing is asked of the store yet.

    S3, Google Cloud Storage and Azure are reached by obstore, where it is installed and can be
    told every option; HTTP by aiohttp; all else by fsspec.

    Parameters
    ----------
    url : str
        Its address, with a scheme. It may be a pattern for `names`.
    options : mapping, optional
        What fsspec's filesystem for the scheme takes, beside what its configuration says:
        `FSSPEC_S3_ENDPOINT_URL` and the like in the environment, or a file.

    Raises
    ------
    NotFound
        The scheme isn't known, or the library for it isn't installed.

    Examples
    --------
    >>> found = object_at("memory://folder/a.h5")
    >>> mark = found.put(b"twelve bytes")
    >>> found.head().nbytes, bytes(found.get(0, 6, mark))
    (12, b'twelve')
    >>> found.delete()
    """
    scheme, _, rest = url.partition("://")
    if options is not None and not isinstance(options, Mapping):
        raise Refused(
            f"{plain(url)}: storage_options: found {type(options).__name__}, expected a mapping of "
            "names to values"
        )
    options = {**fsspec.config.conf.get(scheme, {}), **(options or {})}
    if scheme in ("http", "https"):
        if not find_spec("aiohttp"):
            raise missing_extra(url, ImportError())
        from h5dask.storage.stores.with_http import http_object

        return http_object(url, options)
    bucket, _, path = rest.partition("/")
    if scheme in (*_S3, *_GCS, *_AZURE) and not (bucket and path):
        raise Refused(
            f"{plain(url)}: names no object; write {scheme}://{bucket or 'BUCKET'}/KEY, or a "
            f"pattern such as {scheme}://{bucket or 'BUCKET'}/*.h5"
        )
    if scheme in (*_S3, *_GCS, *_AZURE) and find_spec("obstore") and _addressable(bucket, path):
        told = _translated(scheme, bucket, options)
        if told is not None:
            return _with_obstore(url, scheme, path, told)
    return _with_fsspec(scheme, url, options)


def _addressable(bucket: str, path: str) -> bool:
    """Whether obstore can name it: it knows no empty segments, and no access points."""
    segments = path.split("/")
    plain_path = not {"", ".", ".."} & set(segments) and not re.search(r"[\x00-\x1f\x7f]", path)
    return plain_path and bool(bucket) and ":" not in bucket


def _translated(scheme: str, bucket: str, options: dict[str, Any]) -> Told | None:
    if scheme in _S3:
        return for_s3(bucket, options)
    if scheme in _GCS:
        return for_gcs(bucket, options)
    container, _, host = bucket.partition("@")
    if host:
        options = {"account_name": host.partition(".")[0], **options}
    return for_azure(container, options)


def _with_fsspec(scheme: str, url: str, options: Options) -> Object:
    if scheme in _S3 and find_spec("s3fs"):
        from h5dask.storage.stores.with_s3fs import s3fs_object

        return s3fs_object(url, options)
    from h5dask.storage.stores.with_fsspec import fsspec_object

    return fsspec_object(url, options)


def _with_obstore(url: str, scheme: str, path: str, told: Told) -> Object:
    from obstore.store import AzureStore, GCSStore, S3Store

    from h5dask.storage.stores.with_obstore import Client, WithObstore

    kind: Any = S3Store if scheme in _S3 else GCSStore if scheme in _GCS else AzureStore
    silence, allowed = timedelta(seconds=timeout()), timedelta(seconds=deadline())

    def store(longest: timedelta, **waits: timedelta) -> Any:
        return kind(
            config=told.config,
            client_options={
                **told.client,
                **waits,
                "connect_timeout": silence,
                "timeout": longest,
            },
            retry_config={"max_retries": 0, "retry_timeout": allowed},
        )

    def made() -> Client:
        return Client(
            usual=store(allowed, read_timeout=silence),
            patient=store(timedelta(seconds=AT_LENGTH), read_timeout=silence),
            # obstore counts the time that sending takes as silence.
            sending=store(_SENDING * allowed),
        )

    key = key_of("obstore", kind.__name__, told.config, told.client, silence, allowed)
    return WithObstore(
        url=plain(url),
        path=path,
        client=held(key, made),
        versioned=scheme in _GCS,
    )
