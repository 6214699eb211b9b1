"""Objects on S3, Google Cloud Storage and Azure through obstore, whose calls release the GIL.

How fsspec's options become obstore's is `translating`'s matter; no other library is known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from fsspec.utils import glob_translate
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from h5dask.errors import H5daskError, NotFound, Refused
from h5dask.storage.stores import TOKEN, Head
from h5dask.storage.stores.told import by_status, changed, compared, conflict, untrusted
from h5dask.storage.stores.trying import Again, Whole

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore

_AT_ONCE = 64 * 2**20
"""Bytes of a file that are sent in one request, and so can be sent under a condition."""
_FEW = 2**20
"""Bytes that are sent before a store's silence matters."""
_PART, _PARTS = 16 * 2**20, 4
"""Bytes of a part, of which ten thousand must do, and how many parts are under way at once."""
_STATUS = re.compile(r"status code: (\d{3})")
_ODD_KEY = re.compile(r'invalid path: Path "(.*?)" contained')
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUSES = {
    FileNotFoundError: 404,
    PermissionDeniedError: 403,
    UnauthenticatedError: 401,
    PreconditionError: 412,
    AlreadyExistsError: 409,
    NotSupportedError: 501,
}
_KINDS = {
    "Connect": "no connection to the store",
    "Timeout": "no answer in time",
    "Request": "the request didn't get through",
    "Interrupted": "the answer broke off",
    "Decode": "the answer can't be read",
}
"""What obstore calls faults on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a process holds of one bucket or container."""

    usual: ObjectStore
    patient: ObjectStore
    """The same for answers that take long: bounded by silence alone."""
    sending: ObjectStore
    """The same for requests that take long, while which a store is silent anyhow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithObstore:
    """One object in a bucket or container that obstore reaches."""

    url: str
    path: str
    """Within the bucket."""
    client: Client = field(repr=False)
    versioned: bool = False
    """Whether marks are generations (Google's), not etags."""
    parallel: int = 128

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
            with self._told():
                found = obstore.get(self.client.usual, self.path, options={"head": True})
        except H5daskError:
            with self._told():
                obstore.get(self.client.usual, self.path, options={"range": (0, 1)}).bytes()
            raise
        return Head(
            nbytes=found.meta["size"],
            mark=self._mark_of(found),
            token=found.attributes.get(TOKEN, ""),
        )

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        """Return the bytes [start, stop), fewer only where the object ends: one request.

        A store that answers a range with status 200 counts as one that gives the whole only,
        even where it sends the right bytes, as rclone's does: obstore doesn't hand them out.
        """
        found = self._asked(self.client.usual, {**self._pinned(mark), "range": (start, stop)}, mark)
        with self._told():
            compared(self.url, mark, self._mark_of(found))
            return self._bytes(found, start, min(stop, found.meta["size"]))

    def whole(self, mark: str) -> memoryview:
        """Return all its bytes: one request."""
        found = self._asked(self.client.patient, self._pinned(mark), mark)
        with self._told():
            compared(self.url, mark, self._mark_of(found), whole=True)
            return self._bytes(found, 0, found.meta["size"])

    def names(self) -> list[str]:
        """Return the URLs of the objects that its URL, a pattern, matches, in order."""
        base = self.url.removesuffix(self.path)
        above, _, last = self.path.rpartition("/")
        matching = re.compile(glob_translate(self.path))
        with self._told():
            if re.search(r"[*?\[]", above) or "**" in last:
                folders = re.split(r"[*?\[]", self.path)[0].rpartition("/")[0]
                pages = obstore.list(self.client.usual, folders or None)
                found = [entry["path"] for page in pages for entry in page]
            else:
                listed = obstore.list_with_delimiter(self.client.usual, above or None)
                found = [entry["path"] for entry in listed["objects"]]
        return sorted(base + path for path in found if matching.match(path))

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        """Store bytes or a local file under its name, and return the new mark.

        A file of more than 64 MiB goes up in parts, which obstore can't commit under a
        condition: whether that holds is looked up before.
        """
        nbytes = content.stat().st_size if isinstance(content, Path) else len(content)
        in_parts = isinstance(content, Path) and nbytes > _AT_ONCE
        mode: Any = "overwrite"
        if in_parts and (absent or mark):
            self._look(mark)
        elif absent:
            mode = "create"
        elif mark:
            # Some servers of S3 take an etag to be another one with its quotes.
            mode = {"version": mark} if self.versioned else {"e_tag": mark.strip('"')}
        with self._told(writing=True, conditional=mode != "overwrite"):
            stored = obstore.put(
                self.client.sending if nbytes > _FEW else self.client.usual,
                self.path,
                content,
                attributes={TOKEN: token} if token else None,
                mode=mode,
                use_multipart=in_parts,
                chunk_size=_PART,
                max_concurrency=_PARTS,
            )
        return self._mark(stored["e_tag"], stored["version"])

    def delete(self) -> None:
        """Remove it; nothing happens where there is none."""
        with suppress(FileNotFoundError), self._told(writing=True):
            obstore.delete(self.client.usual, self.path)

    def _asked(self, store: ObjectStore, options: GetOptions, mark: str) -> GetResult:
        try:
            with self._told():
                return obstore.get(store, self.path, options=options)
        except NotFound:
            if self.versioned and mark:
                # That generation is gone; whether the object is, tells a look at the present one.
                self.head()
                raise changed(self.url, f"generation {mark} is gone") from None
            raise

    def _look(self, mark: str) -> None:
        """Raise Conflict where there is another one than that with a mark; "" means none."""
        try:
            there = self.head().mark
        except FileNotFoundError:
            there = ""
        if there != mark:
            raise conflict(self.url)

    def _mark(self, etag: str | None, version: str | None) -> str:
        return (version if self.versioned else etag) or ""

    def _mark_of(self, found: GetResult) -> str:
        return self._mark(found.meta["e_tag"], found.meta["version"])

    def _pinned(self, mark: str) -> GetOptions:
        if not mark:
            return {}
        return {"version": mark} if self.versioned else {"if_match": mark}

    def _bytes(self, found: GetResult, start: int, stop: int) -> memoryview:
        content = memoryview(found.bytes())
        if found.range[0] != start or content.nbytes != stop - start:
            raise Again(f"{content.nbytes} bytes at {start}, not {stop - start}")
        return content

    @contextmanager
    def _told(self, *, writing: bool = False, conditional: bool = False) -> Iterator[None]:
        """Turn obstore's errors into ours; their texts hold addresses, and aren't repeated."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if isinstance(error, H5daskError):
                raise
            raise _ours(self.url, error, writing=writing, conditional=conditional) from None


def _ours(url: str, error: Exception, *, writing: bool, conditional: bool) -> Exception:
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    number = int(status[1]) if status else _STATUSES.get(type(error), 0)
    if number:
        return by_status(
            url,
            number,
            code=code[1] if code else "",
            writing=writing,
            conditional=conditional,
        )
    if "Received non-partial response" in text:
        return Whole()
    if "redirect without LOCATION" in text:
        return by_status(url, 301)
    if "invalid peer certificate" in text:
        return untrusted(url)
    if odd := _ODD_KEY.search(text):
        return Refused(
            f"{url}: among what was listed is {odd[1]!r}, a key with empty or dotted parts, which "
            "can't be matched; name the files one by one, or remove it"
        )
    kind = re.search(r"kind: (\w+)", text)
    return Again(_KINDS.get(kind[1] if kind else "", "the store's answer can't be used"))
