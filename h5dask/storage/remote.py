"""URLs: what they name, the state of what they name, ranges of its bytes, and publishing.

A `Source` is a picklable name with a fingerprint; opening it gives a reader of byte ranges that
refuses to go on when the file underneath is no longer the one that was described.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import os
import platform
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from h5dask.errors import (
    AccessDenied,
    H5daskError,
    InputChanged,
    NotFound,
    Refused,
    StoreUnavailable,
)
from h5dask.storage import whole
from h5dask.storage.fetching import Passes, several
from h5dask.storage.held import Held, held
from h5dask.storage.ranges import InMemory, LocalFile, Ranges
from h5dask.storage.stores import Head, Object, Options
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.told import plain
from h5dask.storage.stores.trying import persistently

_SIGNING = re.compile(r"(?i)(?:^|[&_-])(?:sig|signature|token|secret|credential|key|auth)[^&=]*=")
"""What a query holds that gives access."""
FILE_OBJECT = "file object"
"""How the name of an open file begins that was read whole, and can't be opened again."""
UrlPath = str | os.PathLike[str] | BinaryIO
"""What names one file: a local path, an fsspec URL, or an open binary file."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input file, as it was when it was opened first."""

    url: str
    """Absolute local path, or an fsspec URL."""
    fingerprint: str
    """Size, times and inode of a local file; size and etag of an object."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The filesystem's options."""
    content: bytes | None = field(default=None, repr=False, compare=False)
    """The bytes themselves, of a file object that was read whole."""
    signature: str = field(default="", repr=False, compare=False)
    """The query of a signed URL, which opens what it names to anyone: it is told nowhere."""

    @property
    def is_local(self) -> bool:
        """Whether it is a file that the operating system can open."""
        return self.content is None and "://" not in self.url

    @contextmanager
    def open(self, *, gathering: bool = False) -> Iterator[Ranges]:
        """Open the bytes for reading; the fingerprint is checked before and after.

        `gathering`, reads of a store's object only note what they lack: see `fetching.Passes`.
        Each request is for the object that was opened, or refused by the store; where it can't
        be asked under a condition, the object is looked at once more at the end.
        """
        if self.content is not None:
            yield InMemory(self.url, self.content)
        elif self.is_local:
            number = self._opened()
            try:
                _check(self, _state(os.fstat(number)))
                yield LocalFile(self.url, number)
                _check(self, _state(os.fstat(number)))
            finally:
                os.close(number)
        else:
            yield (file := self._passes(gathering=gathering))
            if file.starts and not file.held.pins:
                self.refuse_changed()

    def _opened(self) -> int:
        """Return the number of the open file, which may be looked for on another machine."""
        with translated(self.url):
            try:
                return os.open(self.url, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise NotFound(
                    f"{self.url}: no such file on {platform.node()}, and it was there when it was "
                    "opened; put it back, or keep it in a folder that all workers see"
                ) from None

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        if self.content is not None:
            return len(self.content)
        if self.is_local:
            with translated(self.url):
                return os.stat(self.url).st_size
        return int(self.fingerprint.partition("-")[0])

    def changed(self) -> bool:
        """Whether the file is no longer the one that was opened."""
        return self.content is None and self._now() != self.fingerprint

    def refuse_changed(self) -> None:
        """Raise where the file is no longer the one that was opened."""
        _check(self, self._now())

    def _now(self) -> str:
        options, signature = self._how()
        return fingerprint(self.url + signature, options)

    def _how(self) -> tuple[Options, str]:
        """Return how it is reached: as it was opened in this process, where that isn't told."""
        options, signature = _told.get(self.url, ({}, ""))
        return self.options or options, self.signature or signature

    def forget(self) -> None:
        """Let go of what this process keeps of it."""
        whole.forget(self.url, self.fingerprint.partition("-")[2])

    @contextmanager
    def local_path(self) -> Iterator[str | BinaryIO | Held]:
        """Give what HDF5's own library can open: a path, or the bytes that are here."""
        if self.is_local:
            yield self.url
        elif self.content is not None:
            yield io.BytesIO(self.content)
        else:
            with held(self._passes()) as file:
                yield file

    @contextmanager
    def at_hand(self) -> Iterator[str | BinaryIO | Held]:
        """Give the same, with all bytes here."""
        with self.local_path() as file:
            if isinstance(file, Held):
                whole.refuse_large(self.url, self.nbytes)
                file.bring([(0, self.nbytes)])
            yield file

    def read(self) -> bytes:
        """Return all bytes."""
        content = bytearray(self.nbytes)
        with self.open() as file:
            file.read_into(0, memoryview(content))
        return bytes(content)

    @property
    def _object(self) -> Object:
        options, signature = self._how()
        return object_at(self.url + signature, options)

    def _passes(self, *, gathering: bool = False) -> Passes:
        mark = self.fingerprint.partition("-")[2]
        return Passes(self.url, self._object, self.nbytes, mark, gathering)


_told: dict[str, tuple[Options, str]] = {}
"""How this process reached each object: files that are carried over are known by their URL."""


def _check(source: Source, now: str) -> None:
    if now != source.fingerprint:
        raise InputChanged(
            f"{source.url}: changed since it was opened (then {source.fingerprint!r}, "
            f"now {now!r}); open it again"
        )


def expand(urlpath: UrlPath | Iterable[UrlPath], options: Options | None = None) -> list[Source]:
    """Return the files that a path, URL, file object, list or glob names, fingerprinted.

    Raises
    ------
    NotFound
        A file isn't there, or a glob matches nothing.
    """
    if hasattr(urlpath, "read"):
        return [_read_whole(urlpath)]
    if not isinstance(urlpath, (str, os.PathLike)):
        found = [
            source for one in cast(Iterable[UrlPath], urlpath) for source in expand(one, options)
        ]
        if not found:
            raise NotFound("no files: an empty list was given; name at least one file")
        return found
    url = absolute(urlpath)
    if re.match(r"https?://[^/]*@", url):
        raise Refused(
            f"{plain(url)}: found a user or password in the URL, which messages and records would "
            "tell; pass them in storage_options"
        )
    if "*" not in url if "://" in url else not glob.has_magic(url) or os.path.exists(url):
        return [_source(url, options)]
    if "://" in url:
        names = persistently(url, object_at(url, options or {}).names)
    else:
        names = sorted(p for p in glob.glob(url, recursive=True) if os.path.isfile(p))
    if not names:
        raise NotFound(f"{url}: no file matches; check the pattern")
    if "://" not in url:
        return [_source(name, options) for name in names]
    return several(lambda name: _source(name, options), names)


def _source(url: str, options: Options | None) -> Source:
    """Return a file as it is now; an object is asked for once."""
    if "://" not in url:
        return Source(url, fingerprint(url, options))
    head = _head(url, options)
    nbytes = head.nbytes
    if nbytes is None:
        nbytes = whole.fetched(object_at(url, options or {}), head.mark, None).nbytes
    address, mark, query = url.partition("?")
    if not _SIGNING.search(query):
        address, mark, query = url, "", ""
    _told[address] = dict(options or {}), mark + query
    return Source(address, f"{nbytes}-{head.mark}", dict(options or {}), signature=mark + query)


def _head(url: str, options: Options | None) -> Head:
    return persistently(url, object_at(url, options or {}).head)


def absolute(urlpath: str | os.PathLike[str]) -> str:
    """Return an absolute local path, or the URL as it is."""
    url = os.fspath(urlpath)
    if "\0" in url:
        raise NotFound(f"{url!r}: a path holds no NUL character; check the path")
    scheme, mark, rest = url.partition("://")
    url = f"{scheme.lower()}{mark}{rest}" if mark and scheme.isalnum() else url
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    return url if "://" in url else str(Path(url).expanduser().absolute())


def local_folder(url: str) -> tuple[str, str]:
    """Return the folder in which a file is made, and its name: a store's in the temporary one."""
    if "://" in url:
        return tempfile.gettempdir(), url.rstrip("/").rpartition("/")[2] or "object"
    return os.path.split(url)


def resolved(urlpath: str | os.PathLike[str]) -> str:
    """Return the absolute path or URL to write to; a symbolic link leads to the file it names."""
    url = absolute(urlpath)
    return os.path.realpath(url) if "://" not in url and os.path.islink(url) else url


def _read_whole(file: Any) -> Source:
    file.seek(0)
    content = file.read()
    name = f"{FILE_OBJECT} {getattr(file, 'name', '')}".strip()
    return Source(name, hashlib.sha256(content).hexdigest()[:32], {}, content)


def filesystem_of(url: str, options: Options | None) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path in it."""
    try:
        return fsspec.core.url_to_fs(url, **(options or {}))  # type: ignore[no-any-return]
    except (ValueError, ImportError) as error:
        raise NotFound(f"{url}: {error}") from None


def fingerprint(url: str, options: Options | None = None) -> str:
    """Return what identifies the present state of a file or object."""
    if "://" not in url:
        with translated(url):
            state = os.stat(url)
        if stat.S_ISDIR(state.st_mode):
            raise NotFound(f"{url}: is a folder; name a file in it, or a pattern such as *.h5")
        if not stat.S_ISREG(state.st_mode):
            raise Refused(f"{url}: is a pipe or device; name a file")
        return _state(state)
    return _source(url, options).fingerprint


def _state(state: os.stat_result) -> str:
    return f"{state.st_size}-{state.st_mtime_ns}-{state.st_ctime_ns}-{state.st_ino}"


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the operating system's and the store's errors into ours."""
    try:
        yield
    except H5daskError:
        raise
    except FileNotFoundError:
        scheme = re.search(r"(?:^|/)(\w+):/(?!/)", url)
        way_out = f"write a URL as {scheme[1]}://" if scheme else "check the path"
        raise NotFound(f"{url}: no such file; {way_out}") from None
    except NotADirectoryError:
        raise NotFound(f"{url}: a folder on its path is a file; check the path") from None
    except IsADirectoryError:
        raise NotFound(f"{url}: is a folder; name a file in it") from None
    except PermissionError as error:
        raise AccessDenied(
            f"{url}: access denied ({error.strerror or error}); check its permissions"
        ) from None
    except OSError as error:
        if error.errno == errno.EROFS:
            raise AccessDenied(f"{url}: on a read-only filesystem; choose another place") from None
        if error.errno == errno.ENAMETOOLONG:
            raise Refused(f"{url}: the name is too long here; choose a shorter one") from None
        raise StoreUnavailable(f"{url}: {error}; try again") from None
