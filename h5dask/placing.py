"""Blocks of a Dataset -> byte ranges of a skeleton: the tasks that write, and nothing else.

Uncompressed datasets take one task a source block, from any thread, process or machine that
shares the file. Compressed ones are encoded in parallel and placed one after the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import LayoutError
from h5dask.planning import FilePlan, Transfer
from h5dask.storage.chunkwriter import ChunkWriter, encode_chunks
from h5dask.storage.write import write_pieces

_IN_FLIGHT = 2
"""Encoded blocks a thread that may wait for their place in the file."""
_BLOCK = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Written:
    """What one task wrote."""

    counts: Mapping[str, int]
    """Values by path of the dataset."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Which rows of a variable go where: columns over runs of consecutive rows, by first row."""

    start: NDArray[np.int64]
    """First row of the variable."""
    count: NDArray[np.int64]
    """Rows in the run."""
    target: NDArray[np.int64]
    """Position of the dataset in the list of transfers."""
    at: NDArray[np.int64]
    """First row in the dataset, its leading axes end to end."""

    def within(self, start: int, stop: int) -> Runs:
        """Return the parts of the runs that lie in a block of rows, counted from its start."""
        ends = self.start + self.count
        low = int(np.searchsorted(ends, start, side="right"))
        high = int(np.searchsorted(self.start, stop, side="left"))
        first, last = np.maximum(self.start[low:high], start), np.minimum(ends[low:high], stop)
        skipped = first - self.start[low:high]
        return Runs(first - start, last - first, self.target[low:high], self.at[low:high] + skipped)


def placements(
    ds: xr.Dataset, planned: FilePlan, indexes: Mapping[str, ChunkIndex], file: str
) -> list[Delayed]:
    """Return the tasks that write every value that the skeleton has not."""
    by_variable: dict[str, list[Transfer]] = defaultdict(list)
    tasks: list[Delayed] = []
    for transfer in planned.transfers:
        if transfer.form.filters:
            tasks += _encoded(ds, transfer, file)
        else:
            by_variable[transfer.variable].append(transfer)
    for name, transfers in by_variable.items():
        tasks += _direct(ds, name, transfers, indexes, file)
    return tasks


