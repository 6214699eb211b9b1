"""The two bytes of an HDF5 object header that say when a dataset's space is allocated and filled.

A closed file is patched; h5py is not involved. Structures and names follow the HDF5 File Format
Specification, section IV.A.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import CorruptInput

Words = NDArray[np.uint32]

_FILL_VALUE = 0x05
_CONTINUATION = 0x10
_GUESS = 512
"""Bytes read at first: most datasets' headers are shorter."""


@dataclass(frozen=True, slots=True)
class SpaceTimes:
    """When one dataset's space shall be said to be allocated and filled."""

    address: int
    """Byte offset of the dataset's object header."""
    alloc_time: int
    """HDF5's space allocation time: 1 early, 2 late, 3 incremental."""
    fill_time: int
    """HDF5's fill time: 0 at allocation, 1 never, 2 if set."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A piece of an object header with its messages: the header itself or a continuation."""

    offset: int
    raw: bytearray
    first: int
    """Where messages begin."""
    end: int
    """Where messages end."""
    prefix: int
    """Bytes of a message before its body; 8 in version 1 of the header, 4 or 6 in version 2."""
    checked: bool
    """Whether the last four bytes are a checksum of the rest."""


def set_space_times(path: str, times: Iterable[SpaceTimes]) -> None:
    """Rewrite allocation and fill time in the fill-value message of each dataset's header.

    Parameters
    ----------
    path : str
        A closed HDF5 file without a user block.
    times : iterable of SpaceTimes
        What to write, and where. Memory: a few hundred bytes for each.

    Raises
    ------
    CorruptInput
        Where a header or its fill-value message isn't one that is known; nothing is changed.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        blocks = [_patched(path, file, wanted) for wanted in times]
        _renew_checksums(blocks)
        for block in blocks:
            os.pwrite(file, block.raw, block.offset)
    finally:
        os.close(file)


def _patched(path: str, file: int, wanted: SpaceTimes) -> _Block:
    """Return the header block that holds the fill-value message, changed."""
    for block in _blocks(path, file, wanted.address):
        for kind, body, _ in _messages(block):
            if kind == _FILL_VALUE:
                _change(path, block, body, wanted)
                return block
    raise _unknown(path, wanted.address, "no fill-value message", "one")


def _change(path: str, block: _Block, body: int, wanted: SpaceTimes) -> None:
    version = block.raw[body]
    if version == 2:
        block.raw[body + 1] = wanted.alloc_time
        block.raw[body + 2] = wanted.fill_time
    elif version == 3:
        kept = block.raw[body + 1] & 0b11110000
        block.raw[body + 1] = kept | wanted.fill_time << 2 | wanted.alloc_time
    else:
        raise _unknown(path, wanted.address, f"a fill-value message of version {version!r}", "2, 3")


def _blocks(path: str, file: int, address: int) -> Iterator[_Block]:
    """Yield the header's blocks, in the order in which they are chained."""
    waiting = [_first_block(path, file, address)]
    seen = {address}
    while waiting:
        block = waiting.pop(0)
        yield block
        for kind, body, _ in _messages(block):
            if kind == _CONTINUATION:
                offset, nbytes = struct.unpack_from("<QQ", block.raw, body)
                if offset not in seen:
                    seen.add(offset)
                    raw = _read(path, file, offset, nbytes)
                    edge = 4 if block.checked else 0
                    end = nbytes - edge
                    waiting.append(_Block(offset, raw, edge, end, block.prefix, block.checked))


def _first_block(path: str, file: int, address: int) -> _Block:
    head = os.pread(file, _GUESS, address)
    if head[:4] == b"OHDR" and head[4:5] == b"\x02":
        flags = head[5]
        at = 6 + (16 if flags & 0b100000 else 0) + (4 if flags & 0b10000 else 0)
        width = 1 << (flags & 0b11)
        first = at + width
        end = first + int.from_bytes(head[at:first], "little")
        prefix, checked = (6 if flags & 0b100 else 4), True
    elif head[:1] == b"\x01":
        first, prefix, checked = 16, 8, False
        end = first + int.from_bytes(head[8:12], "little")
    else:
        raise _unknown(path, address, f"bytes {head[:4]!r}", "an object header")
    nbytes = end + (4 if checked else 0)
    raw = bytearray(head[:nbytes]) if nbytes <= len(head) else _read(path, file, address, nbytes)
    return _Block(address, raw, first, end, prefix, checked)


