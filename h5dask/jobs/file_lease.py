"""A lease in a local file: made in one step, and touched at every beat."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import Any

from h5dask.errors import AccessDenied, Conflict, NotFound
from h5dask.jobs.lease import Lease, Owner, Seen
from h5dask.jobs.state import LEASE
from h5dask.storage.remote import translated

_ATTEMPTS = 10
"""How often a folder of state that comes and goes is made again."""


class LeaseFile:
    """The file of one lease; see `lease.Place`. Its folder is there.

    Parameters
    ----------
    path : str
        Its path.
    """

    enforced = True

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> Seen | None:
        """Return what is there; None where nothing is."""
        try:
            with translated(self.path), open(self.path, "rb") as file:
                state = os.fstat(file.fileno())  # of an opened file, which NFS asks the server for
                owner = _parsed(file.read())
        except NotFound:
            return None
        return Seen(owner, (state.st_ino, state.st_mtime_ns), state.st_mtime)

    def take(self, owner: Owner, there: Seen | None) -> bool:
        """Put a lease where that was seen, or nothing; False where somebody else came first."""
        if there is not None:
            self._take_away(owner, there.owner)
        temporary = f"{self.path}.{owner.token}"
        with translated(self.path):
            with open(temporary, "x", encoding="utf-8") as file:
                json.dump(asdict(owner), file)
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                return False
            finally:
                _unlink(temporary)
        return True

    def beat(self, owner: Owner) -> bool:
        """Give a sign of life; False where the lease is no longer the owner's."""
        with suppress(OSError):  # the next one may get through; `holds` tells in the end
            if not self._is_of(owner):
                return False
            os.utime(self.path)
        return True

    def leave(self, owner: Owner) -> None:
        """Remove the owner's lease, and nobody else's."""
        with suppress(OSError):  # what is done is done, and a lease that is left expires
            if self._is_of(owner):
                os.unlink(self.path)

    def _is_of(self, owner: Owner) -> bool:
        there = self.read()
        return there is not None and there.owner == owner

    def _take_away(self, owner: Owner, judged: Owner | None) -> None:
        """Remove the lease of the owner who was judged, and of nobody who came since."""
        aside = f"{self.path}.{owner.token}.old"
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        found = LeaseFile(aside).read()
        if found is not None and found.owner != judged:
            with suppress(OSError):
                os.link(aside, self.path)
        _unlink(aside)


@contextmanager
def leased(
    folder: str, output: str, say: Callable[[str], Any], *, expiry: float | None = None
) -> Iterator[Lease]:
    """Hold a lease in a folder of state, which is made, and goes where nothing in it is of use.

    Parameters as those of `Lease`.
    """
    lease = Lease(LeaseFile(os.path.join(folder, LEASE)), output, say, expiry=expiry)
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        _enter(lease, folder, stack)
        yield lease


def _enter(lease: Lease, folder: str, stack: ExitStack) -> None:
    """Make the folder, and enter the lease."""
    for attempt in range(_ATTEMPTS):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise AccessDenied(
                f"{folder}: can't be made ({error.strerror}); a run keeps its state there: check "
                "the permissions"
            ) from None
        try:
            stack.enter_context(lease)
            return
        except NotFound:  # another run ended just now, and took its folder along
            time.sleep(0.01 * attempt)
    raise Conflict(f"{lease.output}: its folder of state comes and goes; try again")


def _remove_empty(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):  # whoever holds the lease clears up, and may come first
        os.unlink(path)


def _parsed(content: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None
