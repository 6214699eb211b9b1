"""Objects on any other filesystem that fsspec knows: memory, SFTP, and stores by their own names.

Listing caches are never believed. Of an asynchronous filesystem the coroutines are called, which
fsspec names by a leading underscore, so that each can be given up.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from h5dask.errors import H5daskError, Refused
from h5dask.storage.stores import TOKEN, Head, Options
from h5dask.storage.stores.clients import forget, held, key_of
from h5dask.storage.stores.told import by_error, changed, compared, conflict, missing_extra, plain
from h5dask.storage.stores.trying import AT_LENGTH, Again, Whole, deadline, timeout

_MARKS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "last_modified", "mtime")
"""What filesystems call what changes with the bytes, the surest first; "created" comes last."""
_SFTP, _GCS, _AZURE = {"sftp", "ssh"}, {"gs", "gcs"}, {"az", "abfs", "abfss", "adl"}
_UNKNOWN_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")


def fsspec_object(url: str, options: Options) -> WithFsspec:
    """Return the object of a URL through fsspec's filesystem for it.

    Parameters
    ----------
    url : str
        Its address.
    options : mapping
        What the filesystem takes. SFTP's waits are bounded, unless they say how.

    Raises
    ------
    NotFound
        The scheme isn't known, or the library for it isn't installed.
    """
    scheme = url.partition("://")[0].partition("::")[0]
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except (ValueError, ImportError) as error:
        raise missing_extra(url, error) from None
    if scheme in _SFTP:
        waits = ("timeout", "banner_timeout", "auth_timeout", "channel_timeout")
        options = {**dict.fromkeys(waits, timeout()), **options}
    shared = issubclass(kind, AsyncFileSystem)
    return WithFsspec(
        url=plain(url),
        address=url,
        scheme=scheme,
        options=dict(options),
        shared=shared,
        # Each connection of the others is a thread's own; servers of SFTP allow about ten.
        parallel=64 if shared else 4,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WithFsspec:
    """One object that an fsspec filesystem reaches."""

    url: str
    address: str = field(repr=False)
    """The URL as it was given."""
    scheme: str
    options: Options = field(repr=False)
    shared: bool
    """Whether threads may share one filesystem: asynchronous ones they may."""
    parallel: int

    @property
    def pins(self) -> bool:
        """Whether `get` itself refuses an object that isn't what its mark says."""
        return self.scheme in _SFTP

    def head(self) -> Head:
        """Ask for its state: one request."""
        with self.reached() as (filesystem, path):
            return self._head(filesystem, path)

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        """Return the bytes [start, stop), fewer only where the object ends: one request."""
        with self.reached() as (filesystem, path):
            content = memoryview(self._span(filesystem, path, start, stop, mark))
        return self._complete(content, stop - start, start, mark)

    def whole(self, mark: str) -> memoryview:
        """Return all its bytes: one request."""
        with self.reached() as (filesystem, path):
            content = memoryview(self._span(filesystem, path, 0, None, mark))
        return self._complete(content, None, 0, mark)

    def names(self) -> list[str]:
        """Return the URLs of the objects that its URL, a pattern, matches, in order."""
        with self.reached() as (filesystem, path):
            filesystem.invalidate_cache()
            found = self.ask(filesystem, "glob", path)
        if self.scheme in ("http", "https"):
            return sorted(found)
        before = self.address.removesuffix(path.lstrip("/"))
        return sorted(before + name.lstrip("/") for name in found)

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        """Store bytes or a local file under its name, and return the new mark.

        Google's and Azure's stores, and memory, keep `absent`; elsewhere, and for `mark`,
        whether it holds is looked up before. Google's keeps the token.
        """
        with self.reached(writing=True) as (filesystem, path):
            if mark or (absent and not self.shared):
                self._look(filesystem, path, mark)
            if self.shared or self.scheme == "memory":
                self._store(filesystem, path, content, absent=absent, token=token)
            else:
                self._store_beside(filesystem, path, content)
            return self._head(filesystem, path).mark

    def delete(self) -> None:
        """Remove it; nothing happens where there is none."""
        with suppress(FileNotFoundError), self.reached(writing=True) as (filesystem, path):
            self.ask(filesystem, "rm_file", path)

    def _head(self, filesystem: Any, path: str) -> Head:
        filesystem.invalidate_cache()
        found = self.ask(filesystem, "info", path)
        if found.get("type") == "directory":
            raise IsADirectoryError
        token = (found.get("metadata") or {}).get(TOKEN, "")
        return Head(nbytes=found.get("size"), mark=_mark(found), token=token)

    def _span(self, filesystem: Any, path: str, start: int, stop: int | None, mark: str) -> bytes:
        if self.scheme not in _SFTP:
            return bytes(self.ask(filesystem, "cat_file", path, start=start, end=stop))
        # paramiko waits for each 32 KiB of a plain read; readv asks for all of them at once.
        with filesystem.ftp.open(path, "rb") as file:
            state = file.stat()
            now = f"{state.st_size}-{datetime.fromtimestamp(state.st_mtime, tz=UTC)}"
            if mark and now != mark:
                raise changed(self.url, f"then {mark}, now {now}")
            stop = state.st_size if stop is None else min(stop, state.st_size)
            return b"".join(file.readv([(start, max(0, stop - start))]))

    def _complete(
        self, content: memoryview, wanted: int | None, start: int, mark: str
    ) -> memoryview:
        """Return an answer that has all bytes; its mark tells how many the object has."""
        if not mark:
            return content
        nbytes = int(mark.partition("-")[0])
        wanted = max(0, min(nbytes, nbytes if wanted is None else start + wanted) - start)
        if content.nbytes != wanted:
            # Either it was cut on the way, or it is another object now.
            compared(self.url, mark, self.head().mark)
            raise Again(f"{content.nbytes} bytes at {start}, not {wanted}")
        return content

    def _look(self, filesystem: Any, path: str, mark: str) -> None:
        """Raise Conflict where there is another one than that with a mark; "" means none."""
        try:
            there = self._head(filesystem, path).mark
        except FileNotFoundError:
            there = ""
        if there != mark:
            raise conflict(self.url)

    def _store(
        self, filesystem: Any, path: str, content: bytes | Path, *, absent: bool, token: str
    ) -> None:
        told: dict[str, Any] = {"metadata": {TOKEN: token}} if self.scheme in _GCS and token else {}
        if absent:
            told |= {"overwrite": False} if self.scheme in _AZURE else {"mode": "create"}
        if isinstance(content, Path):
            self.ask(filesystem, "put_file", str(content), path, **told)
        else:
            self.ask(filesystem, "pipe_file", path, content, **told)

    def _store_beside(self, filesystem: Any, path: str, content: bytes | Path) -> None:
        """Write under another name, then rename: half a file is never seen under its own."""
        beside = f"{path}.part-{uuid.uuid4().hex}"
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._store(filesystem, beside, content, absent=False, token="")
            filesystem.mv(beside, path)
        except BaseException:
            with suppress(OSError):
                filesystem.rm_file(beside)
            raise

    def ask(self, filesystem: Any, name: str, *args: Any, **told: Any) -> Any:
        """Call a method of the filesystem; a silent one is given up at the deadline."""
        if not self.shared:
            return getattr(filesystem, name)(*args, **told)
        coroutine = getattr(filesystem, f"_{name}")
        at_length = name == "put_file" or (name == "cat_file" and told["end"] is None)
        longest = AT_LENGTH if at_length else deadline()
        return sync(filesystem.loop, coroutine, *args, timeout=longest, **told)

    @contextmanager
    def reached(
        self, *, writing: bool = False, conditional: bool = False
    ) -> Iterator[tuple[Any, str]]:
        """Give the filesystem and the path in it; its errors become ours."""
        place = self.address.partition("://")[2].partition("/")[0]
        thread = None if self.shared else threading.get_ident()
        key = key_of("fsspec", self.scheme, place, self.options, thread)
        try:
            yield (
                held(key, lambda: _filesystem(self.address, self.options)),
                fsspec.core.strip_protocol(self.address),
            )
        except (H5daskError, Again, Whole):
            raise
        except Exception as error:  # noqa: BLE001 - a dozen libraries, each with its own
            plainer = _by_option(self.url, error)
            ours = by_error(self.url, plainer, writing=writing, conditional=conditional)
            if isinstance(ours, Again) and not self.shared:
                forget(key)
            raise ours from None


def _by_option(url: str, error: Exception) -> Exception:
    """Return what is wrong with an option that a library was given, if that is it."""
    name = _UNKNOWN_OPTION.search(str(error)) if isinstance(error, TypeError) else None
    if not name:
        return error
    return Refused(
        f"{url}: storage_options: {name[1]!r} isn't an option of its filesystem; see fsspec's "
        "documentation of the store"
    )


def _filesystem(address: str, options: Options) -> Any:
    # Not from fsspec's own cache: a broken connection would stay in it.
    options = {**options, "skip_instance_cache": True}
    scheme = address.partition("://")[0]
    if scheme in _GCS and options.get("endpoint_url"):
        # gcsfs' extended one asks Google itself about the bucket first, and waits for a minute.
        return import_module("gcsfs.core").GCSFileSystem(**options)
    found, _ = fsspec.core.url_to_fs(address, **options)
    if scheme in _SFTP:
        found.ftp.get_channel().settimeout(timeout())
    return found


def _mark(found: Mapping[str, Any]) -> str:
    told = [str(found[name]) for name in (*_MARKS, "created") if found.get(name)]
    return f"{found.get('size')}-{told[0]}" if told else ""
