"""Blocks of compressed datasets -> encoded chunks -> their places, in any form dask computes them.

Chunks are encoded in parallel, in one task with what computes the block, and placed one block
after the other: HDF5's library has one writer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
from dask.base import optimize, tokenize
from dask.delayed import Delayed
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.storage.chunkwriter import ChunkWriter, encode_chunks
from h5dask.storage.codec import decodable
from h5dask.writing.drafting import Transfer
from h5dask.writing.placing import Written, converted

IN_FLIGHT = 2
"""Blocks a thread that may wait for their place in the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The blocks of whole chunks of one compressed dataset."""

    values: da.Array
    transfer: Transfer


def encoded_of(values: da.Array, transfer: Transfer) -> Encoded:
    """Return one compressed dataset's part of a variable, in blocks of whole chunks.

    What wouldn't change them isn't asked of dask: blocks that are read and encoded as they are
    become one task.
    """
    shape, chunks, rows = transfer.shape, transfer.chunks, transfer.rows
    if not (isinstance(rows, slice) and rows == slice(0, len(values))):
        values = values[rows]
    if transfer.lane is not None:
        values = values[:, transfer.lane]
    if values.shape != shape:
        values = values.reshape(shape)
    if all(
        n % chunk == 0
        for lengths, chunk in zip(values.chunks, chunks, strict=True)
        for n in lengths[:-1]
    ):
        return Encoded(values, transfer)
    row = max(1, math.prod(shape[1:]) * values.dtype.itemsize)
    n = max(1, BLOCK_SIZE // row // chunks[0]) * chunks[0]
    return Encoded(values.rechunk((n, *shape[1:])), transfer)


def chained(parts: Sequence[Encoded], file: str) -> Iterator[Delayed]:
    """Yield the tasks that place compressed blocks, one after the other.

    A block is encoded only once the block some places before it has been placed, so that few
    encoded blocks are held at any time: each waits for a gate, which tells its corner.
    """
    flight = IN_FLIGHT * max(1, CPU_COUNT)
    graph: dict[Any, Any] = {}
    placed: list[str] = []
    for part in parts:
        values, transfer = part.values, replace(part.transfer, rows=slice(0, 0))
        token = tokenize(file, transfer.path)
        corners = corners_of(values, f"corner-{token}")
        encoded = da.blockwise(
            partial(encode_block, transfer=transfer),
            range(values.ndim),
            values,
            range(values.ndim),
            corners,
            range(values.ndim),
            name=f"encode-{transfer.variable}-{token}",
            dtype=object,
            meta=np.empty((0,) * values.ndim, object),
            align_arrays=False,
        )
        (encoded,) = optimize(encoded)
        graph.update(encoded.dask)
        place = partial(place_block, path=transfer.path, file=file)
        for at in np.ndindex(*values.numblocks):
            if len(placed) >= flight:
                gate = (corners.name, *at)
                graph[gate] = (_opened, graph[gate], placed[-flight])
            name = f"place-{transfer.variable}-{token}-{'-'.join(map(str, at))}"
            graph[name] = (place, (encoded.name, *at), *placed[-1:])
            placed.append(name)
    # Each task needs the one before it, and so all of them are in the graph of the last.
    yield from (Delayed(name, graph) for name in placed)


def corners_of(values: da.Array, name: str) -> da.Array:
    """Return, block by block, where each begins."""
    starts = [[*accumulate(lengths, initial=0)] for lengths in values.chunks]
    layer = {
        (name, *at): np.array([axis[i] for axis, i in zip(starts, at, strict=True)])
        for at in np.ndindex(*values.numblocks)
    }
    chunks = tuple((1,) * n for n in values.numblocks)
    made: da.Array = da.Array(layer, name, chunks, dtype=object)
    return made


def _opened(corner: Any, _: Any) -> Any:
    """Return a block's corner, once there is room for one more."""
    return corner


def encode_block(block: NDArray[Any], corner: NDArray[np.int64], *, transfer: Transfer) -> Any:
    """Encode a block's chunks where the filters are ours: corner, number of values, chunks."""
    start, form = tuple(corner.tolist()), transfer.form
    chunks: Any = converted(block, form, transfer.path)
    if decodable(form.filters):
        chunks = encode_chunks(
            chunks, start, transfer.shape, transfer.chunks, form.filters, form.dtype, form.fill
        )
    return start, block.size, chunks


def place_block(encoded: Any, before: Any = None, *, path: str, file: str) -> list[Written]:
    """Place a block's encoded chunks, or let HDF5 encode them; `before` only keeps the order."""
    del before
    start, n_values, chunks = encoded
    with ChunkWriter(file, len(chunks)) as writer:
        if isinstance(chunks, np.ndarray):
            writer.write_values(path, start, chunks)
        else:
            for origin, mask, raw in chunks:
                writer.place(path, origin, mask, raw)
    return [Written({path: n_values})]
