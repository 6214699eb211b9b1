"""HDF5's global heap: variable-length text and bytes by byte ranges.

A stored element is a descriptor of 16 bytes; its values lie in a heap collection elsewhere in the
file (HDF5 File Format Specification 3.0, III.E "Global Heap").
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import CorruptInput
from h5dask.storage.ranges import Ranges

_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_FIRST_READ = 4096
_MOST = 2**31


def resolve(
    file: Ranges, path: str, heap_base: int, descriptors: NDArray[Any], as_text: bool
) -> NDArray[Any]:
    """Return the values that descriptors point to; those that are fetched later are empty.

    Parameters
    ----------
    file : Ranges
        The open file.
    path : str
        The dataset's path, for messages.
    heap_base : int
        What to add to heap addresses to get file offsets.
    descriptors : (value,) records of length, address, index
        Stored elements, as `read.DESCRIPTOR`.
    as_text : bool
        Whether to give str (UTF-8; undecodable bytes become surrogates, so that they can be
        written back) rather than uint8 arrays.

    Returns
    -------
    (value,) object
    """
    out = np.empty(len(descriptors), object)
    out.fill("" if as_text else np.empty(0, np.uint8))
    addresses = descriptors["address"]
    order = np.flatnonzero(descriptors["length"] != 0)
    order = order[np.argsort(addresses[order], kind="stable")]
    borders = np.flatnonzero(np.diff(addresses[order])) + 1
    for group in np.split(order, borders) if len(order) else []:
        address = int(addresses[group[0]])
        collection = _collection(file, path, heap_base + address)
        if collection is None:
            continue
        wanted = descriptors["index"][group].tolist()
        lengths = descriptors["length"][group].tolist()
        spans = _objects(collection)
        for at, index, length in zip(group.tolist(), wanted, lengths, strict=True):
            start, stop = spans.get(index, (0, -1))
            if start + length > stop:
                raise CorruptInput(
                    f"/{path}: value {at} has {length:,} bytes in heap object {index} at offset "
                    f"{heap_base + address:,}, which isn't there; copy the file again"
                )
            value = collection[start : start + length]
            out[at] = (
                value.tobytes().decode("utf-8", "surrogateescape") if as_text else value.copy()
            )
    return out


def _collection(file: Ranges, path: str, offset: int) -> NDArray[np.uint8] | None:
    """Read one collection whole; most are a single block of 4 KiB. None: it is fetched later."""
    first = np.empty(_FIRST_READ, np.uint8)
    if not file.read_into(offset, memoryview(first)):
        return None
    signature, version, size = _COLLECTION.unpack_from(first)
    if signature != b"GCOL" or version != 1 or not _FIRST_READ <= size <= _MOST:
        raise CorruptInput(
            f"/{path}: no global heap at offset {offset:,} (found {signature!r}); "
            "copy or download the file again"
        )
    if size == _FIRST_READ:
        return first
    whole = np.empty(size, np.uint8)
    whole[:_FIRST_READ] = first
    return whole if file.read_into(offset + _FIRST_READ, memoryview(whole[_FIRST_READ:])) else None


def _objects(collection: NDArray[np.uint8]) -> dict[int, tuple[int, int]]:
    """Return each object's first and last byte in its collection; object 0 is free space."""
    spans = {}
    at, end = _COLLECTION.size, len(collection)
    while at + _OBJECT.size <= end:
        index, _, _, size = _OBJECT.unpack_from(collection, at)
        if index == 0:
            break
        start = at + _OBJECT.size
        spans[index] = (start, min(start + size, end))
        at = start + (size + 7) // 8 * 8
    return spans
