"""The tables in which groups of HDF5's first form keep their members, as bytes: heap, nodes, tree.

Only what a table looks like lives here; what its members are and where they lie is for others.

HDF5 File Format Specification 3.0: III.A (B-trees, symbol nodes, entries), III.D (local heaps).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LEAF, INNER = 8, 32
"""Most entries of a symbol node and children of a tree node, by HDF5's own choice of K."""
_WORD = 8
_NOWHERE = 2**64 - 1
_NO_FREE = 1
"""What a heap says whose bytes are all taken."""

_ENTRY = np.dtype([("name", "<u8"), ("address", "<u8"), ("rest", "V24")])
_NODE = np.dtype(
    [("mark", "S4"), ("version", "u1"), ("", "V1"), ("n", "<u2"), ("entries", _ENTRY, LEAF)]
)
_TREE = np.dtype(
    [
        *(("mark", "S4"), ("kind", "u1"), ("level", "u1"), ("n", "<u2")),
        *(("left", "<u8"), ("right", "<u8"), ("key", "<u8")),
        ("children", [("address", "<u8"), ("last", "<u8")], INNER),
    ]
)
_HEAP = struct.Struct("<4sB3xQQQ")
NODE_NBYTES, TREE_NBYTES, HEAP_NBYTES = _NODE.itemsize, _TREE.itemsize, _HEAP.size
ADDRESS_IN_HEAP, ADDRESS_IN_TREE = 24, 32
"""Where the header of a heap has the address of its names, and a tree's node that of a child."""
ADDRESSES_IN_NODE = tuple(16 + _ENTRY.itemsize * i for i in range(LEAF))
"""Where a symbol node has its members' addresses."""


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Names one after the other as a heap holds them, which begins with an empty one."""

    raw: bytes
    offsets: Ints
    """Where each begins."""

    @classmethod
    def of(cls, names: Sequence[bytes]) -> Names:
        """Return names, each ended by a NUL at least and padded to whole words."""
        padded = [bytes(_WORD)]
        padded += [name.ljust((len(name) // _WORD + 1) * _WORD, b"\0") for name in names]
        ends = np.cumsum(np.fromiter(map(len, padded), np.int64, len(padded)))
        return cls(b"".join(padded), ends[:-1])


def heap(nbytes: int, at: int) -> bytes:
    """Return the header of a heap whose names take `nbytes` at an address, and are complete."""
    return _HEAP.pack(b"HEAP", 0, nbytes, _NO_FREE, at)


def entries(offsets: Ints, addresses: Ints) -> NDArray[np.void]:
    """Return entries that name objects; HDF5 reads what else it may hold from the objects."""
    made = np.zeros(len(offsets), _ENTRY)
    made["name"], made["address"] = offsets, addresses
    return made


def nodes(held: NDArray[np.void]) -> NDArray[np.void]:
    """Return the nodes of entries that are in the order of their names."""
    n = -(-len(held) // LEAF)
    made = np.zeros(n, _NODE)
    made["mark"], made["version"], made["n"] = b"SNOD", 1, LEAF
    made["n"][-1:] = len(held) - LEAF * (n - 1)
    padded = np.zeros(n * LEAF, _ENTRY)
    padded[: len(held)] = held
    made["entries"] = padded.reshape(n, LEAF)
    return made


def level(number: int, children: Ints, last: Ints, at: int) -> NDArray[np.void]:
    """Return the tree's nodes of one level, 0 the lowest, laid down from an address on.

    Parameters
    ----------
    number : int
        The level.
    children, last : (child,) int64
        Address of each child, and where the last name in it lies in the heap.
    at : int
        Address of the first node.
    """
    n = -(-len(children) // INNER)
    made = np.zeros(n, _TREE)
    made["mark"], made["level"], made["n"] = b"TREE", number, INNER
    made["n"][-1:] = len(children) - INNER * (n - 1)
    addresses = at + TREE_NBYTES * np.arange(n)
    made["left"], made["right"] = _NOWHERE, _NOWHERE
    made["left"][1:], made["right"][:-1] = addresses[:-1], addresses[1:]
    made["key"][1:] = last[INNER - 1 : -1 : INNER]
    for name, column in (("address", children), ("last", last)):
        padded = np.zeros(n * INNER, np.int64)
        padded[: len(column)] = column
        made["children"][name] = padded.reshape(n, INNER)
    return made


def table(
    names: Sequence[bytes], addresses: Ints, tree: int, heap_at: int, at: int
) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return what an empty group needs to have members.

    Parameters
    ----------
    names : sequence of bytes
        Their names, all different.
    addresses : (name,) int64
        Where their headers lie.
    tree, heap_at : int
        Addresses of the root of the group's tree, and of its heap's header.
    at : int
        Address from which on the table may take new room.

    Returns
    -------
    added : bytes
        What lies from there on.
    renewed : list of (int, bytes)
        Places and bytes that replace what is there.
    """
    text = Names.of(names)
    order = sorted(range(len(names)), key=names.__getitem__)
    made = nodes(entries(text.offsets[order], addresses[order]))
    added = [text.raw, made.tobytes()]
    nbytes = len(text.raw)
    children = at + nbytes + NODE_NBYTES * np.arange(len(made))
    last = text.offsets[order][np.minimum(np.arange(1, len(made) + 1) * LEAF, len(names)) - 1]
    end, number = at + nbytes + made.nbytes, 0
    while len(children) > INNER:
        inner = level(number, children, last, end)
        added.append(inner.tobytes())
        last = last[np.minimum(np.arange(1, len(inner) + 1) * INNER, len(children)) - 1]
        children = end + TREE_NBYTES * np.arange(len(inner))
        end, number = end + inner.nbytes, number + 1
    top = level(number, children, last, tree).tobytes()
    return b"".join(added), [(tree, top), (heap_at, heap(nbytes, at))]
