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
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from h5dask.storage.ranges import InMemory, LocalFile, Ranges, spread

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

    @property
    def is_local(self) -> bool:
        """Whether it is a file that the operating system can open."""
        return self.content is None and "://" not in self.url

    @contextmanager
    def open(self) -> Iterator[Ranges]:
        """Open the bytes for reading; the fingerprint is checked before and after."""
        if self.content is not None:
            yield InMemory(self.url, self.content)
        elif self.is_local:
            with translated(self.url):
                number = os.open(self.url, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check(self, _state(os.fstat(number)))
                yield LocalFile(self.url, number)
                _check(self, _state(os.fstat(number)))
            finally:
                os.close(number)
        else:
            filesystem, path = filesystem_of(self.url, self.options)
            with translated(self.url):
                _check(self, _object_state(filesystem.info(path)))
            yield _Object(self.url, filesystem, path)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        if self.content is not None:
            return len(self.content)
        if self.is_local:
            with translated(self.url):
                return os.stat(self.url).st_size
        filesystem, path = filesystem_of(self.url, self.options)
        with translated(self.url):
            return int(filesystem.info(path)["size"])

    def changed(self) -> bool:
        """Whether the file is no longer the one that was opened."""
        return self.content is None and fingerprint(self.url, self.options) != self.fingerprint

    @contextmanager
    def local_path(self) -> Iterator[str | BinaryIO]:
        """Give what HDF5's own library can open: the local path, or the bytes held in memory."""
        if self.is_local:
            yield self.url
        else:
            yield io.BytesIO(self.whole())

    def whole(self) -> bytes:
        """Return all bytes of an object."""
        if self.content is not None:
            return self.content
        filesystem, path = filesystem_of(self.url, self.options)
        with translated(self.url):
            return bytes(filesystem.cat_file(path))


def _check(source: Source, now: str) -> None:
    if now != source.fingerprint:
        raise InputChanged(
            f"{source.url}: changed since it was opened (then {source.fingerprint!r}, "
            f"now {now!r}); open it again"
        )


@dataclass(frozen=True, slots=True)
class _Object:
    url: str
    filesystem: Any
    path: str

    def read_into(self, offset: int, into: memoryview) -> None:
        self.read_parts(offset, [into])

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> None:
        wanted = sum(part.nbytes for part in parts)
        with translated(self.url):
            found = self.filesystem.cat_file(self.path, start=offset, end=offset + wanted)
        spread(found, self.url, offset, parts)


def expand(
    urlpath: UrlPath | Iterable[UrlPath], options: Mapping[str, Any] | None = None
) -> list[Source]:
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
    if "*" not in url if "://" in url else not glob.has_magic(url) or os.path.exists(url):
        return [Source(url, fingerprint(url, options), dict(options or {}))]
    if "://" in url:
        filesystem, path = filesystem_of(url, options)
        scheme = url.split("://", 1)[0]
        with translated(url):
            names = [f"{scheme}://{p.lstrip('/')}" for p in sorted(filesystem.glob(path))]
    else:
        names = sorted(p for p in glob.glob(url, recursive=True) if os.path.isfile(p))
    if not names:
        raise NotFound(f"{url}: no file matches; check the pattern")
    return [Source(name, fingerprint(name, options), dict(options or {})) for name in names]


def absolute(urlpath: str | os.PathLike[str]) -> str:
    """Return an absolute local path, or the URL as it is."""
    url = os.fspath(urlpath)
    if "\0" in url:
        raise NotFound(f"{url!r}: a path holds no NUL character; check the path")
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


def filesystem_of(url: str, options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path in it."""
    try:
        return fsspec.core.url_to_fs(url, **(options or {}))  # type: ignore[no-any-return]
    except (ValueError, ImportError) as error:
        raise NotFound(f"{url}: {error}") from None


def fingerprint(url: str, options: Mapping[str, Any] | None = None) -> str:
    """Return what identifies the present state of a file or object."""
    if "://" not in url:
        with translated(url):
            state = os.stat(url)
        if stat.S_ISDIR(state.st_mode):
            raise NotFound(f"{url}: is a folder; name a file in it, or a pattern such as *.h5")
        if not stat.S_ISREG(state.st_mode):
            raise Refused(f"{url}: is a pipe or device; name a file")
        return _state(state)
    filesystem, path = filesystem_of(url, options)
    with translated(url):
        return _object_state(filesystem.info(path))


def _state(state: os.stat_result) -> str:
    return f"{state.st_size}-{state.st_mtime_ns}-{state.st_ctime_ns}-{state.st_ino}"


def _object_state(entry: Mapping[str, Any]) -> str:
    keys = ("ETag", "etag", "generation", "md5Hash", "LastModified", "mtime", "created")
    marks = [str(entry[key]) for key in keys if entry.get(key) is not None]
    return "-".join([str(entry.get("size")), *marks[:1]])


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the operating system's and the store's errors into ours."""
    try:
        yield
    except H5daskError:
        raise
    except FileNotFoundError:
        raise NotFound(f"{url}: no such file; check the path") from None
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
