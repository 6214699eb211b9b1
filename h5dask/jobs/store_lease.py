"""Who works on an output in a store: an object made under a condition, rewritten at every beat.

The lease saves work. That an output is right never rests on it. Which output is meant, and what
else keeps runs apart, is not known here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from h5dask.errors import Conflict, H5daskError, InputChanged, NotFound
from h5dask.jobs.lease import BEAT, EXPIRY, Held, Owner, held_by, myself
from h5dask.storage.stores import Object
from h5dask.storage.stores.trying import Again, persistently
from h5dask.words import seconds_in_words

SETTLE = 1.0
"""Seconds after which a lease is read back where the store enforces no condition."""
_FRESH = 2
"""Beats for which a holder that was heard of is taken for alive without watching it."""
_LOOKS = 4
"""How often a silent holder is looked at in a beat."""
_ATTEMPTS = 10
"""How often a lease that others take and leave at once is asked for."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life: what the object holds."""

    owner: Owner
    """Who holds the lease."""
    n: int
    """How many there were before, so that no two are the same."""
    at: float
    """When, by the holder's own clock, in seconds since 1970; it only makes an answer quicker."""


@dataclass(frozen=True, slots=True)
class _Seen:
    mark: str
    token: str
    sign: Sign | None
    """None where it can't be understood."""


class StoreLease:
    """The right to work on an output in a store, for as long as the `with` block lasts.

    Parameters
    ----------
    store : Object
        The lease's own object.
    output : str
        For messages.
    say : callable
        Takes a line for whoever watches.
    beat, expiry, settle : float
        Seconds: between two signs of life; without one, after which the lease is anyone's; and
        before a lease is read back that no condition protects.

    Raises
    ------
    Held
        Somebody else holds it.

    Notes
    -----
    A holder is gone where its process was on this machine and runs no more. Else it is alive where
    its last sign is fresh by both clocks. Where it isn't, it is watched, by this machine's clock
    alone: a new sign means alive, none within `expiry` that the lease is anyone's.

    Where the store enforces conditions, one of many that begin at once has the lease, and it is
    taken over from the one who was judged, never from somebody who came since. Whether it does, it
    shows: it is asked twice under the same condition, which can't hold again. Where it doesn't,
    whoever writes last has it: everyone writes, waits `settle`, reads back, and works only where
    it finds its own. That guarantees little: two work at once where a write takes longer than
    `settle`. The one whose lease was overwritten finds out at its next sign, or before it
    publishes.
    """

    def __init__(
        self,
        store: Object,
        output: str,
        say: Callable[[str], Any],
        *,
        beat: float = BEAT,
        expiry: float = EXPIRY,
        settle: float = SETTLE,
    ) -> None:
        self.output, self.owner = output, myself()
        self.beat, self.expiry, self.settle = beat, expiry, settle
        self.enforced = False
        """Whether the store enforces conditions, once the lease is held."""
        self._store, self._say = store, say
        self._mark, self._n = "", 0
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._live, name="lease", daemon=True)

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            there = self._read()
            if there is not None:
                self._refuse_alive(there)
            if self._taken(there):
                self._heart.start()
                return self
        raise Held(f"{self.output}: others take it up and leave it; nothing was done")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heart.join()
        try:
            if self.holds():
                persistently(self._store.url, self._store.delete)
        except H5daskError:
            pass  # what is done is done, and a lease that is left expires

    def holds(self) -> bool:
        """Whether it is still ours: a process that was frozen or cut off may have lost it."""
        seen = self._read()
        if seen is None or seen.sign is None or seen.sign.owner != self.owner:
            return False
        self._mark = seen.mark
        return True

    def _read(self) -> _Seen | None:
        """Return what is there; None where nothing is."""

        def read() -> _Seen:
            head = self._store.head()
            try:
                return _Seen(head.mark, head.token, _parsed(bytes(self._store.whole(head.mark))))
            except InputChanged:
                raise Again("the lease changed while it was read") from None

        try:
            return persistently(self._store.url, read)
        except NotFound:
            return None

    def _refuse_alive(self, there: _Seen) -> None:
        """Raise Held unless the holder is gone, or gives no sign of life while it is watched."""
        owner = there.sign.owner if there.sign is not None else None
        if owner is not None and owner.is_gone():
            return
        busy = held_by(owner, self.output) if owner is not None else Held(
            f"{self.output}: another run works on it; nothing was done"
        )  # fmt: skip
        if there.sign is not None and abs(time.time() - there.sign.at) < _FRESH * self.beat:
            raise busy
        self._say(
            f"{self.output}: another run has left a lease; waiting for a sign of life, at most "
            f"{seconds_in_words(self.expiry)}"
        )
        until = time.monotonic() + self.expiry
        while time.monotonic() < until:
            time.sleep(self.beat / _LOOKS)
            now = self._read()
            if now is None:
                return
            if now != there:
                raise busy

    def _taken(self, there: _Seen | None) -> bool:
        """Write the lease over what was judged, or where nothing was; False where we lost."""

        def put() -> str:
            if there is None:
                return self._store.put(self._sign(), absent=True, token=self.owner.token)
            return self._store.put(self._sign(), mark=there.mark, token=self.owner.token)

        try:
            for _ in range(2):  # asked twice: a condition that is enforced can't hold again
                persistently(self._store.url, put)
        except Conflict:  # ours all the same where the reply to the first one was lost
            self.enforced = True
        seen = self._read()
        # Who only looks before it puts refuses the second one too; it keeps no token, though.
        self.enforced &= seen is not None and bool(seen.token)
        if not self.enforced:
            time.sleep(self.settle)
        return self.holds()

    def _sign(self) -> bytes:
        self._n += 1
        return json.dumps(asdict(Sign(self.owner, self._n, time.time()))).encode()

    def _live(self) -> None:
        while not self._ended.wait(self.beat):
            try:
                if not self._beaten():
                    return
            except (Again, H5daskError):
                continue  # the next one may get through; `holds` tells in the end

    def _beaten(self) -> bool:
        """Give one sign of life; False where the lease is no longer ours."""
        if not self.holds():  # a condition may be enforced on making it, and not on this
            return False
        try:
            self._store.put(self._sign(), mark=self._mark, token=self.owner.token)
        except Conflict:
            return self.holds()
        return True


def _parsed(content: bytes) -> Sign | None:
    try:
        told = json.loads(content)
        return Sign(**{**told, "owner": Owner(**told["owner"])})
    except (ValueError, TypeError, KeyError):
        return None
