"""Bytes of an object in a store: what a read lacks is noted, then fetched by few requests at once.

Which requests are made is decided here; how one is made, and made again, is `stores`' matter.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from h5dask.storage import whole
from h5dask.storage.ahead import ahead
from h5dask.storage.ranges import truncated
from h5dask.storage.stores import Object, settings
from h5dask.storage.stores.trying import Whole, persistently

REQUEST = "4 MiB"
"""Bytes of one request at most, unless `h5dask.store-request` says else."""
GAP = "1 MiB"
"""Bytes between two ranges that may be fetched along, unless `h5dask.store-gap` says else ..."""
_WASTE = 0.1
"""... as long as all of them are no more than this part of what is wanted, ..."""
_CHEAP = 4096
"""... or fewer than this: a request costs a store and the network as much."""
IN_FLIGHT = "256 MiB"
"""Bytes of all requests under way in a process, unless `h5dask.store-in-flight` says else."""
CONNECTIONS = 128
"""Requests under way in a process, unless `h5dask.store-connections` says else."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Span = tuple[int, int]
"""First byte of a range, and the one behind its last."""


@dataclass(slots=True)
class Passes:
    """An open object, read in passes until nothing is missing: a `Ranges`.

    `gathering`, a read of bytes that aren't here notes them, fills nothing and says so; `fetch`
    then brings all of them at once, and the same reads succeed. Else a read fetches what it needs.
    """

    url: str
    """What errors call it."""
    held: Object
    """The object."""
    nbytes: int
    """Its size when it was opened."""
    mark: str
    """What it was then; it is read as that, or not at all."""
    gathering: bool = False
    noted: list[Span] = field(default_factory=list)
    """What is missing."""
    starts: list[int] = field(default_factory=list)
    parts: list[memoryview] = field(default_factory=list)
    """What is here, by its first byte."""
    given_up: bool = False
    """Whether nobody waits any more for what is under way: it isn't tried again."""

    def read_into(self, offset: int, into: memoryview) -> bool:
        """Fill `into`; False where its bytes aren't here yet."""
        return self.read_parts(offset, [into])

    def read_parts(self, offset: int, parts: Sequence[memoryview]) -> bool:
        """Fill one part after the other; False where bytes aren't here yet."""
        wanted = sum(part.nbytes for part in parts)
        if offset < 0 or offset + wanted > self.nbytes:
            raise truncated(self.url, offset, wanted, max(0, self.nbytes - max(0, offset)))
        if not self._has(offset, offset + wanted):
            self.noted.append((offset, offset + wanted))
            if self.gathering:
                return False
            self.fetch()
        for part in parts:
            self._copy(offset, part)
            offset += part.nbytes
        return True

    def fetch(self, meanwhile: Callable[[], None] | None = None) -> bool:
        """Bring what was noted; False where nothing was.

        `meanwhile` is called once requests are under way, before they are waited for.
        """
        if not self.noted:
            return False
        wanted, self.noted = self.noted, []
        found = fetched(self, coalesced(wanted), meanwhile)
        if self.gathering:  # a later pass needs what the first one did too
            found.update(zip(self.starts, self.parts, strict=True))
        self.starts = sorted(found)
        self.parts = [found[start] for start in self.starts]
        return True

    def _has(self, start: int, stop: int) -> bool:
        while start < stop:
            at = bisect_right(self.starts, start) - 1
            end = self.starts[at] + self.parts[at].nbytes if at >= 0 else start
            if end <= start:
                return False
            start = end
        return True

    def _copy(self, offset: int, into: memoryview) -> None:
        target = np.frombuffer(into, np.uint8)  # numpy copies without the interpreter's lock
        done = 0
        while done < into.nbytes:
            at = bisect_right(self.starts, offset + done) - 1
            inside = offset + done - self.starts[at]
            part = self.parts[at][inside : inside + into.nbytes - done]
            target[done : done + part.nbytes] = np.frombuffer(part, np.uint8)
            done += part.nbytes


