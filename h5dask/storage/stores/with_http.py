"""Objects behind plain HTTP servers, read by aiohttp; nothing is written there.

Requests run on fsspec's own loop: one thread for the network is enough in a process, and it is
there already wherever an asynchronous filesystem is used beside.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yarl
from fsspec.asyn import get_loop

from h5dask.errors import Refused
from h5dask.storage.stores import Head, Object, Options, digests
from h5dask.storage.stores.clients import held, key_of
from h5dask.storage.stores.told import by_error, by_status, compared, pause, plain
from h5dask.storage.stores.trying import AT_LENGTH, Again, Whole, deadline, timeout

Result = TypeVar("Result")
_NOT_ASKED = {
    *("simple_links", "block_size", "same_scheme", "size_policy", "cache_type", "cache_options"),
    *("asynchronous", "loop", "get_client", "use_listings_cache", "listings_expiry_time"),
    *("max_paths", "skip_instance_cache", "timeout", "allow_redirects"),
}
"""What fsspec's HTTP filesystem takes for itself, or is decided here; the rest goes with every
request."""
_NO_HEAD = {400, 403, 405, 501}
"""How servers refuse HEAD alone: an address signed for GET is forbidden for it."""


def http_object(url: str, options: Options) -> Object:
    """Return the object behind an HTTP address.

    Parameters
    ----------
    url : str
        Its address, with its query; that is never shown.
    options : mapping
        What fsspec's HTTP filesystem takes: client_kwargs of aiohttp's session, and what goes
        with every request, such as headers or ssl.
    """
    return WithHttp(url=plain(url), address=url, options=dict(options))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Session:
    """An open session of aiohttp's; it is closed when nobody holds this any more."""

    session: aiohttp.ClientSession


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WithHttp:
    """One object behind an HTTP address."""

    url: str
    address: str = field(repr=False)
    """With its query, which may be signed."""
    options: Options = field(repr=False)
    parallel: int = 16

    @property
    def pins(self) -> bool:
        """Whether `get` itself refuses an object that isn't what its mark says."""
        return True

    def head(self) -> Head:
        """Ask for its state: one request; two where the server refuses HEAD."""
        answer = self._ask("HEAD", {})
        nbytes = _length(answer)
        if answer.status == 200 and nbytes is not None:
            ranged = answer.headers.get("Accept-Ranges", "").lower() != "none"
            return _head(answer, nbytes, ranged=ranged)
        if answer.status != 200 and answer.status not in _NO_HEAD:
            raise self._refusal(answer)
        return self._head_by_get()

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        """Return the bytes [start, stop), fewer only where the object ends: one request."""
        headers = {"Range": f"bytes={start}-{stop - 1}", **_condition(mark)}
        answer = self._ask("GET", headers, wanted=206)
        if answer.status == 200:
            compared(self.url, mark, _mark(answer, _length(answer)), whole=True)
            raise Whole
        if answer.status != 206:
            raise self._refusal(answer)
        first, nbytes = _place(answer)
        compared(self.url, mark, _mark(answer, nbytes))
        wanted = (stop if nbytes is None else min(stop, nbytes)) - start
        if first != start or len(answer.body) != wanted:
            raise Again(f"{len(answer.body)} bytes at {first}, not {wanted} at {start}")
        digests.check(answer.headers, answer.body, whole=wanted == nbytes)
        return memoryview(answer.body)

    def whole(self, mark: str) -> memoryview:
        """Return all its bytes: one request."""
        answer = self._ask("GET", _condition(mark), wanted=200)
        if answer.status != 200:
            raise self._refusal(answer)
        compared(self.url, mark, _mark(answer, len(answer.body)), whole=True)
        digests.check(answer.headers, answer.body, whole=True)
        return memoryview(answer.body)

    def names(self) -> list[str]:
        """Return the addresses that its own, a pattern, matches, among those a page links to."""
        from h5dask.storage.stores.with_fsspec import fsspec_object

        return fsspec_object(self.address, self.options).names()

    def put(
        self,
        content: bytes | Path,  # noqa: ARG002
        *,
        absent: bool = False,  # noqa: ARG002
        mark: str = "",  # noqa: ARG002
        token: str = "",  # noqa: ARG002
    ) -> str:
        """Refuse: what lies behind an HTTP address is only read."""
        raise Refused(f"{self.url}: http addresses are read-only; write to a store or a folder")

    def delete(self) -> None:
        """Refuse: what lies behind an HTTP address is only read."""
        raise Refused(f"{self.url}: http addresses are read-only; delete it where it is kept")

    def _head_by_get(self) -> Head:
        answer = self._ask("GET", {"Range": "bytes=0-0"})
        if answer.status == 206:
            return _head(answer, _place(answer)[1], ranged=True)
        if answer.status == 200:
            return _head(answer, _length(answer), ranged=False)
        if answer.status == 416 and answer.headers.get("Content-Range", "").endswith("/0"):
            return _head(answer, 0, ranged=True)
        raise self._refusal(answer)

    def _refusal(self, answer: _Answer) -> Exception:
        after = pause(answer.headers.get("Retry-After"))
        return by_status(self.url, answer.status, after=after)

    def _ask(self, method: str, headers: Mapping[str, str], *, wanted: int = 0) -> _Answer:
        """Make one request; the body is read of an answer with the wanted status only."""
        given = {name: value for name, value in self.options.items() if name not in _NOT_ASKED}
        session = dict(given.pop("client_kwargs", None) or {})
        address = yarl.URL(self.address, encoded=bool(given.pop("encoded", False)))
        told = {**(given.pop("headers", None) or {}), **headers, "Accept-Encoding": "identity"}
        longest = AT_LENGTH if wanted == 200 else deadline()
        allowed = aiohttp.ClientTimeout(total=longest, sock_connect=timeout(), sock_read=timeout())

        async def answered() -> _Answer:
            open_ = held(key_of("http", session), lambda: _opened(session))
            async with open_.session.request(
                method, address, headers=told, allow_redirects=True, timeout=allowed, **given
            ) as answer:
                encoding = answer.headers.get("Content-Encoding", "identity")
                if answer.status == wanted and encoding != "identity":
                    raise Refused(
                        f"{self.url}: the server encodes the bytes on the way ({encoding!r}); "
                        "have it send them as they are"
                    )
                body = await answer.read() if answer.status == wanted else b""
                return _Answer(status=answer.status, headers=answer.headers, body=body)

        try:
            return _on_loop(answered())
        except (Refused, Again):
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise by_error(self.url, error) from None


