"""LZF, the compression of h5py's lzf filter: bytes to bytes, no HDF5 (liblzf's stream format).

Places are unsigned: numba then leaves out the test for negative indexes, which halves the time.
A constant stands in ``U(...)`` because numba makes a float of an unsigned and a signed integer.
"""

from __future__ import annotations

import numpy as np

from h5dask.kernels.compile import Bytes, inlined, kernel

U = np.uint64

CORRUPT = -1
"""The stream ends inside an instruction, or points back before the first byte."""
NO_ROOM = -2
"""The result is longer than the target."""

_MOST_LITERALS = U(32)
_LONGEST_COPY = U(264)
_FARTHEST_COPY = U(8192)
_TABLE_BITS = 14


@kernel
def decompress(source: Bytes, target: Bytes) -> int:
    """Decode a stream into `target` and return the number of bytes written.

    Parameters
    ----------
    source : (nbytes,) uint8
        The stream.
    target : (room,) uint8
        Overwritten; bytes behind the decoded ones hold nothing of use.

    Returns
    -------
    int
        Bytes written, or `CORRUPT`, or `NO_ROOM`; no stream leads outside the arrays.

    Examples
    --------
    >>> import numpy as np
    >>> target = np.empty(9, np.uint8)
    >>> decompress(np.array([1, 7, 8, 160, 1], np.uint8), target)
    9
    >>> target.tolist()
    [7, 8, 7, 8, 7, 8, 7, 8, 7]
    """
    end, room = U(source.size), U(target.size)
    read = written = U(0)
    while read < end:
        control = U(source[read])
        read += U(1)
        if control < _MOST_LITERALS:
            length = control + U(1)
            if read + length > end:
                return CORRUPT
            if written + length > room:
                return NO_ROOM
            _copy_literals(source, read, target, written, length)
            read += length
        else:
            length = (control >> U(5)) + U(2)
            extended = U(length == U(9))
            if read + extended >= end:
                return CORRUPT
            if extended:
                length += U(source[read])
            read += extended
            back = ((control & U(31)) << U(8)) + U(source[read]) + U(1)
            read += U(1)
            if back > written:
                return CORRUPT
            if written + length > room:
                return NO_ROOM
            _copy_back(target, written, back, length)
        written += length
    return int(np.int64(written))


@inlined
def _copy_literals(source: Bytes, read: U, target: Bytes, written: U, length: U) -> None:
    """Copy up to 32 bytes: always 32 where there is room, which is a single vector move."""
    if read + _MOST_LITERALS <= U(source.size) and written + _MOST_LITERALS <= U(target.size):
        for i in range(_MOST_LITERALS):
            target[written + i] = source[read + i]
    else:
        for i in range(length):
            target[written + i] = source[read + i]


@inlined
def _copy_back(target: Bytes, written: U, back: U, length: U) -> None:
    """Repeat bytes that lie `back` bytes earlier, which may overlap those they become."""
    origin = written - back
    if back >= U(16) and written + length + U(16) <= U(target.size):
        for start in range(U(0), length, U(16)):
            for i in range(U(16)):
                target[written + start + i] = target[origin + start + i]
    elif back == U(1):
        value = target[origin]
        for i in range(length):
            target[written + i] = value
    else:
        for i in range(length):
            target[written + i] = target[origin + i]


@kernel
def compress(source: Bytes, target: Bytes) -> int:
    """Encode bytes greedily and return the length of the stream, or `NO_ROOM`.

    Equal bytes give an equal stream. A target of ``n + n // 32 + 1`` bytes has room for any
    source of n bytes.

    Parameters
    ----------
    source : (nbytes,) uint8
        What to encode, shorter than 4 GiB.
    target : (room,) uint8
        Overwritten; bytes behind the stream hold nothing of use.

    Examples
    --------
    >>> import numpy as np
    >>> target = np.empty(100, np.uint8)
    >>> n = compress(np.array([7, 8, 7, 8, 7, 8, 7, 8, 7], np.uint8), target)
    >>> target[:n].tolist()
    [1, 7, 8, 160, 1]
    """
    # The place after the first of the three bytes that last had this hash; 0 for none.
    last_seen = np.zeros(1 << _TABLE_BITS, np.uint32)
    end, room = U(source.size), U(target.size)
    read = written = pending = U(0)
    while read + U(2) < end:
        slot = _slot(source, read)
        back = read + U(1) - U(last_seen[slot])
        known = last_seen[slot] > 0 and back <= _FARTHEST_COPY
        last_seen[slot] = read + U(1)
        length = _common(source, read - back, read) if known else U(0)
        if length < U(3):
            read += U(1)
            continue
        written = _put_literals(source, pending, read, target, written)
        if written + U(3) > room:
            return NO_ROOM
        written = _put_copy(length, back - U(1), target, written)
        pending = read + length
        # Remembering the last two places of a match finds nearly all that every place would.
        for place in range(pending - U(2), min(pending, end - U(2))):
            last_seen[_slot(source, U(place))] = place + U(1)
        read = pending
    written = _put_literals(source, pending, end, target, written)
    return int(np.int64(written)) if written <= room else NO_ROOM


@inlined
def _slot(source: Bytes, at: U) -> U:
    """Return the hash of the three bytes at a place (Knuth's multiplicative hash)."""
    low, middle, high = source[at], source[at + U(1)], source[at + U(2)]
    three = np.uint32(low) | np.uint32(middle) << np.uint32(8) | np.uint32(high) << np.uint32(16)
    return U(np.uint32(three * np.uint32(2654435761)) >> np.uint32(32 - _TABLE_BITS))


@inlined
def _common(source: Bytes, origin: U, read: U) -> U:
    """Return how many bytes from `origin` on repeat those from `read` on."""
    most = min(_LONGEST_COPY, U(source.size) - read)
    length = U(0)
    while length < most and source[origin + length] == source[read + length]:
        length += U(1)
    return length


@inlined
def _put_literals(source: Bytes, start: U, stop: U, target: Bytes, written: U) -> U:
    """Write bytes as they are, in runs; return the new length, past the target without room."""
    while start < stop:
        length = min(_MOST_LITERALS, stop - start)
        if written + U(1) + length > U(target.size):
            return U(target.size) + U(1)
        target[written] = length - U(1)
        written += U(1)
        _copy_literals(source, start, target, written, length)
        written += length
        start += length
    return written


@inlined
def _put_copy(length: U, back: U, target: Bytes, written: U) -> U:
    """Write the order to repeat `length` bytes from `back` + 1 earlier; return the new length."""
    if length < U(9):
        target[written] = (length - U(2)) << U(5) | back >> U(8)
        target[written + U(1)] = back & U(255)
        return written + U(2)
    target[written] = U(7) << U(5) | back >> U(8)
    target[written + U(1)] = length - U(9)
    target[written + U(2)] = back & U(255)
    return written + U(3)


def call_each() -> None:
    """Call every kernel of this file once."""
    source, target = np.zeros(8, np.uint8), np.zeros(16, np.uint8)
    n = compress(source, target)
    decompress(target[:n], source)
