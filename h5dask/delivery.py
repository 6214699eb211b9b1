"""A planned file's values -> its skeleton, under whatever scheduler dask has.

Uncompressed datasets take one task a source block, from any thread, process or machine that
shares the file. Compressed ones are encoded in parallel and placed one block after the other.
Workers that don't share the file send their blocks here instead, a few at a time.
"""

from __future__ import annotations

import math
import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute as compute_all
from dask.delayed import Delayed, delayed
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.chunkindex import ChunkIndex
from h5dask.drafting import Transfer
from h5dask.placing import Pieces, Runs, check_block, converted, write_block
from h5dask.planning import FilePlan
from h5dask.storage.chunkwriter import ChunkWriter, encode_chunks
from h5dask.storage.codec import decodable
from h5dask.storage.parts import PROBE

_IN_FLIGHT = 2
"""Blocks a thread that may wait for their place in the file."""


@dataclass(frozen=True, slots=True, eq=False)
class _Direct:
    """One block that is written as bytes."""

    name: str
    block: Delayed
    shape: tuple[int, ...]
    pieces: tuple[Pieces, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """One block of a compressed dataset."""

    block: Delayed
    shape: tuple[int, ...]
    start: tuple[int, ...]
    transfer: Transfer


def deliver(
    ds: xr.Dataset, planned: FilePlan, indexes: Mapping[str, ChunkIndex], file: str
) -> list[Delayed]:
    """Return the tasks that write every value into a skeleton, and read back what they wrote.

    Parameters
    ----------
    ds : Dataset
        Whose values are written.
    planned : FilePlan
        Which part of which variable each dataset takes.
    indexes : mapping of str to ChunkIndex
        By path, where the bytes of each dataset belong.
    file : str
        Path of the skeleton.

    Returns
    -------
    list of Delayed
        Each gives a mapping: path -> number of values that arrived. Memory per task: the block,
        and for compressed datasets its encoded bytes.
    """
    jobs = list(_jobs(ds, planned, indexes))
    if not _workers_share(file + PROBE):
        return [delayed(counts) for counts in _here(jobs, file)]
    # Names end with the file's, which is unique: a cluster must not take one write for another.
    token = os.path.basename(file)
    direct = [job for job in jobs if isinstance(job, _Direct)]
    writes = [
        _task(f"write-{job.name}-{token}", partial(write_block, pieces=job.pieces, file=file))(
            job.block
        )
        for job in direct
    ]
    barrier = _task(f"written-{token}", _wait)(writes)
    counts = [
        _task(
            f"check-{job.name}-{token}",
            partial(check_block, pieces=job.pieces, shape=job.shape, file=file),
        )(written, after=barrier)
        for written, job in zip(writes, direct, strict=True)
    ]
    by_path: dict[str, list[_Encoded]] = defaultdict(list)
    for job in jobs:
        if isinstance(job, _Encoded):
            by_path[job.transfer.path].append(job)
    return [*counts, *_chained(by_path, file)]


def _jobs(
    ds: xr.Dataset, planned: FilePlan, indexes: Mapping[str, ChunkIndex]
) -> Iterator[_Direct | _Encoded]:
    """Yield every block that is to be written, and where it belongs."""
    by_variable: dict[str, list[Transfer]] = defaultdict(list)
    for transfer in planned.transfers:
        if transfer.form.filters:
            yield from _encoded_jobs(_values(ds, transfer.variable), transfer)
        else:
            by_variable[transfer.variable].append(transfer)
    for name, transfers in by_variable.items():
        yield from _direct_jobs(name, _values(ds, name), transfers, indexes)


def _values(ds: xr.Dataset, name: str) -> da.Array:
    """Return a variable's values as a dask array."""
    values = ds[name].variable.data
    if isinstance(values, da.Array):
        return values
    values = np.asarray(ds[name].values)
    row = max(1, values[:1].nbytes)
    blocks: da.Array = da.from_array(values, (max(1, BLOCK_SIZE // row), *values.shape[1:]))
    return blocks


def _direct_jobs(
    name: str,
    values: da.Array,
    transfers: Sequence[Transfer],
    indexes: Mapping[str, ChunkIndex],
) -> Iterator[_Direct]:
    lanes: dict[int | None, list[Transfer]] = defaultdict(list)
    for transfer in transfers:
        lanes[transfer.lane].append(transfer)
    runs = {lane: Runs.of(group) for lane, group in lanes.items()}
    blocks = values.to_delayed(optimize_graph=True)
    starts = [[0, *accumulate(lengths)] for lengths in values.chunks]
    for at in np.ndindex(*blocks.shape):
        corner = tuple(starts[axis][i] for axis, i in enumerate(at))
        ends = tuple(starts[axis][i + 1] for axis, i in enumerate(at))
        pieces = []
        for lane, group in lanes.items():
            if lane is not None and not corner[1] <= lane < ends[1]:
                continue
            found = runs[lane].within(corner[0], ends[0])
            if not len(found.start):
                continue
            inner = corner[1:] if lane is None else corner[2:]
            here = None if lane is None else lane - corner[1]
            pieces.append(Pieces.of(found, group, indexes, here, inner))
        shape = tuple(end - start for start, end in zip(corner, ends, strict=True))
        key = f"{name}-{'-'.join(map(str, at))}"
        yield _Direct(key, blocks[at], shape, tuple(pieces))


def _encoded_jobs(values: da.Array, transfer: Transfer) -> Iterator[_Encoded]:
    """Yield blocks of whole chunks of one compressed dataset."""
    shape, chunks = transfer.shape, transfer.chunks
    part = values[transfer.rows]
    part = part if transfer.lane is None else part[:, transfer.lane]
    part = part.reshape(shape)
    row = max(1, math.prod(shape[1:]) * part.dtype.itemsize)
    rows = max(1, BLOCK_SIZE // row // chunks[0]) * chunks[0]
    part = part.rechunk((rows, *shape[1:]))
    starts = accumulate(part.chunks[0], initial=0)
    blocks = part.to_delayed(optimize_graph=True).ravel()
    for start, count, block in zip(starts, part.chunks[0], blocks, strict=False):
        corner = (start, *(0,) * (len(shape) - 1))
        yield _Encoded(block, (count, *shape[1:]), corner, transfer)


def _task(name: str, function: Callable[..., Any]) -> Callable[..., Delayed]:
    """Return a task of this name; what is bound to the function is not searched for others."""
    call = delayed(function, name=f"call-{name}", pure=False, traverse=False)
    return partial(call, dask_key_name=name)


def _wait(written: Any) -> None:
    """Do nothing: what depends on this runs after all that it was given."""


def _chained(by_path: Mapping[str, Sequence[_Encoded]], file: str) -> Iterator[Delayed]:
    """Yield the tasks that place compressed blocks, one after the other.

    A block is encoded only once the block some places before it has been placed, so that few
    encoded blocks are held at any time.
    """
    flight = _IN_FLIGHT * max(1, CPU_COUNT)
    token = os.path.basename(file)
    placed: list[Delayed] = []
    for path, jobs in by_path.items():
        for job in jobs:
            after = placed[-flight] if len(placed) >= flight else None
            before = placed[-1] if placed else None
            name = f"{job.transfer.variable}-{len(placed)}-{token}"
            encode = partial(_encode, start=job.start, transfer=job.transfer)
            place = partial(
                _place, start=job.start, path=path, file=file, n_values=math.prod(job.shape)
            )
            chunks = _task(f"encode-{name}", encode)(job.block, after=after)
            placed.append(_task(f"place-{name}", place)(chunks, before=before))
    yield from placed


def _encode(
    block: NDArray[Any], start: tuple[int, ...], transfer: Transfer, after: Any = None
) -> Any:
    """Encode a block's chunks, where the filters are ours; `after` only makes it wait."""
    del after
    form = transfer.form
    values = converted(block, form, transfer.path)
    if not decodable(form.filters):
        return values
    return encode_chunks(
        values, start, transfer.shape, transfer.chunks, form.filters, form.dtype, form.fill
    )


def _place(
    chunks: Any, start: tuple[int, ...], path: str, file: str, n_values: int, before: Any = None
) -> Mapping[str, int]:
    """Place a block's encoded chunks, or let HDF5 encode them; `before` only keeps the order."""
    del before
    with ChunkWriter(file, len(chunks)) as writer:
        if isinstance(chunks, np.ndarray):
            writer.write_values(path, start, chunks)
            return {path: n_values}
        for origin, mask, encoded in chunks:
            writer.place(path, origin, mask, encoded)
    return {path: n_values}


def _workers_share(path: str) -> bool:
    """Whether every worker sees a path: each reads a token there; threads and processes do."""
    client = _client()
    if client is None:
        return True
    token = uuid.uuid4().hex
    with open(path, "w", encoding="ascii") as file:
        file.write(token)
    try:
        return all(client.run(_reads, path, token).values())
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _client() -> Any:
    """Return the distributed client that dask would compute with, if any."""
    from dask.base import get_scheduler

    scheduler = get_scheduler()
    owner = getattr(scheduler, "__self__", None)
    return owner if hasattr(owner, "scheduler_info") else None


def _reads(path: str, token: str) -> bool:
    """Whether a file is here and holds the token."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read() == token
    except OSError:
        return False


def _here(jobs: Sequence[_Direct | _Encoded], file: str) -> Iterator[Mapping[str, int]]:
    """Compute blocks a few at a time and write them from this process."""
    flight = _IN_FLIGHT * max(1, CPU_COUNT)
    for at in range(0, len(jobs), flight):
        batch = jobs[at : at + flight]
        for job, block in zip(batch, compute_all(*(job.block for job in batch)), strict=True):
            if isinstance(job, _Direct):
                written = write_block(block, job.pieces, file)
                yield check_block(written, job.pieces, job.shape, file)
            else:
                chunks = _encode(block, job.start, job.transfer)
                n = math.prod(job.shape)
                yield _place(chunks, job.start, job.transfer.path, file, n)