def _messages(block: _Block) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and size of each message's body."""
    at = block.first
    while at + block.prefix <= block.end:
        if block.checked:
            kind, nbytes = struct.unpack_from("<BH", block.raw, at)
        else:
            kind, nbytes = struct.unpack_from("<HH", block.raw, at)
        at += block.prefix
        yield kind, at, nbytes
        at += nbytes


def _read(path: str, file: int, offset: int, nbytes: int) -> bytearray:
    raw = os.pread(file, nbytes, offset)
    if len(raw) < nbytes:
        raise _unknown(path, offset, f"{len(raw)} bytes", f"{nbytes} of an object header")
    return bytearray(raw)


def _unknown(path: str, address: int, found: str, expected: str) -> CorruptInput:
    return CorruptInput(
        f"{path}: at byte {address} found {found}, expected {expected}; "
        "write the file again with a release of HDF5 that h5py supports"
    )


def _renew_checksums(blocks: Iterable[_Block]) -> None:
    """Put the checksum of version 2 headers right, all headers of one length at a time."""
    of_length = defaultdict(list)
    for block in blocks:
        if block.checked:
            of_length[len(block.raw)].append(block)
    for nbytes, alike in of_length.items():
        raw = np.frombuffer(b"".join(block.raw for block in alike), np.uint8)
        for block, checksum in zip(alike, lookup3(raw.reshape(-1, nbytes)[:, :-4]), strict=True):
            block.raw[-4:] = int(checksum).to_bytes(4, "little")


def lookup3(rows: NDArray[np.uint8]) -> Words:
    """Return the checksum that HDF5 stores with metadata, of each row.

    Parameters
    ----------
    rows : (row, byte) uint8
        At least one byte a row. Memory: twice the rows.

    Returns
    -------
    (row,) uint32
        Bob Jenkins' lookup3 `hashlittle` with initial value 0.

    Examples
    --------
    >>> hex(lookup3(np.frombuffer(b"Four score and seven years ago", np.uint8)[None])[0])
    '0x17770551'
    """
    n_rows, nbytes = rows.shape
    padded = np.zeros((n_rows, -(-nbytes // 12) * 12), np.uint8)
    padded[:, :nbytes] = rows
    words = np.ascontiguousarray(padded.view("<u4").T).astype(np.uint32, copy=False)
    a = np.full(n_rows, (0xDEADBEEF + nbytes) & 0xFFFFFFFF, np.uint32)
    b, c = a.copy(), a.copy()
    for i in range(0, len(words) - 3, 3):
        a, b, c = _mixed(a + words[i], b + words[i + 1], c + words[i + 2])
    return _final(a + words[-3], b + words[-2], c + words[-1])


def _turned(x: Words, n: int) -> Words:
    turned: Words = x << np.uint32(n) | x >> np.uint32(32 - n)
    return turned


def _mixed(a: Words, b: Words, c: Words) -> tuple[Words, Words, Words]:
    for n, m, k in ((4, 6, 8), (16, 19, 4)):
        a = (a - c) ^ _turned(c, n)
        c = c + b
        b = (b - a) ^ _turned(a, m)
        a = a + c
        c = (c - b) ^ _turned(b, k)
        b = b + a
    return a, b, c


def _final(a: Words, b: Words, c: Words) -> Words:
    c = (c ^ b) - _turned(b, 14)
    a = (a ^ c) - _turned(c, 11)
    b = (b ^ a) - _turned(a, 25)
    c = (c ^ b) - _turned(b, 16)
    a = (a ^ c) - _turned(c, 4)
    b = (b ^ a) - _turned(a, 14)
    last: Words = (c ^ b) - _turned(b, 24)
    return last