def coalesced(wanted: Sequence[Span]) -> list[Span]:
    """Return the ranges to ask for: neighbors together, each of a size that is asked for at once.

    Ranges are put together where the bytes between them are few, the narrowest gaps first, until
    a tenth more than was wanted would be fetched.

    Examples
    --------
    >>> coalesced([(0, 10), (5, 20), (100_000, 100_010)])
    [(0, 20), (100000, 100010)]
    >>> coalesced([(0, 4096), (8000, 9000)])
    [(0, 9000)]
    """
    table = np.array(sorted(wanted), np.int64).reshape(-1, 2)
    ends = np.maximum.accumulate(table[:, 1])
    first = np.flatnonzero(np.concatenate([[True], table[1:, 0] > ends[:-1]]))
    starts, stops = table[first, 0], ends[np.append(first[1:] - 1, len(table) - 1)]
    gaps = starts[1:] - stops[:-1]
    order = np.argsort(gaps, kind="stable")
    spent = np.cumsum(gaps[order])
    cheap = spent <= _WASTE * int((stops - starts).sum())
    joined = np.zeros(len(gaps), np.bool_)
    joined[order] = cheap & (gaps[order] <= settings.nbytes("gap", GAP))
    joined |= gaps <= _CHEAP
    borders = np.flatnonzero(np.concatenate([[True], ~joined, [True]]))
    most = settings.nbytes("request", REQUEST)
    found: list[Span] = []
    for a, b in pairwise(borders.tolist()):
        found += cut(int(starts[a]), int(stops[b - 1]), most)
    return found


def cut(start: int, stop: int, most: int) -> Iterator[Span]:
    """Yield even parts of a range, none larger than `most`."""
    n = max(1, -(-(stop - start) // most))
    edges = [start + (stop - start) * i // n for i in range(n + 1)]
    return pairwise(edges)


def fetched(
    file: Passes, spans: Sequence[Span], meanwhile: Callable[[], None] | None = None
) -> dict[int, memoryview]:
    """Return the bytes of some ranges by their first byte, fetched at once."""
    known = whole.known(file.url, file.mark)
    if known is None:
        try:
            return dict(zip((a for a, _ in spans), _all(file, spans, meanwhile), strict=True))
        except Whole:
            known = whole.fetched(file.held, file.mark, file.nbytes)
    return {a: known[a:b] for a, b in spans}


def _all(
    file: Passes, spans: Sequence[Span], meanwhile: Callable[[], None] | None
) -> list[memoryview]:
    begun = [ahead.taken((file.url, file.mark, *span)) or _begun(file, span) for span in spans]
    try:
        if meanwhile is not None:
            meanwhile()
        return _results(begun)
    except BaseException:
        file.given_up = True
        raise


def ask_ahead(reader: Hashable, file: Passes) -> bool:
    """Ask for what was noted, as far as there is room, without waiting; False: there was none."""
    for span in coalesced(file.noted) if file.noted else ():
        if ahead.room() < span[1] - span[0]:
            return False
        ahead.ask(reader, (file.url, file.mark, *span), partial(_begun, file, span))
    return True


def _begun(file: Passes, span: Span) -> Future[memoryview]:
    return _pool(min(file.held.parallel, _connections())).submit(_one, file, span)


def _one(file: Passes, span: Span) -> memoryview:
    def attempt() -> memoryview:
        if file.given_up:
            raise CancelledError
        return file.held.get(*span, file.mark)

    with _budget.held(span[1] - span[0]):
        return persistently(file.url, attempt)


def several(do: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what a function that waits for a store gives for each item, many at once."""
    return _results([_waiting().submit(do, item) for item in items])


def _results(futures: Sequence[Future[Result]]) -> list[Result]:
    """Return what threads give; the first error ends what hasn't begun."""
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


class _Budget:
    """Bytes that may be under way at once in this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_under_way = 0

    @contextmanager
    def held(self, nbytes: int) -> Iterator[None]:
        """Wait until so many more bytes may be under way; a request larger than all goes alone."""
        most = settings.nbytes("in-flight", IN_FLIGHT)
        with self._changed:
            self._changed.wait_for(
                lambda: not self._n_under_way or self._n_under_way + nbytes <= most
            )
            self._n_under_way += nbytes
        try:
            yield
        finally:
            with self._changed:
                self._n_under_way -= nbytes
                self._changed.notify_all()


_budget = _Budget()


@lru_cache
def _pool(n: int) -> ThreadPoolExecutor:
    """Return the threads that make requests of stores that bear so many at once."""
    return ThreadPoolExecutor(n, thread_name_prefix="h5dask-store")


@lru_cache(maxsize=1)
def _waiting() -> ThreadPoolExecutor:
    """Return the threads that wait for those: of others, since these would wait for themselves."""
    return ThreadPoolExecutor(_connections(), thread_name_prefix="h5dask-objects")


def _connections() -> int:
    return settings.number("connections", CONNECTIONS)