def _dims(planned: Transfer, ds: xr.Dataset) -> da.Array:
    """Return a variable's values as a dask array."""
    values = ds[planned.variable].variable.data
    if isinstance(values, da.Array):
        return values
    values = np.asarray(ds[planned.variable].values)
    row = max(1, values[:1].nbytes)
    return da.from_array(values, chunks=(max(1, _BLOCK // row), *values.shape[1:]))


def _direct(
    ds: xr.Dataset,
    name: str,
    transfers: Sequence[Transfer],
    indexes: Mapping[str, ChunkIndex],
    file: str,
) -> Iterator[Delayed]:
    """Yield one task for each block of a variable."""
    values = _dims(transfers[0], ds)
    lanes: dict[int | None, list[Transfer]] = defaultdict(list)
    for transfer in transfers:
        lanes[transfer.lane].append(transfer)
    runs = {lane: _runs(group) for lane, group in lanes.items()}
    blocks = values.to_delayed(optimize_graph=True)
    starts = [[0, *accumulate(chunks)] for chunks in values.chunks]
    write = dask.delayed(_write_block, pure=True)
    for at in np.ndindex(*blocks.shape):
        corner = tuple(starts[axis][i] for axis, i in enumerate(at))
        rows = corner[0], starts[0][at[0] + 1]
        pieces = []
        for lane, group in lanes.items():
            if lane is not None and not corner[1] <= lane < starts[1][at[1] + 1]:
                continue
            found = runs[lane].within(*rows)
            inner = corner[1:] if lane is None else corner[2:]
            here = None if lane is None else lane - corner[1]
            pieces.append(Pieces.of(found, group, indexes, here, inner))
        key = f"write-{name}-{values.name}-{'-'.join(map(str, at))}"
        yield write(blocks[at], [p for p in pieces if len(p.runs.start)], file, dask_key_name=key)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What one block holds of one lane, and where it belongs."""

    runs: Runs
    """Rows of the block; `target` counts the columns below."""
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    forms: tuple[ArrayForm, ...]
    offsets: NDArray[np.int64]
    """Byte offset of contiguous datasets, -1 for chunked ones."""
    lane: int | None
    """Which lane of the block."""
    inner: tuple[int, ...]
    """First column of the block along each trailing dim."""
    indexes: Mapping[int, ChunkIndex] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        runs: Runs,
        transfers: Sequence[Transfer],
        indexes: Mapping[str, ChunkIndex],
        lane: int | None,
        inner: tuple[int, ...],
    ) -> Pieces:
        """Return the slice of the target's index that these runs need."""
        wanted, target = np.unique(runs.target, return_inverse=True)
        taken = [transfers[i] for i in wanted.tolist()]
        where = [indexes[t.path] for t in taken]
        offsets = [int(ix.offset[0]) if t.form.storage == "contiguous" else -1
                   for t, ix in zip(taken, where, strict=True)]  # fmt: skip
        return cls(
            runs=Runs(runs.start, runs.count, target, runs.at),
            paths=tuple(t.path for t in taken),
            shapes=tuple(t.shape for t in taken),
            forms=tuple(t.form for t in taken),
            offsets=np.array(offsets, np.int64),
            lane=lane,
            inner=inner,
            indexes={i: ix for i, ix in enumerate(where) if offsets[i] < 0},
        )


def _runs(transfers: Sequence[Transfer]) -> Runs:
    """Return the rows of all datasets of one lane as runs, ordered by the variable's rows."""
    columns: list[tuple[NDArray[np.int64], ...]] = []
    for target, transfer in enumerate(transfers):
        rows = transfer.rows
        if isinstance(rows, slice):
            start = np.array([rows.start])
            count = np.array([rows.stop - rows.start])
        else:
            borders = np.flatnonzero(np.diff(rows) != 1) + 1
            first = np.concatenate([[0], borders])
            start, count = rows[first], np.diff(np.append(first, len(rows)))
        at = np.cumsum(count) - count
        columns.append((start, count, np.full(len(start), target), at))
    joined = [np.concatenate(column).astype(np.int64) for column in zip(*columns, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return Runs(*(column[order] for column in joined))


def _write_block(block: NDArray[Any], pieces: Sequence[Pieces], file: str) -> Written:
    """Write one block's values to their byte ranges; twice gives the same bytes."""
    counts: dict[str, int] = {}
    todo: dict[tuple[str, bytes | None], list[tuple[ChunkIndex, tuple[int, ...], Any]]] = {}
    for piece in pieces:
        part = block if piece.lane is None else block[:, piece.lane]
        r = piece.runs
        for start, count, target, at in zip(
            r.start.tolist(), r.count.tolist(), r.target.tolist(), r.at.tolist(), strict=True
        ):
            form, path = piece.forms[target], piece.paths[target]
            values = converted(part[start : start + count], form, path)
            counts[path] = counts.get(path, 0) + values.size
            kind = todo.setdefault((form.dtype, form.fill), [])
            kind.extend(_boxes(piece, target, at, values))
    for (dtype, fill), boxes in todo.items():
        write_pieces(file, boxes, dtype, fill)
    return Written(counts)


def converted(values: NDArray[Any], form: ArrayForm, path: str) -> NDArray[Any]:
    """Return values in the stored type; a finite number that it can't hold is refused."""
    stored = np.dtype(form.dtype).newbyteorder("=")
    if values.dtype == stored:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        out = values.astype(stored)
    if stored.kind == "f":
        lost = int((np.isinf(out) & np.isfinite(values)).sum())
    else:
        lost = int((out != values).sum())
    if lost:
        raise LayoutError(
            f"/{path}: {lost:,} values of {values.dtype.name} don't fit {stored.name}; "
            "convert them with astype before writing"
        )
    return out


def _boxes(
    piece: Pieces, target: int, at: int, values: NDArray[Any]
) -> Iterator[tuple[ChunkIndex, tuple[int, ...], NDArray[Any]]]:
    """Yield the boxes of a dataset that consecutive rows fill, its leading axes end to end."""
    shape = piece.shapes[target]
    n_lead = len(shape) - len(piece.inner)
    lead, trailing = shape[:n_lead], shape[n_lead:]
    offset = int(piece.offsets[target])
    if offset >= 0:
        rows = math.prod(lead)
        nbytes = math.prod(shape) * np.dtype(piece.forms[target].dtype).itemsize
        index = ChunkIndex.contiguous((rows, *trailing), offset, nbytes)
        yield index, (at, *piece.inner), values
        return
    index = piece.indexes[target]
    done = 0
    for corner, extent in flat_boxes(lead, at, at + len(values)):
        n = math.prod(extent)
        part = values[done : done + n].reshape(*extent, *values.shape[1:])
        yield index, (*corner, *piece.inner), part
        done += n


def flat_boxes(
    lead: tuple[int, ...], start: int, stop: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield corner and shape of the boxes that a run of flat positions covers, in C order."""
    while start < stop:
        corner = tuple(int(i) for i in np.unravel_index(start, lead))
        axis = len(lead) - 1
        while axis and corner[axis] == 0 and start + math.prod(lead[axis:]) <= stop:
            axis -= 1
        inner = math.prod(lead[axis + 1 :])
        n = min((stop - start) // inner, lead[axis] - corner[axis])
        yield corner, (*(1,) * axis, n, *lead[axis + 1 :])
        start += n * inner


def _encoded(ds: xr.Dataset, transfer: Transfer, file: str) -> Iterator[Delayed]:
    """Yield the tasks that place one compressed dataset's chunks.

    A block is encoded only once the block some places before it has been placed, so that few
    encoded blocks are held at any time.
    """
    form, shape = transfer.form, transfer.shape
    values = _dims(transfer, ds)
    part = values[transfer.rows]
    part = part if transfer.lane is None else part[:, transfer.lane]
    part = part.reshape(shape)
    chunks = transfer.chunks
    row = math.prod(shape[1:]) * part.dtype.itemsize
    rows = max(1, _BLOCK // max(1, row) // chunks[0]) * chunks[0]
    part = part.rechunk((rows, *shape[1:]))
    encode = dask.delayed(_encode, pure=True)
    place = dask.delayed(_place, pure=False)
    flight = _IN_FLIGHT * max(1, dask.system.CPU_COUNT)
    placed: list[Delayed] = []
    starts = [0, *accumulate(part.chunks[0])]
    blocks = part.to_delayed(optimize_graph=True).ravel()
    for i, block in enumerate(blocks):
        after = placed[i - flight] if i >= flight else None
        chunked = encode(block, (starts[i], *(0,) * (len(shape) - 1)), shape, chunks, form, after)
        before = placed[-1] if placed else None
        placed.append(place(chunked, transfer.path, file, math.prod(part.blocks[i].shape), before))
    yield from placed


def _encode(
    block: NDArray[Any],
    start: tuple[int, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    form: ArrayForm,
    after: Any,
) -> Any:
    """Encode a block's chunks; `after` only makes it wait."""
    values = converted(block, form, "")
    return encode_chunks(values, start, shape, chunks, form.filters, form.dtype, form.fill)


def _place(encoded: Any, path: str, file: str, n: int, before: Any) -> Written:
    """Place a block's encoded chunks; `before` only keeps the order."""
    with ChunkWriter(file) as writer:
        for origin, mask, data in encoded:
            writer.place(path, origin, mask, data)
    return Written({path: n})
