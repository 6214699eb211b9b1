"""What is read next of a variable that is read from end to end: asked for before it is wanted.

Two threads that wait for one block each leave a long link idle. Dask may begin at either end. Who
reads in another order, or shares the blocks with other processes, soon isn't read ahead for any
more.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from h5dask.storage.stores import settings

AHEAD = "64 MiB"
"""Bytes that are asked for before they are wanted, unless `h5dask.store-ahead` says else."""
_SECONDS = 10.0
"""After which a request that nobody came for was in vain."""
_RECENT = 8
_READERS = 64

Key = tuple[str, str, int, int]
"""URL, mark, first byte and the one behind the last."""


@dataclass(frozen=True, slots=True)
class _Request:
    reader: Hashable
    made: float
    future: Future[memoryview]


@dataclass(slots=True)
class _Reader:
    """Where one has been who reads a variable run by run, and where that leads."""

    recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    way: int = 0
    """1 towards the last row, -1 towards the first, 0 neither."""
    asked: int | None = None
    """Row up to which all was asked for, that way."""
    given_up: bool = False

    def leads(self, start: int, stop: int) -> int:
        """Return which way these rows go on from recent ones; where from both, as before."""
        up = any(start == end for _, end in self.recent)
        down = any(stop == begin for begin, _ in self.recent)
        return self.way if up and down else up - down


class Ahead:
    """The requests that nobody has wanted yet, in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Key, _Request] = {}
        self._readers: OrderedDict[Hashable, _Reader] = OrderedDict()

    def follows(self, reader: Hashable, start: int, stop: int) -> bool:
        """Whether a run of rows goes on where the reader has just been; it is remembered."""
        with self._lock:
            self._drop(lambda one: one.made < time.monotonic() - _SECONDS)
            known = self._readers.setdefault(reader, _Reader())
            self._readers.move_to_end(reader)
            if len(self._readers) > _READERS:
                self._readers.popitem(last=False)
            way = known.leads(start, stop)
            if way != known.way:
                known.way, known.asked = way, None
            known.recent.append((start, stop))
            return way != 0 and not known.given_up

    def runs(self, reader: Hashable, start: int, stop: int, n: int) -> Iterator[slice]:
        """Yield the runs behind this one, of its size, of which nothing was asked for yet.

        Each counts as asked for when the next one is wanted.
        """
        size = stop - start
        with self._lock:
            known = self._readers.get(reader, _Reader())
            way = known.way
            at = stop if way > 0 else start
            if known.asked is not None:
                at = max(at, known.asked) if way > 0 else min(at, known.asked)
        while way and (at < n if way > 0 else at > 0):
            run = slice(at, min(at + size, n)) if way > 0 else slice(max(at - size, 0), at)
            yield run
            at = run.stop if way > 0 else run.start
            with self._lock:
                if known.way == way:
                    known.asked = at

    def room(self) -> int:
        """Return how many more bytes may be asked for."""
        most = settings.nbytes("ahead", AHEAD)
        with self._lock:
            return most - sum(stop - start for _, _, start, stop in self._asked)

    def ask(self, reader: Hashable, key: Key, request: Callable[[], Future[memoryview]]) -> None:
        """Make a request, unless it is under way."""
        with self._lock:
            if key not in self._asked:
                self._asked[key] = _Request(reader, time.monotonic(), request())

    def taken(self, key: Key) -> Future[memoryview] | None:
        """Return the request for a range that is wanted now, if it was made and didn't fail."""
        with self._lock:
            one = self._asked.pop(key, None)
        if one is None or (one.future.done() and one.future.exception() is not None):
            return None
        return one.future

    def _drop(self, unwanted: Callable[[_Request], bool]) -> None:
        """Let go of requests, and read no more ahead for those who didn't come for them."""
        for key in [key for key, one in self._asked.items() if unwanted(one)]:
            one = self._asked.pop(key)
            one.future.cancel()
            if one.reader in self._readers:
                self._readers[one.reader].given_up = True


ahead = Ahead()
