"""HDF5's Fletcher-32 checksum of a run of bytes; what to compare it with lies elsewhere."""

from __future__ import annotations

import numpy as np

from h5dask.kernels.compile import Bytes, inlined, kernel

# 360 is the most 16-bit words whose second sum can't overflow 32 bits (H5checksum.c).
_RUN = 360


@kernel
def checksum(source: Bytes) -> int:
    """Return the checksum that HDF5's fletcher32 filter stores (H5_checksum_fletcher32).

    Words are read big-endian; an odd last byte counts as the high half of a word.

    Parameters
    ----------
    source : (nbytes,) uint8
        The bytes to sum.

    Examples
    --------
    >>> import numpy as np
    >>> hex(checksum(np.array([1, 2, 3], np.uint8)))
    '0x5040402'
    """
    n = source.size // 2
    first = np.uint64(0)
    second = np.uint64(0)
    for start in range(0, n, _RUN):
        words = min(_RUN, n - start)
        run = source[2 * start : 2 * (start + words)]
        plain = np.uint32(0)
        weighted = np.uint32(0)
        for i in range(words):
            word = np.uint32(run[2 * i] << 8 | run[2 * i + 1])
            plain = np.uint32(plain + word)
            weighted = np.uint32(weighted + word * np.uint32(words - i))
        second = _fold(second + np.uint64(words) * first + np.uint64(weighted))
        first = _fold(first + np.uint64(plain))
    if source.size % 2:
        first = _fold(first + np.uint64(source[-1] << 8))
        second = _fold(second + first)
    return int(second << np.uint64(16) | first)


@inlined
def _fold(total: np.uint64) -> np.uint64:
    """Reduce modulo 65,535, to 1..65,535 where anything but zero was summed."""
    if total == 0:
        return total
    return (total - np.uint64(1)) % np.uint64(65535) + np.uint64(1)


def call_each() -> None:
    """Call every kernel of this file once."""
    checksum(np.zeros(1, np.uint8))
