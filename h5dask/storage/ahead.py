"""What is read next of a variable that is read from end to end: asked for before it is wanted.

Two threads that wait for one block each leave a long link idle. Who reads in another order, or
shares the blocks with other processes, soon isn't read ahead for any more.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

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


class Ahead:
    """The requests that nobody has wanted yet, in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Key, _Request] = {}
        self._read: OrderedDict[Hashable, deque[tuple[int, int]]] = OrderedDict()
        self._given_up: set[Hashable] = set()
        self._until: dict[Hashable, int] = {}

    def next_row(self, reader: Hashable, stop: int) -> int:
        """Return the row from which on nothing was asked for yet."""
        with self._lock:
            return max(stop, self._until.get(reader, 0))

    def reached(self, reader: Hashable, stop: int) -> None:
        """Remember up to which row all was asked for."""
        with self._lock:
            self._until[reader] = stop

    def follows(self, reader: Hashable, start: int, stop: int) -> bool:
        """Whether a run of rows goes on where the reader has just been; it is remembered."""
        with self._lock:
            self._drop(lambda one: one.made < time.monotonic() - _SECONDS)
            recent = self._read.setdefault(reader, deque(maxlen=_RECENT))
            self._read.move_to_end(reader)
            if len(self._read) > _READERS:
                gone, _ = self._read.popitem(last=False)
                self._given_up.discard(gone)
                self._until.pop(gone, None)
            if stop < self._until.get(reader, 0) and start == 0:
                self._until.pop(reader)  # it begins anew
            followed = any(start == end for _, end in recent)
            recent.append((start, stop))
            return followed and reader not in self._given_up

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
            self._given_up.add(one.reader)


ahead = Ahead()
