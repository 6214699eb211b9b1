"""A lease in a store: an object made under a condition, and rewritten at every beat."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from h5dask.errors import Conflict, H5daskError, InputChanged, NotFound
from h5dask.jobs.lease import Owner, Seen
from h5dask.storage.stores import Object
from h5dask.storage.stores.trying import Again, persistently

SETTLE = 1.0
"""Seconds after which a lease is read back where the store enforces no condition."""


class LeaseObject:
    """The object of one lease; see `lease.Place`.

    Parameters
    ----------
    store : Object
        It.
    settle : float
        Seconds before it is read back that no condition protects.

    Notes
    -----
    Where the store enforces conditions, one of many that begin at once has the lease, and it is
    taken over from the one who was judged, never from somebody who came since. Whether it does, it
    shows: it is asked twice under the same condition, which can't hold again. Where it doesn't,
    whoever writes last has it: everyone writes, waits `settle`, reads back, and works only where
    it finds its own. That guarantees little: two work at once where a write takes longer than
    `settle`. The one whose lease was overwritten finds out at its next sign, or before it
    publishes.
    """

    def __init__(self, store: Object, *, settle: float = SETTLE) -> None:
        self.enforced = False
        self._store, self._settle, self._n = store, settle, 0

    def read(self) -> Seen | None:
        """Return what is there; None where nothing is."""

        def read() -> Seen:
            head = self._store.head()
            try:
                content = bytes(self._store.whole(head.mark))
            except InputChanged:
                raise Again("the lease changed while it was read") from None
            owner, at = _parsed(content)
            return Seen(owner, content, at, head.mark)

        try:
            return persistently(self._store.url, read)
        except NotFound:
            return None

    def take(self, owner: Owner, there: Seen | None) -> bool:
        """Put a lease where that was seen, or nothing; False where somebody else came first."""

        def put() -> str:
            sign = self._sign(owner)
            if there is None:
                return self._store.put(sign, absent=True, token=owner.token)
            return self._store.put(sign, mark=there.mark, token=owner.token)

        try:
            for _ in range(2):  # asked twice: a condition that is enforced can't hold again
                persistently(self._store.url, put)
        except Conflict:  # ours all the same where the reply to the first one was lost
            self.enforced = self._keeps_tokens()
        if not self.enforced:
            time.sleep(self._settle)
        return self._found(owner) is not None

    def _keeps_tokens(self) -> bool:
        """Whether it isn't one who only looks before it puts, and so refuses the second one too."""
        try:
            return bool(persistently(self._store.url, self._store.head).token)
        except NotFound:
            return False

    def beat(self, owner: Owner) -> bool:
        """Give a sign of life; False where the lease is no longer the owner's."""
        try:
            there = self._found(owner)
            if there is None:  # a condition may be enforced on making it, and not on this
                return False
            try:
                self._store.put(self._sign(owner), mark=there.mark, token=owner.token)
            except Conflict:
                return self._found(owner) is not None
        except (Again, H5daskError):
            pass  # the next one may get through; `holds` tells in the end
        return True

    def leave(self, owner: Owner) -> None:
        """Remove the owner's lease, and nobody else's."""
        try:
            if self._found(owner) is not None:
                persistently(self._store.url, self._store.delete)
        except H5daskError:
            pass  # what is done is done, and a lease that is left expires

    def _found(self, owner: Owner) -> Seen | None:
        there = self.read()
        return there if there is not None and there.owner == owner else None

    def _sign(self, owner: Owner) -> bytes:
        """Return what the object holds from now on; no two are the same."""
        self._n += 1
        return json.dumps({"owner": asdict(owner), "n": self._n, "at": time.time()}).encode()


def _parsed(content: bytes) -> tuple[Owner | None, float | None]:
    try:
        told: dict[str, Any] = json.loads(content)
        return Owner(**told["owner"]), float(told["at"])
    except (ValueError, TypeError, KeyError):
        return None, None
