"""An object appears under its name: under a condition, else after a look, and is known again.

A request whose reply is lost may have succeeded. So every object carries a token of its writer's,
and an error is believed only where the object that is there has another.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from h5dask.errors import AccessDenied, Conflict, H5daskError, NotFound, Refused, exists_already
from h5dask.storage.stores import Object, Options
from h5dask.storage.stores.clients import held, key_of
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.told import plain
from h5dask.storage.stores.trying import Again, persistently

PROBE = b"h5dask"
"""What objects hold by which is tried out what a store does."""


def appear(
    found: Object,
    token: str,
    act: Callable[[bool], object],
    *,
    overwrite: bool,
    enforced: Callable[[], bool],
) -> bool | None:
    """Let an object appear, and return whether the store itself kept another from being lost.

    Parameters
    ----------
    found : Object
        It, there or not.
    token : str
        By which it is known again where the store keeps such a thing.
    act : callable
        Lets it appear, by one attempt; told whether only if there is none yet.
    overwrite : bool
        Whether an object that is there is replaced.
    enforced : callable
        Tells whether the store keeps that condition; asked where it matters.

    Returns
    -------
    bool or None
        None where others may be replaced. False where it was looked up before that none is there,
        and afterwards that this one is: what another writer put in between may be lost.

    Raises
    ------
    Conflict
        Another object is there.
    """
    absent = not overwrite and enforced()
    looks = not overwrite and not absent
    if looks and persistently(found.url, lambda: _token(found)) is not None:
        raise exists_already(found.url)
    persistently(found.url, lambda: _act(found, token, act, absent=absent))
    if looks and persistently(found.url, lambda: _token(found)) not in {"", token}:
        raise Conflict(
            f"{found.url}: another writer replaced it at the same moment; write it again"
        )
    return None if overwrite else absent


def _act(found: Object, token: str, act: Callable[[bool], object], *, absent: bool) -> None:
    try:
        act(absent)
    except (Again, Conflict, NotFound, Refused) as error:
        # The store may have done it all the same, now or at an earlier attempt.
        try:
            there = _token(found)
        except Again as unknown:
            raise (error if isinstance(error, Again) else unknown) from None
        except H5daskError:
            raise error from None
        if there != token:
            raise


def _token(found: Object) -> str | None:
    """Return the token of an object, "" where it has none, None where there is no object."""
    try:
        return found.head().token
    except NotFound:
        return None


def once_a_process(url: str, options: Options | None, kind: str, ask: Callable[[], bool]) -> bool:
    """Return what a question about a URL's store gives, asked once per process.

    A store in which nothing may be tried out, beside the object itself, is taken for one that
    keeps no condition.

    Parameters
    ----------
    url, options
        Which store, and who asks.
    kind : str
        Which question.
    ask : callable
        Asks it.
    """
    scheme, _, rest = url.partition("://")
    key = key_of("condition", kind, scheme, rest.partition("/")[0], dict(options or {}))

    def asked() -> tuple[bool]:
        try:
            return (ask(),)
        except (AccessDenied, NotFound, Refused):
            return (False,)

    found: tuple[bool] = held(key, asked)
    return found[0]


def keeps_conditions(url: str, options: Options | None) -> bool:
    """Whether a store refuses to put an object where one is; tried out beside one.

    One that keeps no tokens is reached by a library that only looks before it puts.
    """
    with probe(url, options) as beside:
        if not persistently(beside.url, beside.head).token:
            return False
        return refuses(beside.url, lambda: beside.put(PROBE, absent=True))


@contextmanager
def probe(url: str, options: Options | None) -> Iterator[Object]:
    """Give a small object beside another, which goes afterwards."""
    beside = object_at(f"{url.rpartition('/')[0]}/.h5dask-{uuid.uuid4().hex}.probe", options)
    try:
        persistently(beside.url, lambda: beside.put(PROBE, token="h5dask"))
        yield beside
    finally:
        with suppress(H5daskError):
            persistently(beside.url, beside.delete)


def refuses(url: str, act: Callable[[], object]) -> bool:
    """Whether a request is refused for its condition, which doesn't hold."""
    try:
        persistently(plain(url), act)
    except Conflict:
        return True
    return False
