"""Objects on S3 through s3fs: where credentials are lent by the machine, a profile or a login.

The calls of S3's interface are made by name, since only they take a condition; listing and all
else is `with_fsspec`'s.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from h5dask.errors import H5daskError, NotFound
from h5dask.storage.stores import TOKEN, Head, Object, Options
from h5dask.storage.stores.told import compared, conflict
from h5dask.storage.stores.trying import AT_LENGTH, Again, Whole, timeout
from h5dask.storage.stores.with_fsspec import WithFsspec, fsspec_object

_AT_ONCE = 64 * 2**20
"""Bytes of a file that are sent in one request, and so can be sent under a condition."""


def s3fs_object(url: str, options: Options) -> Object:
    """Return the object of an S3 URL through s3fs.

    Parameters
    ----------
    url : str
        Its address.
    options : mapping
        What s3fs takes. Waits are bounded and nothing is tried twice, unless its config_kwargs
        say otherwise.

    Raises
    ------
    NotFound
        s3fs isn't installed.
    """
    config = {
        "connect_timeout": timeout(),
        "read_timeout": timeout(),
        "retries": {"total_max_attempts": 1},
        **(options.get("config_kwargs") or {}),
    }
    listing = fsspec_object(url, {**options, "config_kwargs": config})
    return WithS3fs(url=listing.url, listing=listing, parallel=listing.parallel)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithS3fs:
    """One object on S3 that s3fs reaches."""

    url: str
    listing: WithFsspec
    """The same object as any filesystem has it."""
    parallel: int

    @property
    def pins(self) -> bool:
        """Whether `get` itself refuses an object that isn't what its mark says."""
        return True

    def head(self) -> Head:
        """Ask for its state: one request; a second one where the first is refused without a word.

        An answer to HEAD has no body, so nothing says whether it is the bucket that is missing,
        or why access is denied; the answer to a GET does.
        """
        try:
            found = self._call("head_object", {})
        except H5daskError:
            self._read({"Range": "bytes=0-0"})
            raise
        return Head(
            nbytes=found["ContentLength"],
            mark=found.get("ETag", ""),
            token=found.get("Metadata", {}).get(TOKEN, ""),
        )

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        """Return the bytes [start, stop), fewer only where the object ends: one request."""
        return self._read({"Range": f"bytes={start}-{stop - 1}"}, mark)

    def whole(self, mark: str) -> memoryview:
        """Return all its bytes: one request."""
        return self._read({}, mark)

    def names(self) -> list[str]:
        """Return the URLs of the objects that its URL, a pattern, matches, in order."""
        return self.listing.names()

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        """Store bytes or a local file under its name, and return the new mark.

        A file of more than 64 MiB goes up in parts, by s3fs: whether a condition holds is then
        looked up before.
        """
        told: dict[str, Any] = {"Metadata": {TOKEN: token}} if token else {}
        if isinstance(content, Path) and content.stat().st_size > _AT_ONCE:
            if absent or mark:
                self._look(mark)
            with self.listing.reached(writing=True) as (filesystem, path):
                self.listing.ask(filesystem, "put_file", str(content), path, **told)
            return self.head().mark
        if isinstance(content, Path):
            content = content.read_bytes()
        if absent:
            told["IfNoneMatch"] = "*"
        elif mark:
            told["IfMatch"] = mark
        stored = self._call("put_object", {"Body": content, **told}, writing=True)
        return str(stored.get("ETag", ""))

    def delete(self) -> None:
        """Remove it; nothing happens where there is none."""
        with suppress(NotFound):
            self._call("delete_object", {}, writing=True)

    def _look(self, mark: str) -> None:
        """Raise Conflict where there is another one than that with a mark; "" means none."""
        try:
            there = self.head().mark
        except NotFound:
            there = ""
        if there != mark:
            raise conflict(self.url)

    def _call(self, name: str, told: dict[str, Any], *, writing: bool = False) -> Any:
        conditional = not {"IfMatch", "IfNoneMatch"}.isdisjoint(told)
        with self.listing.reached(writing=writing, conditional=conditional) as (filesystem, path):
            filesystem.retries = 1
            bucket, key, _ = filesystem.split_path(path)
            return filesystem.call_s3(name, Bucket=bucket, Key=key, **told)

    def _read(self, told: dict[str, Any], mark: str = "") -> memoryview:
        found = self._call("get_object", {**told, **({"IfMatch": mark} if mark else {})})
        place = str(found.get("ContentRange", ""))
        with self.listing.reached() as (filesystem, _):
            try:
                compared(self.url, mark, found.get("ETag", ""), whole=not place)
                if "Range" in told and not place:
                    raise Whole
                if not _same_start(told.get("Range", ""), place):
                    raise Again(f"{place}, not {told['Range']}")
                content = sync(filesystem.loop, found["Body"].read, timeout=AT_LENGTH)
            finally:
                found["Body"].close()
        if len(content) != found["ContentLength"]:
            raise Again(f"{len(content)} bytes, not {found['ContentLength']}")
        return memoryview(content)


def _same_start(asked: str, place: str) -> bool:
    """Whether an answer's bytes begin where they were asked for: "bytes=5-9", "bytes 5-9/20"."""
    return asked.removeprefix("bytes=").split("-")[0] == place.removeprefix("bytes ").split("-")[0]
