"""HDF5's filters on one stored chunk, without HDF5: decode and encode bytes in memory.

What a chunk is, and where it lies in which file, is not known here.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import deflate
import numpy as np

from h5dask.chunkindex import Filter
from h5dask.kernels import fletcher32, lzf, shuffle
from h5dask.kernels.compile import Bytes, as_bytes

_CHECKSUM_NBYTES = 4
_OPTIONAL = 1
# deflate passes sizes as C's unsigned int, and takes larger ones modulo 2**32 without a word.
_MOST_FOR_LIBDEFLATE = 2**32 - 1
_MOST_KEPT = 16 * 2**20


class DecodeError(ValueError):
    """Stored bytes that can't be what their filters made; one sentence, without file and path."""


class _Scratch(threading.local):
    """Memory between two filters: two buffers a thread, kept unless they grow large."""

    def __init__(self) -> None:
        self.buffers = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def take(self, nbytes: int, source: Bytes) -> Bytes:
        """Return memory that `source`, itself from here or from elsewhere, has no part in."""
        if nbytes > _MOST_KEPT:
            return np.empty(nbytes, np.uint8)
        free = int(source.base is self.buffers[0])
        if self.buffers[free].size < nbytes:
            self.buffers[free] = np.empty(nbytes, np.uint8)
        return self.buffers[free][:nbytes]


_scratch = _Scratch()
_Take = Callable[[int, Bytes], Bytes]


@dataclass(frozen=True, slots=True)
class _Step:
    """What one filter does to bytes. A result may be a view of its source."""

    decode: Callable[[Bytes, Filter, int, _Take], Bytes]
    """(stored bytes, filter, most bytes that may come out, where memory is taken) to bytes."""
    encode: Callable[[Bytes, Filter], Bytes | None]
    """(bytes, filter) to bytes to store; None where the filter is not to be applied."""
    most_encoded: Callable[[int], int]
    """Most bytes that encoding makes of so many."""


def decodable(filters: tuple[Filter, ...]) -> bool:
    """Return whether `decode` knows every filter of a pipeline.

    Examples
    --------
    >>> decodable((Filter(2, 1, (4,), "shuffle"), Filter(1, 1, (4,), "deflate")))
    True
    >>> decodable((Filter(32015, 1, (3,), "zstd"),))
    False
    """
    return all(f.id in _STEPS for f in filters)


def decode(
    raw: bytes | bytearray | memoryview | Bytes,
    filters: tuple[Filter, ...],
    mask: int,
    out: Bytes,
) -> None:
    """Decode one stored chunk into `out`, without the GIL wherever there is work to do.

    A pipeline with one compression takes the chunk's size once more, beside its arguments.

    Parameters
    ----------
    raw : bytes-like
        The chunk as stored.
    filters : tuple of Filter
        The pipeline in the order of writing; all of them `decodable`.
    mask : int
        HDF5's filter mask: bit i set, ``filters[i]`` was not applied to this chunk.
    out : (nbytes,) uint8
        Overwritten: writeable, contiguous, exactly the decoded size, apart from `raw`.

    Raises
    ------
    DecodeError
        A damaged stream, a checksum that doesn't fit, too few or too many bytes. `out` then
        holds nothing of use.

    Examples
    --------
    >>> out = np.empty(3, np.uint8)
    >>> decode(b"abc", (), 0, out)
    >>> out.tobytes()
    b'abc'
    """
    applied = [f for i, f in enumerate(filters) if not mask >> i & 1]
    most = [out.size]
    for f in applied[:-1]:
        most.append(_STEPS[f.id].most_encoded(most[-1]))

    def take_out(nbytes: int, _: Bytes) -> Bytes:
        _expect_size(nbytes, out.size)
        return out

    current = as_bytes(raw)
    for i in reversed(range(len(applied))):
        step = _STEPS[applied[i].id]
        current = step.decode(current, applied[i], most[i], _scratch.take if i else take_out)
    if current is not out:
        _expect_size(current.size, out.size)
        out[:] = current


