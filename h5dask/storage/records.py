"""The metadata of one plain group and its datasets as one record of bytes: only numbers vary.

What HDF5's library would make, byte by byte, its spare room apart. Which groups are made so, and
where they go, is `stamping`'s matter.

HDF5 File Format Specification 3.0: IV.A (headers, messages).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from h5dask.contents import ArrayForm
from h5dask.storage import symboltable
from h5dask.storage.headers import INT64
from h5dask.storage.symboltable import Names

Ints = NDArray[np.int64]

_HEADER = struct.Struct("<BxHII4x")
_MESSAGE = struct.Struct("<HHB3x")
_PAIR = struct.Struct("<QQ")
_CONSTANT = 1
"""Flag of messages that never change."""
_SPACE_ID, _TYPE_ID, _FILL_ID, _LAYOUT_ID, _ATTR_ID, _TABLE_ID = 0x01, 0x03, 0x05, 0x08, 0x0C, 0x11
_SCALAR = b"\1" + bytes(7)
WORD = 8
"""Bytes to whose multiples all that has a place in metadata is padded."""
MOST_MEMBERS = symboltable.LEAF
"""Datasets that a record has room for."""


@dataclass(frozen=True, slots=True)
class Member:
    """One dataset that each group of a kind has."""

    name: str
    rank: int
    form: ArrayForm


@dataclass(frozen=True, slots=True)
class Kind:
    """What groups have in common that one record makes."""

    members: tuple[Member, ...]
    """Their datasets, in the order planned."""
    attrs: tuple[str, ...]
    """Names of their attributes, whole numbers of 8 bytes, in the order of creation."""


@dataclass(frozen=True, slots=True)
class Record:
    """The metadata of one group and its datasets, as it would lie at address 0."""

    raw: bytes
    addresses: tuple[int, ...]
    """Words that hold an address in the record."""
    numbers: tuple[int, ...]
    """Words that hold the value of each attribute."""
    sizes: tuple[int, ...]
    """First word of each member's shape, after which the same follows as its limits."""
    places: tuple[int, ...]
    """First byte of address and size of each member's values."""

    @classmethod
    def of(cls, kind: Kind) -> Record:
        """Return the record of groups of a kind: header, table, and headers of the datasets."""
        names = [member.name.encode() for member in kind.members]
        attrs = [_attr(name.encode()) for name in kind.attrs]
        datasets = [_dataset(member) for member in kind.members]
        text = Names.of(names)
        heap = _BODY_AT + _PAIR.size + sum(map(len, attrs))
        tree = heap + symboltable.HEAP_NBYTES + len(text.raw)
        node = tree + symboltable.TREE_NBYTES
        first = node + symboltable.NODE_NBYTES
        starts = np.array([*accumulate(map(len, datasets), initial=first)][:-1])
        order = sorted(range(len(names)), key=names.__getitem__)
        entries = symboltable.entries(text.offsets[order], starts[order])
        parts = [
            _header([_message(_TABLE_ID, _PAIR.pack(tree, heap)), *attrs]),
            symboltable.heap(len(text.raw), heap + symboltable.HEAP_NBYTES),
            text.raw,
            symboltable.level(0, np.array([node]), text.offsets[order[-1:]], tree).tobytes(),
            symboltable.nodes(entries).tobytes(),
            *datasets,
        ]
        addresses = [_BODY_AT, _BODY_AT + WORD, heap + symboltable.ADDRESS_IN_HEAP]
        addresses += [tree + symboltable.ADDRESS_IN_TREE]
        addresses += [node + place for place in symboltable.ADDRESSES_IN_NODE[: len(names)]]
        ends = accumulate(map(len, attrs), initial=_BODY_AT + _PAIR.size)
        return cls(
            b"".join(parts),
            tuple(place // WORD for place in addresses),
            tuple(end // WORD - 1 for end in [*ends][1:]),
            tuple((int(start) + _BODY_AT) // WORD + 1 for start in starts),
            tuple(
                int(start) + len(raw) - _LAYOUT_NBYTES + _BODY_AT - _HEADER.size + 2
                for start, raw in zip(starts, datasets, strict=True)
            ),
        )

    def filled(
        self, at: int, numbers: Ints, shapes: Sequence[Ints], places: Sequence[Ints]
    ) -> bytes:
        """Return the records of some groups, which lie from an address on.

        Parameters
        ----------
        at : int
            Address of the first.
        numbers : (group, attribute) int64
            Values of the attributes.
        shapes : sequence of (group, rank) int64
            Of each member.
        places : sequence of (group, 2) int64
            Address and bytes of each member's values.
        """
        rows = np.tile(np.frombuffer(self.raw, np.uint8), (len(numbers), 1))
        words = rows.view("<i8")
        words[:, self.addresses] += at + len(self.raw) * np.arange(len(rows))[:, np.newaxis]
        words[:, self.numbers] = numbers
        for word, place, shape, where in zip(self.sizes, self.places, shapes, places, strict=True):
            rank = shape.shape[1]
            words[:, word : word + rank] = words[:, word + rank : word + 2 * rank] = shape
            rows[:, place : place + 16] = where.astype("<i8").view(np.uint8)
        return rows.tobytes()


_BODY_AT = _HEADER.size + _MESSAGE.size
"""Where the body of a header's first message begins."""


def _header(messages: Sequence[bytes]) -> bytes:
    nbytes = sum(map(len, messages))
    return _HEADER.pack(1, len(messages), 1, nbytes) + b"".join(messages)


def _message(kind: int, body: bytes, flags: int = 0) -> bytes:
    padded = _padded(body)
    return _MESSAGE.pack(kind, len(padded), flags) + padded


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % WORD)


def _attr(name: bytes) -> bytes:
    """Return the message of an attribute, whose value is its last word."""
    kind = INT64[2:]
    sizes = struct.pack("<BxHHH", 1, len(name) + 1, len(kind), len(_SCALAR))
    text = _padded(name + b"\0")
    return _message(_ATTR_ID, sizes + text + _padded(kind) + _SCALAR + bytes(WORD))


def _dataset(member: Member) -> bytes:
    """Return a dataset's header, which begins with the shape and ends with the layout."""
    form = member.form
    sizes = bytes(2 * WORD * member.rank)
    times = struct.pack("<BBBBI", 2, form.alloc_time, form.fill_time, 1, 0)
    messages = [
        _message(_SPACE_ID, struct.pack("<BBB5x", 1, member.rank, 1) + sizes),
        _message(_TYPE_ID, form.type[2:], _CONSTANT),
        _message(_FILL_ID, times, _CONSTANT),
        _message(_LAYOUT_ID, struct.pack("<BBQQ", 3, 1, 0, 0), _CONSTANT),
    ]
    return _header(messages)


_LAYOUT_NBYTES = len(_message(_LAYOUT_ID, bytes(18)))
