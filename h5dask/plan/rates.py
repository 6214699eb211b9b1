"""How fast this machine reads, decodes, computes, writes and sends, measured in about two seconds.

What was measured before is `remembered`'s matter.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex, Filter
from h5dask.ops.moments import moments
from h5dask.storage import codec
from h5dask.storage.remote import Source, fingerprint
from h5dask.storage.write import write_block
from h5dask.threads import one_blas_thread

_FILE_NBYTES = 32 * 2**20
_CHUNK_NBYTES = 2**20
_FILTERS = (Filter(2, 0, (4,), "shuffle"), Filter(1, 0, (4,), "deflate"))
_SIDE = 512
"""Rows and columns of the matrices that are multiplied."""
_OPERATIONS = 8
"""Of statistics on a value, as `h5dask.ops.cost.folding` counts them."""
_TIMES = 3
"""How often each is measured; the fastest counts."""
_SAMPLED_NBYTES = 2 * 2**20
_SAMPLES = 4
"""Ranges of a file in a store that are read at once, of so many bytes each, at most."""


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
    kernel: float
    """Floating-point operations of one thread, in statistics of float16."""
    network: float
    """Bytes that go from one process to another."""


def calibrate(folder: str | os.PathLike[str] | None = None) -> Rates:
    """Measure this machine: a file of 32 MiB is written, read, computed on and sent.

    Parameters
    ----------
    folder : str or path, optional
        Where the file is made, for it is that disk's rate that is told; where it can't be made
        there, and without it, in the temporary folder.

    Returns
    -------
    Rates
        Reading is from the disk where the system can be told to forget the file, else from
        memory. Chunks are those of gzip at level 4 after shuffling float32. Bytes are sent by
        distributed's TCP within this machine; networks between machines are often slower, which
        only who has one can tell.

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
    square = values[: _SIDE * _SIDE].reshape(_SIDE, _SIDE)
    half = values[: len(values) // 2].reshape(-1, _SIDE).astype(np.float16)
    moments(half[:1], axes=(0,))  # a kernel's first call takes seconds
    with one_blas_thread():
        product = _computing(lambda: square @ square)
    scan = values.nbytes / _computing(lambda: values.sum(dtype=np.float64))
    return Rates(
        read=values.nbytes / read,
        write=values.nbytes / write,
        decode=chunk.nbytes / _computing(lambda: codec.decode(encoded, _FILTERS, mask, out)),
        encode=chunk.nbytes / _computing(lambda: codec.encode(chunk, _FILTERS)),
        scan=scan,
        flops=2 * _SIDE**3 / product,
        kernel=_OPERATIONS * half.size / _computing(lambda: moments(half, axes=(0,))),
        network=_sent(values) or scan,
    )


def sampled(source: Source, threads: int) -> float:
    """Return the bytes a second that come from a file's store: 8 MiB of it are read, at most.

    Parameters
    ----------
    source : Source
        An object in a store.
    threads : int
        How many read at once; four at most.

    Raises
    ------
    StoreUnavailable, AccessDenied, InputChanged
        As when it is read for good.
    """
    n_parts = max(1, min(_SAMPLES, threads, source.nbytes // _SAMPLED_NBYTES))
    length = min(source.nbytes, _SAMPLED_NBYTES)
    starts = [source.nbytes // n_parts * i for i in range(n_parts)]

    def read(start: int) -> None:
        with source.open() as ranges:
            ranges.read_into(start, memoryview(bytearray(length)))

    def all_parts() -> None:
        with ThreadPoolExecutor(n_parts) as pool:
            list(pool.map(read, starts))

    return max(1, n_parts * length) / _seconds(all_parts, times=1)


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

        into = np.empty(values.nbytes, np.uint8)
        into.fill(0)  # pages that were never touched would be timed too

        def read() -> None:
            with Source(path, fingerprint(path)).open() as ranges:
                ranges.read_into(0, memoryview(into))

        wrote, took = [], []
        for _ in range(_TIMES):
            wrote.append(_seconds(write, times=1))
            _forget(path)
            took.append(_seconds(read, times=1))
        return min(wrote), min(took)


def _forget(path: str) -> None:
    """Let the system drop a file from memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sent(values: NDArray[Any]) -> float:
    """Return the bytes a second that go over loopback; 0 where no socket may be opened."""
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook's has a loop that runs already
            return thread.submit(asyncio.run, _over_tcp(values)).result()
    except OSError:
        return 0.0


async def _over_tcp(values: NDArray[Any]) -> float:
    from distributed.comm.core import connect, listen
    from distributed.protocol.serialize import to_serialize

    async def answer(comm: Any) -> None:
        for _ in range(2):  # the first time is the connection's
            await comm.read()
            await comm.write("here")
        await comm.close()

    async with listen("tcp://127.0.0.1", answer) as listener:
        comm = await connect(listener.contact_address)
        for _ in range(2):
            started = time.perf_counter()
            await comm.write({"values": to_serialize(values)})
            await comm.read()
            taken = time.perf_counter() - started
        await comm.close()
    return values.nbytes / max(taken, 1e-9)


def _computing(function: Callable[[], object]) -> float:
    """Return the seconds that a thread computes, whatever else the machine does meanwhile."""
    return _seconds(function, clock=time.thread_time)


def _seconds(
    function: Callable[[], object],
    times: int = _TIMES,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the seconds that the fastest of a few calls takes."""
    taken = []
    for _ in range(times):
        started = clock()
        function()
        taken.append(clock() - started)
    return max(min(taken), 1e-9)