def encode(block: Bytes, filters: tuple[Filter, ...]) -> tuple[bytes, int]:
    r"""Encode one chunk; HDF5 reads the result, and equal chunks give equal bytes.

    A pipeline with one compression takes at most 3.2 times the chunk's size, its result included.

    Parameters
    ----------
    block : (nbytes,) uint8
        The chunk's values, contiguous.
    filters : tuple of Filter
        The pipeline in the order of writing; all of them `decodable`.

    Returns
    -------
    stored : bytes
        What belongs in the file.
    mask : int
        HDF5's filter mask: bit i is set where ``filters[i]`` is optional and was left out because
        it didn't make this chunk smaller (lzf only, as in h5py).

    Examples
    --------
    >>> encode(np.zeros(4, np.uint8), (Filter(3, 0, (), "fletcher32"),))
    (b'\x00\x00\x00\x00\x00\x00\x00\x00', 0)
    """
    current, mask = as_bytes(block), 0
    for i, f in enumerate(filters):
        encoded = _STEPS[f.id].encode(current, f)
        if encoded is None:
            mask |= 1 << i
        else:
            current = encoded
    return current.tobytes(), mask


def _expect_size(found: int, expected: int) -> None:
    if found != expected:
        raise DecodeError(f"the chunk decodes to {found!r} bytes, expected {expected!r}")


def _inflate(source: Bytes, _: Filter, most: int, __: _Take) -> Bytes:
    try:
        if most <= _MOST_FOR_LIBDEFLATE:
            return as_bytes(deflate.zlib_decompress(source, most))
        stream = zlib.decompressobj()
        inflated = stream.decompress(source.data, most)
    except (deflate.DeflateError, zlib.error) as cause:
        raise DecodeError(_bad_stream("deflate", most)) from cause
    if not stream.eof:
        raise DecodeError(_bad_stream("deflate", most))
    return as_bytes(inflated)


def _bad_stream(name: str, most: int) -> str:
    return f"the {name} stream is damaged, or decodes to more than {most!r} bytes"


def _deflate(source: Bytes, f: Filter) -> Bytes:
    return as_bytes(deflate.zlib_compress(source, f.values[0]))


def _unshuffle(source: Bytes, f: Filter, _: int, take: _Take) -> Bytes:
    target = take(source.size, source)
    shuffle.interleave(source, target, _element_nbytes(f))
    return target


def _shuffle(source: Bytes, f: Filter) -> Bytes:
    target = _scratch.take(source.size, source)
    shuffle.separate(source, target, _element_nbytes(f))
    return target


def _element_nbytes(f: Filter) -> int:
    if not f.values or f.values[0] < 1:
        raise DecodeError(f"shuffle has client values {f.values!r}, expected the element's size")
    return f.values[0]


def _verify(source: Bytes, _: Filter, __: int, ___: _Take) -> Bytes:
    if source.size < _CHECKSUM_NBYTES:
        raise DecodeError(f"fletcher32 finds {source.size!r} bytes, expected its checksum of 4")
    values = source[:-_CHECKSUM_NBYTES]
    stored = int.from_bytes(source[-_CHECKSUM_NBYTES:].tobytes(), "little")
    computed = fletcher32.checksum(values)
    # Before 1.6.3 HDF5 swapped the bytes of both halves on little-endian machines, and reads both.
    swapped = (computed & 0x00FF00FF) << 8 | computed >> 8 & 0x00FF00FF
    if stored not in (computed, swapped):
        raise DecodeError(f"the fletcher32 checksum is {stored:#010x}, expected {computed:#010x}")
    return values


def _append_checksum(source: Bytes, _: Filter) -> Bytes:
    return as_bytes(
        source.tobytes() + fletcher32.checksum(source).to_bytes(_CHECKSUM_NBYTES, "little")
    )


def _decompress(source: Bytes, _: Filter, most: int, take: _Take) -> Bytes:
    target = take(most, source)
    n = lzf.decompress(source, target)
    if n in (lzf.CORRUPT, lzf.NO_ROOM):
        raise DecodeError(_bad_stream("lzf", most))
    return target if n == most else target[:n]


def _compress(source: Bytes, f: Filter) -> Bytes | None:
    room = source.size - 1 if f.flags & _OPTIONAL else _grown(source.size)
    target = _scratch.take(max(room, 0), source)
    n = lzf.compress(source, target)
    return None if n == lzf.NO_ROOM else target[:n]


def _grown(nbytes: int) -> int:
    """More than any sane encoder makes of incompressible bytes."""
    return nbytes + nbytes // 16 + 4096


_STEPS = {
    1: _Step(_inflate, _deflate, _grown),
    2: _Step(_unshuffle, _shuffle, lambda nbytes: nbytes),
    3: _Step(_verify, _append_checksum, lambda nbytes: nbytes + _CHECKSUM_NBYTES),
    32000: _Step(_decompress, _compress, _grown),
}
