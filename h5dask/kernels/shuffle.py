"""HDF5's shuffle filter: equal bytes of all elements side by side, and back; bytes to bytes only.

The kernels for elements of 2, 4 and 8 bytes are written out byte by byte because LLVM turns
exactly this form into vector interleaving, several times faster than any loop over the bytes.
"""

from __future__ import annotations

import numpy as np

from h5dask.kernels.compile import Bytes, kernel

_TILE = 1024


def separate(source: Bytes, target: Bytes, size: int) -> None:
    """Write byte 0 of all elements, then byte 1 of all, and so on; encodes.

    Bytes after the last whole element, and everything where there are fewer than two elements,
    stay where they are (H5Zshuffle.c).

    Parameters
    ----------
    source : (nbytes,) uint8
        The elements.
    target : (nbytes,) uint8
        Overwritten; shares no memory with `source`.
    size : int
        Bytes of one element, at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> target = np.empty(7, np.uint8)
    >>> separate(np.array([1, 2, 3, 4, 5, 6, 7], np.uint8), target, 2)
    >>> target.tolist()
    [1, 3, 5, 2, 4, 6, 7]
    """
    whole = _whole(source, target, size)
    if size == 2:
        _separate2(source[:whole], target)
    elif size == 4:
        _separate4(source[:whole], target)
    elif size == 8:
        _separate8(source[:whole], target)
    else:
        _separate(source[:whole], target, size)


def interleave(source: Bytes, target: Bytes, size: int) -> None:
    """Put the bytes of each element together again; decodes what `separate` wrote.

    Parameters
    ----------
    source : (nbytes,) uint8
        Shuffled bytes.
    target : (nbytes,) uint8
        Overwritten; shares no memory with `source`.
    size : int
        Bytes of one element, at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> target = np.empty(7, np.uint8)
    >>> interleave(np.array([1, 3, 5, 2, 4, 6, 7], np.uint8), target, 2)
    >>> target.tolist()
    [1, 2, 3, 4, 5, 6, 7]
    """
    whole = _whole(source, target, size)
    if size == 2:
        _interleave2(source[:whole], target)
    elif size == 4:
        _interleave4(source[:whole], target)
    elif size == 8:
        _interleave8(source[:whole], target)
    else:
        _interleave(source[:whole], target, size)


def _whole(source: Bytes, target: Bytes, size: int) -> int:
    """Copy what is never shuffled; return how many bytes, from the first, are left to do."""
    whole = source.size - source.size % size
    if size in (1, whole):
        whole = 0
    target[whole:] = source[whole:]
    return whole


@kernel
def _separate2(source: Bytes, target: Bytes) -> None:
    n = source.size // 2
    a, b = target[:n], target[n : 2 * n]
    for i in range(n):
        a[i] = source[2 * i]
        b[i] = source[2 * i + 1]


@kernel
def _separate4(source: Bytes, target: Bytes) -> None:
    n = source.size // 4
    a, b, c, d = target[:n], target[n : 2 * n], target[2 * n : 3 * n], target[3 * n : 4 * n]
    for i in range(n):
        a[i] = source[4 * i]
        b[i] = source[4 * i + 1]
        c[i] = source[4 * i + 2]
        d[i] = source[4 * i + 3]


@kernel
def _separate8(source: Bytes, target: Bytes) -> None:
    n = source.size // 8
    a, b, c, d = target[:n], target[n : 2 * n], target[2 * n : 3 * n], target[3 * n : 4 * n]
    target = target[4 * n :]
    e, f, g, h = target[:n], target[n : 2 * n], target[2 * n : 3 * n], target[3 * n : 4 * n]
    for i in range(n):
        a[i] = source[8 * i]
        b[i] = source[8 * i + 1]
        c[i] = source[8 * i + 2]
        d[i] = source[8 * i + 3]
        e[i] = source[8 * i + 4]
        f[i] = source[8 * i + 5]
        g[i] = source[8 * i + 6]
        h[i] = source[8 * i + 7]


@kernel
def _separate(source: Bytes, target: Bytes, size: int) -> None:
    # Tiles of elements stay in the first-level cache while each of their bytes has its turn.
    n = source.size // size
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        for byte in range(size):
            for i in range(start, stop):
                target[byte * n + i] = source[i * size + byte]


@kernel
def _interleave2(source: Bytes, target: Bytes) -> None:
    n = source.size // 2
    a, b = source[:n], source[n : 2 * n]
    for i in range(n):
        target[2 * i] = a[i]
        target[2 * i + 1] = b[i]


@kernel
def _interleave4(source: Bytes, target: Bytes) -> None:
    n = source.size // 4
    a, b, c, d = source[:n], source[n : 2 * n], source[2 * n : 3 * n], source[3 * n : 4 * n]
    for i in range(n):
        target[4 * i] = a[i]
        target[4 * i + 1] = b[i]
        target[4 * i + 2] = c[i]
        target[4 * i + 3] = d[i]


@kernel
def _interleave8(source: Bytes, target: Bytes) -> None:
    n = source.size // 8
    a, b, c, d = source[:n], source[n : 2 * n], source[2 * n : 3 * n], source[3 * n : 4 * n]
    source = source[4 * n :]
    e, f, g, h = source[:n], source[n : 2 * n], source[2 * n : 3 * n], source[3 * n : 4 * n]
    for i in range(n):
        target[8 * i] = a[i]
        target[8 * i + 1] = b[i]
        target[8 * i + 2] = c[i]
        target[8 * i + 3] = d[i]
        target[8 * i + 4] = e[i]
        target[8 * i + 5] = f[i]
        target[8 * i + 6] = g[i]
        target[8 * i + 7] = h[i]


@kernel
def _interleave(source: Bytes, target: Bytes, size: int) -> None:
    n = source.size // size
    for start in range(0, n, _TILE):
        stop = min(start + _TILE, n)
        for byte in range(size):
            for i in range(start, stop):
                target[i * size + byte] = source[byte * n + i]


def call_each() -> None:
    """Call every kernel of this file once."""
    source, target = np.zeros(16, np.uint8), np.zeros(16, np.uint8)
    for size in (2, 3, 4, 8):
        separate(source, target, size)
        interleave(target, source, size)
