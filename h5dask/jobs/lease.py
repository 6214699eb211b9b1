"""Who works on an output: one at a time, taken over when its owner is gone.

The lease saves work. That an output is right never rests on it. Where it lies is not known here.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from h5dask.errors import Conflict
from h5dask.words import seconds_in_words

BEAT = 5.0
"""Seconds between two signs of life."""
EXPIRY = 30.0
"""Seconds without one after which a lease is anyone's."""
_FRESH = 2
"""Beats for which a holder that was heard of is taken for alive without watching it."""
_LOOKS = 4
"""How often a silent holder is looked at in a beat."""
_ATTEMPTS = 10
"""How often a lease that others take and leave at once is asked for."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lease."""

    token: str
    """Unique."""
    host: str
    """Name of the machine, for people."""
    place: str
    """Tells machines, their boots and containers apart: within one, process numbers mean one."""
    process: int
    """Number of the process."""
    began: float
    """When that process started, since numbers are used again; in seconds since the boot."""
    since: str
    """When the lease was taken, in UTC."""

    def is_gone(self) -> bool:
        """Whether its process surely runs no more; False where that can't be known from here."""
        if self.place != _place():
            return False
        import psutil

        try:
            return abs(_began(self.process) - self.began) > 1
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies in a lease's place."""

    owner: Owner | None
    """None where it can't be understood."""
    sign: Hashable
    """Another one after every sign of life."""
    at: float | None
    """When the last one was given, in seconds since 1970 by somebody's clock."""
    mark: str = ""
    """By which a store knows it."""


class Place(Protocol):
    """Where one lease lies."""

    enforced: bool
    """Whether it is had under a condition, or in one step; known once it was taken."""

    def read(self) -> Seen | None:
        """Return what is there; None where nothing is."""

    def take(self, owner: Owner, there: Seen | None) -> bool:
        """Put a lease where that was seen, or nothing; False where somebody else came first."""

    def beat(self, owner: Owner) -> bool:
        """Give a sign of life; False where the lease is no longer the owner's."""

    def leave(self, owner: Owner) -> None:
        """Remove the owner's lease, and nobody else's."""


class Held(Conflict):
    """Somebody else works on the output."""


class Lease:
    """The right to work on an output, for as long as the `with` block lasts.

    Parameters
    ----------
    place : Place
        Where it lies.
    output : str
        For messages.
    say : callable
        Takes a line for whoever watches.
    beat, expiry : float, optional
        Seconds: between two signs of life; and without one, after which the lease is anyone's.
        `BEAT` and `EXPIRY` without.

    Raises
    ------
    Held
        Somebody else holds it.

    Notes
    -----
    A holder is gone where its process was on this machine and runs no more. Else it is alive where
    its last sign is fresh by both clocks. Where it isn't, it is watched, by this machine's
    monotonic clock alone: a new sign means alive, none within `expiry` that the lease is anyone's.
    So a clock that is set costs a wait, and never the lease of somebody who lives.
    """

    def __init__(
        self,
        place: Place,
        output: str,
        say: Callable[[str], Any],
        *,
        beat: float | None = None,
        expiry: float | None = None,
    ) -> None:
        self.place, self.output, self.owner = place, output, myself()
        self.beat = BEAT if beat is None else beat
        self.expiry = EXPIRY if expiry is None else expiry
        self._say = say
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._live, name="lease", daemon=True)

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS):
            there = self.place.read()
            if there is not None:
                self._refuse_alive(there)
            if self.place.take(self.owner, there):
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
        self.place.leave(self.owner)

    @property
    def enforced(self) -> bool:
        """Whether it was had under a condition, or in one step."""
        return self.place.enforced

    def holds(self) -> bool:
        """Whether it is still ours: a process that was frozen or cut off may have lost it."""
        there = self.place.read()
        return there is not None and there.owner == self.owner

    def _refuse_alive(self, there: Seen) -> None:
        """Raise Held unless the holder is gone, or gives no sign of life while it is watched."""
        if there.owner is not None and there.owner.is_gone():
            return
        if there.at is not None and abs(time.time() - there.at) < _FRESH * self.beat:
            raise self._held_by(there)
        self._say(
            f"{self.output}: another run has left a lease; waiting for a sign of life, at most "
            f"{seconds_in_words(self.expiry)}"
        )
        until = time.monotonic() + self.expiry
        while time.monotonic() < until:
            time.sleep(self.beat / _LOOKS)
            now = self.place.read()
            if now is None:
                return
            if now.sign != there.sign:
                raise self._held_by(now)

    def _held_by(self, there: Seen) -> Held:
        """Return the error that names who works on the output."""
        owner = there.owner
        who = (
            f"process {owner.process} on {owner.host} works on it since {owner.since}"
            if owner is not None
            else "another run works on it"
        )
        return Held(f"{self.output}: {who}; nothing was done")

    def _live(self) -> None:
        while not self._ended.wait(self.beat):
            if not self.place.beat(self.owner):
                return


def myself() -> Owner:
    """Return this process as the owner of a lease that is taken now."""
    return Owner(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        place=_place(),
        process=os.getpid(),
        began=_began(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
    )


def _began(process: int) -> float:
    """Return when a process started, in seconds since the boot, which no set clock moves."""
    import psutil

    return float(psutil.Process(process).create_time() - psutil.boot_time())


def _place() -> str:
    """Return what this machine, its boot and this container are known by."""
    marks = [socket.gethostname()]
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        marks.append(file.read().strip())
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(marks)
