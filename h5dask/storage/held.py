"""What of an object is here, for HDF5's library: it sees bytes at hand, and no network.

HDF5 holds one lock for the whole process. A read that waited in it for a store, or for a thread
that needs the lock itself, would stop everything. So what HDF5 lacks is noted, it gives up, the
bytes are fetched, and it begins again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from h5dask.storage import whole
from h5dask.storage.fetching import Passes, Span, fetched
from h5dask.storage.ranges import truncated
from h5dask.storage.space import full_disk_told

Result = TypeVar("Result")
GRAIN = 256 * 2**10
"""Bytes that are here together, or not."""
FIRST = 4 * 2**20
"""Bytes that are fetched from the beginning on ..."""
LARGEST = 16 * 2**20
"""... and from a place that was missed: twice as many each time, until so many."""
_MOST_WALKS = 6
_MOST_PART = 0.25
"""After so many walks, or with this part of the object here, all of it is fetched."""
_AT_ONCE = 8 * 2**20


class Lacking(OSError):
    """Bytes aren't here yet."""


class Held(io.RawIOBase):
    """The bytes of an object that are here, as a file that is read.

    Parameters
    ----------
    file : Passes
        The open object.
    """

    def __init__(self, file: Passes) -> None:
        super().__init__()
        self.file = file
        self.missed: list[int] = []
        """Where bytes were wanted that aren't here."""
        self.nbytes = file.nbytes
        self._at = 0
        self._number, self.view = whole.scratch(max(1, self.nbytes))
        self._here = np.zeros(-(-self.nbytes // GRAIN), np.bool_)

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are here."""
        return bool(self._here.all())

    @property
    def part(self) -> float:
        """Which part of the object is here."""
        return float(self._here.mean()) if len(self._here) else 1.0

    def there(self, offset: int, nbytes: int) -> bool:
        """Whether bytes are here; where not, they are noted as missed."""
        grains = self._here[offset // GRAIN : -(-min(offset + nbytes, self.nbytes) // GRAIN)]
        if grains.all():
            return True
        self.missed.append((offset // GRAIN + int(np.argmin(grains))) * GRAIN)
        return False

    def bring(self, spans: Sequence[Span]) -> None:
        """Fetch ranges, whole grains of them that aren't here, at once."""
        wanted = np.zeros(len(self._here) + 1, np.bool_)
        for start, stop in spans:
            wanted[start // GRAIN : -(-min(stop, self.nbytes) // GRAIN)] = True
        wanted[:-1] &= ~self._here
        borders = np.flatnonzero(np.diff(wanted, prepend=False)).reshape(-1, 2) * GRAIN
        parts = [
            (at, min(at + _AT_ONCE, stop, self.nbytes))
            for start, stop in borders.tolist()
            for at in range(start, stop, _AT_ONCE)
        ]
        for start, content in fetched(self.file, parts).items():
            self._keep(start, content)

    def _keep(self, start: int, content: memoryview) -> None:
        stop = start + content.nbytes
        with full_disk_told(self.file.url):
            done = 0
            while done < content.nbytes:
                done += os.pwrite(self._number, content[done:], start + done)
        self._here[-(-start // GRAIN) : stop // GRAIN if stop < self.nbytes else None] = True

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Fill `into`, as open bytes do."""
        return self.read_parts(offset, [into])

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> bool:
        """Fill one part after the other; `Lacking` where bytes aren't here."""
        wanted = sum(part.nbytes for part in parts)
        if offset < 0 or offset + wanted > self.nbytes:
            raise truncated(self.file.url, offset, wanted, max(0, self.nbytes - max(0, offset)))
        if not self.there(offset, wanted):
            raise Lacking
        for part in parts:
            part[:] = self.view[offset : offset + part.nbytes]
            offset += part.nbytes
        return True

    def readinto(self, into: object) -> int:
        """Read as a file does, for HDF5."""
        target = memoryview(into).cast("B")  # type: ignore[arg-type]
        n = max(0, min(target.nbytes, self.nbytes - self._at))
        self.read_into(self._at, target[:n])
        self._at += n
        return n

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.nbytes}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it has places."""
        return True

    def close(self) -> None:
        """Let go of the bytes."""
        if not self.closed:
            os.close(self._number)
        super().close()


@contextmanager
def held(file: Passes) -> Iterator[Held]:
    """Give an open object as a file of which the beginning is here."""
    with Held(file) as made:
        all_of_it = made.nbytes if made.nbytes <= LARGEST else FIRST
        made.bring([(0, all_of_it)] if made.nbytes else [])
        yield made


def walked(made: Held, walk: Callable[[], Result]) -> Result:
    """Return what a walk through the metadata gives, once all that it needs is here.

    Parameters
    ----------
    made : Held
        The file that it walks through.
    walk : callable
        Begins anew each time. Where it lacks bytes it may raise any error, or go on elsewhere.
    """
    step = FIRST
    for n in range(1, _MOST_WALKS + 2):
        made.missed.clear()
        try:
            found = walk()
        except Exception:
            if not made.missed:
                raise
        else:
            if not made.missed:
                return found
        missed = sorted(set(made.missed))
        if n >= _MOST_WALKS or made.part > _MOST_PART:
            whole.refuse_large(made.file.url, made.nbytes)
            made.bring([(0, made.nbytes)])
        else:
            made.bring(_stretches(missed, step))
        step = min(LARGEST, 2 * step)
    made.missed.clear()
    return walk()


def _stretches(missed: Sequence[int], step: int) -> list[Span]:
    """Return what to fetch for the places that were missed: the stretches that they lie in."""
    return [(at * step, (at + 1) * step) for at in sorted({place // step for place in missed})]
