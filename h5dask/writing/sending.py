"""One block's values -> the parts of an upload: whole ones are sent, the rest goes on in fragments.

What a task does, wherever it runs. Which parts a block fills by itself is known elsewhere.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import Ints
from h5dask.errors import CorruptInput
from h5dask.storage.stores.uploads import Part, Upload, part_nbytes, put_part
from h5dask.storage.write import laid_out
from h5dask.writing.placing import Target, Written, boxes_of, counted

_UNDER_WAY = 32 << 20
"""Bytes of whole parts that one task may have under way."""

Patches = Sequence[tuple[int, bytes]]
"""Bytes of the skeleton in a part: where in it each run of them begins, and the run."""


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """What one block has in one part."""

    at: Ints
    """Where in the part each run begins."""
    nbytes: Ints
    """Bytes of each run."""
    raw: NDArray[np.uint8]
    """The bytes of all runs, end to end."""

    def lay(self, part: memoryview) -> None:
        """Put the runs in their places."""
        raw, done = memoryview(self.raw), 0
        for at, n in zip(self.at.tolist(), self.nbytes.tolist(), strict=True):
            part[at : at + n] = raw[done : done + n]
            done += n


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """What became of one block: whole parts were sent, the rest is in fragments."""

    written: Written
    parts: tuple[Part, ...]
    fragments: Mapping[int, Fragment]
    """By the part's place, from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """Where the parts of one file go."""

    upload: Upload
    nbytes: int
    """The file's size."""
    alone: NDArray[np.bool_]
    """Of each part, whether one block fills it by itself."""

    def nbytes_of(self, part: int) -> int:
        """Return the size of a part; the last one may be smaller."""
        size = part_nbytes(self.nbytes)
        return min(size, self.nbytes - part * size)


def send_block(block: NDArray[Any], target: Target, at: tuple[int, ...], sending: Sending) -> Sent:
    """Send the parts that one block fills by itself, and return the rest in fragments."""
    rest: dict[int, _Rest] = defaultdict(_Rest)
    size = part_nbytes(sending.nbytes)
    with _Sender(sending) as sender:
        for (dtype, fill), boxes in boxes_of(block, target, at):
            for raw, offset in laid_out(target.file, boxes, dtype, fill):
                done, view = 0, memoryview(raw)
                for part, place, n in by_part(offset, raw.nbytes, size):
                    mine = view[done : done + n]
                    if sending.alone[part]:
                        sender.add(part, place, mine)
                    else:
                        rest[part].add(place, mine)
                    done += n
        parts = sender.finish()
    fragments = {part: one.fragment() for part, one in rest.items()}
    return Sent(Written(counted(target, at)), tuple(parts), fragments)


@dataclass(slots=True)
class _Rest:
    """A fragment while it is gathered."""

    at: list[int] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)

    def add(self, place: int, raw: memoryview) -> None:
        if self.at and self.at[-1] + self.nbytes[-1] == place:
            self.nbytes[-1] += len(raw)
        else:
            self.at.append(place)
            self.nbytes.append(len(raw))
        self.raw += raw

    def fragment(self) -> Fragment:
        return Fragment(np.array(self.at), np.array(self.nbytes), np.frombuffer(self.raw, np.uint8))


class _Sender:
    """Sends whole parts while the next ones are filled, a few at a time."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._most = max(1, _UNDER_WAY // part_nbytes(sending.nbytes))
        self._filling: dict[int, tuple[bytearray, list[int]]] = {}
        self._under_way: deque[Future[Part]] = deque()
        self._sent: list[Part] = []
        self._threads = ThreadPoolExecutor(self._most)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def add(self, part: int, place: int, raw: memoryview) -> None:
        """Put bytes in their part, and send it once it is full."""
        if part not in self._filling:
            self._filling[part] = bytearray(self._sending.nbytes_of(part)), [0]
        content, filled = self._filling[part]
        content[place : place + len(raw)] = raw
        filled[0] += len(raw)
        if filled[0] == len(content):
            self._send(part)

    def finish(self) -> list[Part]:
        """Send what has zeros between its values too, and return all that was sent."""
        for part in list(self._filling):
            self._send(part)
        while self._under_way:
            self._sent.append(self._under_way.popleft().result())
        return self._sent

    def _send(self, part: int) -> None:
        while len(self._under_way) >= self._most:
            self._sent.append(self._under_way.popleft().result())
        content, _ = self._filling.pop(part)
        sent = self._threads.submit(put_part, self._sending.upload, part + 1, content)
        self._under_way.append(sent)


def send_joined(
    fragments: Sequence[Fragment], patches: Patches, part: int, nbytes: int, sending: Sending
) -> list[Part]:
    """Send a part that is put together from fragments and the skeleton's bytes."""
    found = sum(len(fragment.raw) for fragment in fragments)
    if found != nbytes:
        raise CorruptInput(
            f"{sending.upload.url}: part {part + 1:,} got {found:,} of {nbytes:,} bytes; nothing "
            "was published; write it again"
        )
    content = bytearray(sending.nbytes_of(part))
    view = memoryview(content)
    for at, raw in patches:
        view[at : at + len(raw)] = raw
    for fragment in fragments:
        fragment.lay(view)
    return [put_part(sending.upload, part + 1, content)]


def by_part(offset: int, nbytes: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield part, place in it and length of each piece of a run of bytes."""
    while nbytes:
        part, at = divmod(offset, size)
        n = min(nbytes, size - at)
        yield part, at, n
        offset, nbytes = offset + n, nbytes - n
