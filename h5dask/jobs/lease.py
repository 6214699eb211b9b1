"""Who works on an output: a file made in one step, kept fresh, taken over when its owner is gone.

The lease saves work. That an output is right never rests on it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from h5dask.errors import AccessDenied, Conflict, NotFound
from h5dask.jobs.state import LEASE
from h5dask.storage.remote import translated

BEAT = 5.0
"""Seconds between two signs of life."""
EXPIRY = 30.0
"""Seconds without one after which a lease is anyone's."""
_ATTEMPTS = 10
"""How often a folder of state that comes and goes is made again."""


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
    """When that process started, since numbers are used again."""
    since: str
    """When the lease was taken, in UTC."""

    def is_gone(self) -> bool:
        """Whether its process surely runs no more; False where that can't be known from here."""
        if self.place != _place():
            return False
        import psutil

        try:
            return abs(float(psutil.Process(self.process).create_time()) - self.began) > 1
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


class Held(Conflict):
    """Somebody else works on the output."""


def held_by(owner: Owner, output: str) -> Held:
    """Return the error that names who works on an output."""
    return Held(
        f"{output}: process {owner.process} on {owner.host} works on it since {owner.since}; "
        "nothing was done"
    )


class Lease:
    """The right to work on an output, for as long as the `with` block lasts.

    Parameters
    ----------
    path : str
        Of the lease's file; its folder is there.
    output : str
        For messages.
    beat, expiry : float
        Seconds; a holder from whom nothing was seen for `expiry` has lost it.

    Raises
    ------
    Held
        Somebody else holds it.
    """

    enforced = True
    """It is had in one step."""

    def __init__(
        self, path: str, output: str, *, beat: float = BEAT, expiry: float = EXPIRY
    ) -> None:
        self.path, self.output, self.beat, self.expiry = path, output, beat, expiry
        self.owner = myself()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._live, name="lease", daemon=True)

    def __enter__(self) -> Self:
        while not self._made():
            held = _read(self.path)
            if held is None and os.path.exists(self.path) and not self._expired():
                raise Held(f"{self.output}: another run has just begun; nothing was done")
            if held is not None and not (held.is_gone() or self._expired()):
                raise held_by(held, self.output)
            self._take_away(held)
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._heart.join()
        if self.holds():
            _unlink(self.path)

    def holds(self) -> bool:
        """Whether it is still ours: a process that was frozen may have lost it."""
        return _read(self.path) == self.owner

    def _made(self) -> bool:
        """Make the file with all it holds in one step; False where one is there."""
        temporary = f"{self.path}.{self.owner.token}"
        with translated(self.path):
            with open(temporary, "x", encoding="utf-8") as file:
                json.dump(asdict(self.owner), file)
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                return False
            finally:
                _unlink(temporary)
        return True

    def _expired(self) -> bool:
        """Whether nothing was heard of the holder for long, by the filesystem's own clock."""
        probe = f"{self.path}.{self.owner.token}.now"
        try:
            with open(probe, "x"):
                pass
            return os.stat(probe).st_mtime - os.stat(self.path).st_mtime > self.expiry
        except FileNotFoundError:
            return False
        finally:
            _unlink(probe)

    def _take_away(self, judged: Owner | None) -> None:
        """Remove the lease of the owner who was judged, and of nobody who came since."""
        aside = f"{self.path}.{self.owner.token}.old"
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if _read(aside) != judged:
            with suppress(OSError):
                os.link(aside, self.path)
        _unlink(aside)

    def _live(self) -> None:
        while not self._ended.wait(self.beat):
            if not self.holds():
                return
            with suppress(OSError):
                os.utime(self.path)


@contextmanager
def leased(folder: str, output: str) -> Iterator[Lease]:
    """Hold a lease in a folder of state, which is made, and goes where nothing in it is of use."""
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        yield _entered(folder, output, stack)


def _entered(folder: str, output: str, stack: ExitStack) -> Lease:
    for attempt in range(_ATTEMPTS):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise AccessDenied(
                f"{folder}: can't be made ({error.strerror}); a run keeps its state there: check "
                "the permissions"
            ) from None
        try:
            return stack.enter_context(Lease(os.path.join(folder, LEASE), output))
        except NotFound:  # another run ended just now, and took its folder along
            time.sleep(0.01 * attempt)
    raise Conflict(f"{output}: its folder of state comes and goes; try again")


def _remove_empty(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def _unlink(path: str) -> None:
    # Whoever holds the lease clears up, and may come first.
    with suppress(FileNotFoundError):
        os.unlink(path)


def _read(path: str) -> Owner | None:
    try:
        with open(path, encoding="utf-8") as file:
            return Owner(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def myself() -> Owner:
    """Return this process as the owner of a lease that is taken now."""
    import psutil

    return Owner(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        place=_place(),
        process=os.getpid(),
        began=float(psutil.Process().create_time()),
        since=time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
    )


def _place() -> str:
    """Return what this machine, its boot and this container are known by."""
    marks = [socket.gethostname()]
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        marks.append(file.read().strip())
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(marks)