def _opened(options: Mapping[str, Any]) -> _Session:
    session = aiohttp.ClientSession(auto_decompress=False, **options)
    opened = _Session(session)
    weakref.finalize(opened, _close, session)
    return opened


def _close(session: aiohttp.ClientSession) -> None:
    """Close a session on its loop, if that still runs; without waiting for it."""
    loop = get_loop()
    if loop.is_running():
        asyncio.run_coroutine_threadsafe(session.close(), loop)


def _on_loop(asked: Coroutine[Any, Any, Result]) -> Result:
    running = asyncio.run_coroutine_threadsafe(asked, get_loop())
    try:
        return running.result()
    except BaseException:
        running.cancel()
        raise


def _head(answer: _Answer, nbytes: int | None, *, ranged: bool) -> Head:
    return Head(nbytes=nbytes, mark=_mark(answer, nbytes), ranged=ranged)


def _mark(answer: _Answer, nbytes: int | None) -> str:
    """Return the etag; else the time of its last change with its size; else ""."""
    if etag := answer.headers.get("ETag"):
        return etag
    then = answer.headers.get("Last-Modified")
    return f"{then}; {nbytes}" if then else ""


def _condition(mark: str) -> dict[str, str]:
    """Return the headers that have a server refuse another object than the one with a mark."""
    if mark.startswith('"'):
        return {"If-Match": mark}
    if not mark or mark.startswith("W/"):
        # A weak etag never matches there; it is compared with the answer's.
        return {}
    return {"If-Unmodified-Since": mark.rpartition("; ")[0]}


def _length(answer: _Answer) -> int | None:
    told = answer.headers.get("Content-Length", "")
    return int(told) if told.isdigit() else None


def _place(answer: _Answer) -> tuple[int, int | None]:
    """Return where an answer's bytes begin, and the object's size."""
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if not told:
        raise Again("206 Partial Content without a Content-Range that can be read")
    return int(told[1]), None if told[2] == "*" else int(told[2])
