"""What HDF5's library can't be let at: it hangs in damaged heaps, and faults on unknown types.

Attributes of variable length are the only such values that it reads for us at opening; their
heaps are looked through first. Headers of a form unknown here are left to HDF5.

HDF5 File Format Specification 3.0: III.E (global heap), IV.A (object headers, attributes).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

from h5py import h5t

_V1_HEADER = struct.Struct("<BxHII")
_V1_MESSAGE = struct.Struct("<HHB3x")
_V2_MESSAGE = struct.Struct("<BHB")
_CONTINUATION = struct.Struct("<QQ")
_ATTR = struct.Struct("<BBHHH")
_DESCRIPTOR = struct.Struct("<IQI")
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")

_ATTR_ID, _CONTINUED_ID = 0x0C, 0x10
_VARIABLE_LENGTH = 9
_MOST_MESSAGES = 1 << 16
_MOST_KNOWN = 64


class Unsound(ValueError):
    """What can't be read, as one clause without file and path."""


def refuse_unknown(kind: Any) -> None:
    """Raise where a stored type is, or holds, a variable length of a kind that there isn't.

    Parameters
    ----------
    kind : h5py.h5t.TypeID
        The stored type.

    Raises
    ------
    Unsound
        Such a type; HDF5 faults when it reads values of it.
    """
    if isinstance(kind, h5t.TypeCompoundID):
        for i in range(kind.get_nmembers()):
            refuse_unknown(kind.get_member_type(i))
    elif isinstance(kind, h5t.TypeArrayID):
        refuse_unknown(kind.get_super())
    elif kind.get_class() == h5t.VLEN:
        found = kind.encode()[3] & 15
        if found:  # text, which is 1, is of HDF5's class STRING
            raise Unsound(f"a type of variable length of kind {found!r}, expected 0 or 1")
        refuse_unknown(kind.get_super())


class Heaps:
    """The heaps of one file in which its attributes of variable length lie.

    Parameters
    ----------
    view : memoryview
        The whole file.
    base : int
        What to add to addresses: the size of the user block.
    there : callable, optional
        Takes offset and size of bytes; whether they are here already. What an object's own header
        takes is: HDF5 has read it.
    """

    def __init__(
        self, view: memoryview, base: int, there: Callable[[int, int], bool] | None = None
    ) -> None:
        self._view = view
        self._base = base
        self._there = there
        self._known: dict[int, dict[int, int]] = {}

    def refuse_endless(self, address: int) -> None:
        """Raise where reading an object's attributes keeps HDF5 for ever, or takes gigabytes.

        Parameters
        ----------
        address : int
            Address of the object's header.

        Raises
        ------
        Unsound
            A heap whose free space has no size, or a value longer than its place in the heap.
        """
        try:
            for length, heap, index in _descriptors(self._view, self._base, address):
                sizes = self._sizes(self._base + heap)
                if length > sizes.get(index, length):
                    raise Unsound(
                        f"an attribute of {length:,} bytes, expected at most {sizes[index]:,}, "
                        f"the size of its place in the heap at offset {self._base + heap:,}"
                    )
        except (struct.error, IndexError):
            return  # metadata that is cut short, which HDF5 tells itself

    def _sizes(self, offset: int) -> dict[int, int]:
        if offset not in self._known:
            if self._there is not None and self._lacks(offset, self._there):
                raise Unsound("a heap that isn't here yet")
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[offset] = _object_sizes(self._view, offset)
        return self._known[offset]

    def _lacks(self, offset: int, there: Callable[[int, int], bool]) -> bool:
        if not there(offset, _COLLECTION.size):
            return True
        return not there(offset, _COLLECTION.unpack_from(self._view, offset)[2])


def _object_sizes(view: memoryview, offset: int) -> dict[int, int]:
    """Return the size of each object of a heap collection, walked as HDF5 walks it."""
    signature, _, nbytes = _COLLECTION.unpack_from(view, offset)
    at, end = offset + _COLLECTION.size, offset + nbytes
    if signature != b"GCOL":
        return {}
    if end > len(view):
        raise Unsound(f"a heap of {nbytes:,} bytes at offset {offset:,}, beyond the file's end")
    sizes: dict[int, int] = {}
    while at + _OBJECT.size <= end:
        index, _, _, size = _OBJECT.unpack_from(view, at)
        step = size if index == 0 else _OBJECT.size + -(-size // 8) * 8
        if not step:
            raise Unsound(f"free space of 0 bytes in the heap at offset {offset:,}")
        sizes[index] = size
        at += step
    return sizes


def _descriptors(view: memoryview, base: int, address: int) -> Iterator[tuple[int, int, int]]:
    """Yield length, heap and index of each value of an object's attributes of variable length."""
    for kind, flags, place, end in _messages(view, base, base + address):
        if kind != _ATTR_ID or flags & 2:
            continue
        version, shared, n_name, n_type, n_space = _ATTR.unpack_from(view, place)
        if version not in (1, 2, 3) or (version > 1 and shared):
            continue
        step = 8 if version == 1 else 1
        at = place + (9 if version == 3 else 8) + -(-n_name // step) * step
        is_variable = view[at] & 15 == _VARIABLE_LENGTH
        at += -(-n_type // step) * step
        first = at + -(-n_space // step) * step
        n = min(_n_values(view, at), (end - first) // _DESCRIPTOR.size) if is_variable else 0
        for i in range(n):
            length, heap, index = _DESCRIPTOR.unpack_from(view, first + i * _DESCRIPTOR.size)
            if length:
                yield length, heap, index


def _n_values(view: memoryview, place: int) -> int:
    """Return the number of values of a dataspace; of a null one none."""
    version, rank = view[place], view[place + 1]
    if version == 2 and view[place + 3] == 2:
        return 0
    return math.prod(struct.unpack_from(f"<{rank}Q", view, place + (8 if version == 1 else 4)))


def _messages(view: memoryview, base: int, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield kind, flags, place and end of each message of an object header."""
    if bytes(view[at : at + 5]) == b"OHDR\x02":
        flags, width = view[at + 5], 1 << (view[at + 5] & 3)
        place = at + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
        nbytes = int.from_bytes(view[place : place + width], "little")
        place += width
        head, more, edge = _V2_MESSAGE, 2 if flags & 4 else 0, 4
    elif view[at] == 1:
        nbytes = _V1_HEADER.unpack_from(view, at)[3]
        place, head, more, edge = at + 16, _V1_MESSAGE, 0, 0
    else:
        return
    blocks, seen = [(place, place + nbytes)], 0
    for first, last in blocks:
        place = first
        while place + head.size + more <= last and seen < _MOST_MESSAGES:
            kind, size, flags = head.unpack_from(view, place)
            place += head.size + more
            if kind == _CONTINUED_ID:
                offset, length = _CONTINUATION.unpack_from(view, place)
                blocks.append((base + offset + edge, base + offset + length - edge))
            yield kind, flags, place, place + size
            place += size
            seen += 1
