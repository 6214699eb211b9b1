"""How fast this machine reads, decodes, computes and writes, measured in about a second."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex, Filter
from h5dask.storage import codec
from h5dask.storage.remote import Source, fingerprint
from h5dask.storage.write import write_block
from h5dask.threads import one_blas_thread

_FILE_NBYTES = 32 * 2**20
_CHUNK_NBYTES = 2**20
_FILTERS = (Filter(2, 0, (4,), "shuffle"), Filter(1, 0, (4,), "deflate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is done in a second."""

    read: float
    """Bytes that one machine reads from files."""
    write: float
    """Bytes that one machine writes to files, until they are on its disk."""
    decode: float
    """Bytes that one thread's filters give back."""
    encode: float
    """Bytes that one thread's filters take."""
    scan: float
    """Bytes of values that one thread passes over once."""
    flops: float
    """Floating-point operations of one thread, in products of matrices."""


def calibrate(folder: str | os.PathLike[str] | None = None) -> Rates:
    """Measure this machine: a file of 32 MiB is written and read, a chunk encoded and decoded.

    Parameters
    ----------
    folder : str or path, optional
        Where the file is made, for it is that disk's rate that is told; where it can't be made
        there, and without it, in the temporary folder.

    Returns
    -------
    Rates
        Reading is from the disk where the system can be told to forget the file, else from
        memory. Chunks are those of gzip at level 4 after shuffling float32.

    Examples
    --------
    >>> rates = calibrate()
    >>> rates.read > 0 and rates.decode > 0
    True
    """
    values = np.random.default_rng(0).standard_normal(_FILE_NBYTES // 4, np.float32)
    values = np.round(values * 256) / np.float32(256)  # so that filters have some work to do
    write, read = _disk(folder, values)
    chunk = values[: _CHUNK_NBYTES // 4].view(np.uint8)
    encoded, mask = codec.encode(chunk, _FILTERS)
    out = np.empty_like(chunk)
    square = values[: 512 * 512].reshape(512, 512)
    with one_blas_thread():
        product = _seconds(lambda: square @ square)
    return Rates(
        read=values.nbytes / read,
        write=values.nbytes / write,
        decode=chunk.nbytes / _seconds(lambda: codec.decode(encoded, _FILTERS, mask, out)),
        encode=chunk.nbytes / _seconds(lambda: codec.encode(chunk, _FILTERS)),
        scan=values.nbytes / _seconds(lambda: values.sum(dtype=np.float64)),
        flops=2 * 512**3 / product,
    )


def _disk(folder: str | os.PathLike[str] | None, values: NDArray[Any]) -> tuple[float, float]:
    """Return the seconds that writing the values to a file takes, and reading them back."""
    try:
        held = tempfile.TemporaryDirectory(prefix=".h5dask-plan-", dir=folder)
    except OSError:  # inputs often lie where nothing may be written
        held = tempfile.TemporaryDirectory(prefix="h5dask-plan-")
    with held as made:
        path = os.path.join(made, "values")
        with open(path, "wb") as file:
            file.truncate(values.nbytes)
        index = ChunkIndex.contiguous(values.shape, 0, values.nbytes)

        def write() -> None:
            write_block(path, index, (0,), values, "<f4")
            with open(path, "rb+") as file:
                os.fsync(file.fileno())

        wrote = _seconds(write, times=1)
        _forget(path)
        source, into = Source(path, fingerprint(path)), np.empty(values.nbytes, np.uint8)
        into.fill(0)  # pages that were never touched would be timed too

        def read() -> None:
            with source.open() as ranges:
                ranges.read_into(0, memoryview(into))

        return wrote, _seconds(read, times=1)


def _forget(path: str) -> None:
    """Let the system drop a file from memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(function: Callable[[], object], times: int = 3) -> float:
    """Return the seconds that the fastest of a few calls takes."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return max(min(taken), 1e-9)
