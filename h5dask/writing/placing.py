"""Which part of which block goes where in a file: rows of variables -> boxes of datasets.

Pure bookkeeping, and what a task runs: write a block's boxes, read them back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput, LayoutError
from h5dask.storage.write import Part, Receipt, read_receipt, write_pieces
from h5dask.writing.drafting import Transfer

Ints = NDArray[np.int64]
Box = tuple[ChunkIndex, tuple[int, ...], tuple[int, ...]]
"""Index of a dataset, first element of a box in it, and the box's shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Which rows of a variable go where: columns over runs of consecutive rows, by first row."""

    start: Ints
    """First row of the variable."""
    count: Ints
    """Rows in the run."""
    target: Ints
    """Which dataset, counted in a list that goes with the runs."""
    at: Ints
    """First row in the dataset, its leading axes end to end."""

    @classmethod
    def of(cls, transfers: Sequence[Transfer]) -> Runs:
        """Return the rows that the datasets of one lane take, ordered by the variable's rows."""
        whole = [(i, t.rows) for i, t in enumerate(transfers) if isinstance(t.rows, slice)]
        table = np.array([(r.start, r.stop - r.start, i, 0) for i, r in whole], np.int64)
        columns: list[Ints] = [table.reshape(-1, 4)]
        for target, transfer in enumerate(transfers):
            rows = transfer.rows
            if not isinstance(rows, slice):
                first = np.concatenate([[0], np.flatnonzero(np.diff(rows) != 1) + 1])
                count = np.diff(np.append(first, len(rows)))
                at = np.cumsum(count) - count
                columns.append(np.stack([rows[first], count, np.full(len(first), target), at], 1))
        joined = np.concatenate(columns)
        order = np.argsort(joined[:, 0], kind="stable")
        return cls(*np.ascontiguousarray(joined[order].T))

    def within(self, start: int, stop: int) -> Runs:
        """Return the parts of the runs that lie in a block of rows, counted from its start."""
        ends = self.start + self.count
        low = int(np.searchsorted(ends, start, side="right"))
        high = int(np.searchsorted(self.start, stop, side="left"))
        first, last = np.maximum(self.start[low:high], start), np.minimum(ends[low:high], stop)
        skipped = first - self.start[low:high]
        return Runs(first - start, last - first, self.target[low:high], self.at[low:high] + skipped)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Which rows of one lane go where: a slice of the target's index, of a variable or a block."""

    runs: Runs
    """Rows of the variable or block; `target` counts the columns below."""
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    forms: tuple[ArrayForm, ...]
    """The distinct forms."""
    form_of: Ints
    """Which of them each dataset has."""
    offsets: Ints
    """Byte offset of contiguous datasets, -1 for chunked ones."""
    lane: int | None
    """Which lane of the variable or block."""
    inner: tuple[int, ...] = ()
    """First column of the block along each trailing dim."""
    indexes: Mapping[int, ChunkIndex] = field(default_factory=dict)
    """Index of the chunked ones."""

    @classmethod
    def of(
        cls, transfers: Sequence[Transfer], indexes: Mapping[str, ChunkIndex], lane: int | None
    ) -> Pieces:
        """Return where the datasets of one lane of a variable lie."""
        where = [indexes[t.path] for t in transfers]
        contiguous = [t.form.storage == "contiguous" for t in transfers]
        forms: dict[ArrayForm, int] = {}
        known = {id(form): form for form in (t.form for t in transfers)}
        number = {at: forms.setdefault(form, len(forms)) for at, form in known.items()}
        return cls(
            runs=Runs.of(transfers),
            paths=tuple([t.path for t in transfers]),
            shapes=tuple([t.shape for t in transfers]),
            forms=tuple(forms),
            form_of=np.array([number[id(t.form)] for t in transfers]),
            offsets=np.array(
                [
                    ix.offset[0] if plain else -1
                    for ix, plain in zip(where, contiguous, strict=True)
                ],
                np.int64,
            ),
            lane=lane,
            indexes={i: ix for i, ix in enumerate(where) if not contiguous[i]},
        )

    def long_runs(
        self, columns: tuple[int, ...], dtype: np.dtype[Any] | None
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield the runs, as one those that lie end to end in the variable and in the file.

        That is asked of datasets of one form that take all columns of the variable. Values of a
        dtype that isn't the stored one are converted dataset by dataset, whose name errors tell.
        """
        runs, form_of = self.runs, self.form_of[self.runs.target]
        trailing = self.shapes[0][len(self.shapes[0]) - len(columns) :]
        itemsizes = np.array([np.dtype(form.dtype).itemsize for form in self.forms])
        nbytes = itemsizes[form_of] * math.prod(columns)
        place = self.offsets[runs.target] + runs.at * nbytes
        ends = place + runs.count * nbytes
        joins = (runs.start[1:] == (runs.start + runs.count)[:-1]) & (place[1:] == ends[:-1])
        stored = [np.dtype(form.dtype).newbyteorder("=") for form in self.forms]
        kept = np.array([dtype is None or dtype == one for one in stored])[form_of]
        joins &= (form_of[1:] == form_of[:-1]) & kept[1:] & (columns == trailing)
        joins &= (self.offsets[runs.target][1:] >= 0) & (self.offsets[runs.target][:-1] >= 0)
        first = np.flatnonzero(np.concatenate([[True], ~joins]))
        count = np.add.reduceat(runs.count, first)
        columns_of = (runs.start[first], count, runs.target[first], runs.at[first])
        yield from zip(*(column.tolist() for column in columns_of), strict=True)

    def boxes(self, target: int, at: int, count: int, columns: tuple[int, ...]) -> Iterator[Box]:
        """Yield the boxes that consecutive rows fill, from a dataset's row on.

        Leading axes lie end to end, and so do contiguous datasets that follow one another.
        """
        shape = self.shapes[target]
        n_lead = len(shape) - len(self.inner)
        lead, trailing = shape[:n_lead], shape[n_lead:]
        if self.offsets[target] >= 0:
            rows = max(math.prod(lead), at + count)
            itemsize = np.dtype(self.forms[self.form_of[target]].dtype).itemsize
            nbytes = rows * math.prod(trailing) * itemsize
            index = ChunkIndex.contiguous((rows, *trailing), int(self.offsets[target]), nbytes)
            yield index, (at, *self.inner), (count, *columns)
            return
        for corner, extent in flat_boxes(lead, at, at + count):
            yield self.indexes[target], (*corner, *self.inner), (*extent, *columns)

    def counts(self, columns: tuple[int, ...]) -> Iterator[tuple[str, int]]:
        """Yield how many values each dataset gets."""
        n = self.runs.count * math.prod(columns)
        for target, count in zip(self.runs.target.tolist(), n.tolist(), strict=True):
            yield self.paths[target], count


def flat_boxes(
    lead: tuple[int, ...], start: int, stop: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield corner and shape of the boxes that a run of flat positions covers, in C order.

    Examples
    --------
    >>> list(flat_boxes((3, 4), 2, 11))
    [((0, 2), (1, 2)), ((1, 0), (1, 4)), ((2, 0), (1, 3))]
    """
    while start < stop:
        corner = tuple(int(i) for i in np.unravel_index(start, lead))
        axis = len(lead) - 1
        while axis and corner[axis] == 0 and start + math.prod(lead[axis:]) <= stop:
            axis -= 1
        inner = math.prod(lead[axis + 1 :])
        n = min((stop - start) // inner, lead[axis] - corner[axis])
        yield corner, (*(1,) * axis, n, *lead[axis + 1 :])
        start += n * inner


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where the blocks of one variable belong in a file that is being written."""

    file: str
    """Path of the file, whose skeleton is made."""
    variable: str
    """Name of the variable."""
    lanes: tuple[Pieces, ...]
    """Where the rows of each lane go."""
    borders: tuple[tuple[int, ...], ...]
    """Along each dim: where blocks begin, and the size."""

    @classmethod
    def of(
        cls,
        file: str,
        variable: str,
        transfers: Sequence[Transfer],
        indexes: Mapping[str, ChunkIndex],
        chunks: Sequence[Sequence[int]],
    ) -> Target:
        """Return where the blocks of a variable belong that is cut into these lengths."""
        lanes: dict[int | None, list[Transfer]] = {}
        for transfer in transfers:
            lanes.setdefault(transfer.lane, []).append(transfer)
        pieces = (Pieces.of(group, indexes, lane) for lane, group in lanes.items())
        borders = tuple(tuple(accumulate(lengths, initial=0)) for lengths in chunks)
        return cls(file, variable, tuple(pieces), borders)

    def pieces(self, block: tuple[int, ...]) -> list[Pieces]:
        """Return what one block holds of each lane, counted from the block's corner."""
        corner = [axis[i] for axis, i in zip(self.borders, block, strict=True)]
        ends = [axis[i + 1] for axis, i in zip(self.borders, block, strict=True)]
        found = []
        for piece in self.lanes:
            lane = piece.lane
            if lane is not None and not corner[1] <= lane < ends[1]:
                continue
            runs = piece.runs.within(corner[0], ends[0])
            if len(runs.start):
                inner = tuple(corner[1:] if lane is None else corner[2:])
                here = None if lane is None else lane - corner[1]
                found.append(replace(piece, runs=runs, lane=here, inner=inner))
        return found

    def shape(self, block: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one block."""
        return tuple(axis[i + 1] - axis[i] for axis, i in zip(self.borders, block, strict=True))


@dataclass(frozen=True, slots=True)
class Written:
    """What one task wrote."""

    counts: Mapping[str, int]
    """Values by path of the dataset."""
    receipts: tuple[Receipt, ...] = ()
    """Checksums of the written bytes, one for each stored type and fill value."""


Kind = tuple[str, bytes | None]
Filled = tuple[int | None, slice, str, ArrayForm, Box]
"""Lane and rows of a block, the dataset's path and form, and the box that they fill in it."""


def by_kind(
    pieces: Sequence[Pieces], shape: tuple[int, ...], dtype: np.dtype[Any] | None = None
) -> dict[Kind, list[Filled]]:
    """Return the boxes of a block by stored type and fill value, always in the same order."""
    found: dict[Kind, list[Any]] = {}
    for piece in pieces:
        columns = shape[1:] if piece.lane is None else shape[2:]
        for start, count, target, at in piece.long_runs(columns, dtype):
            form, path = piece.forms[piece.form_of[target]], piece.paths[target]
            kind = found.setdefault((form.dtype, form.fill), [])
            done = start
            for box in piece.boxes(target, at, count, columns):
                n = math.prod(box[2]) // max(1, math.prod(columns))
                kind.append((piece.lane, slice(done, done + n), path, form, box))
                done += n
    return found


def write_block(block: NDArray[Any], target: Target, at: tuple[int, ...]) -> Written:
    """Write one block's values to their byte ranges; twice gives the same bytes.

    Memory: the block, and a copy of it where its dtype is not the stored one.
    """
    receipts = [
        write_pieces(target.file, boxes, dtype, fill)
        for (dtype, fill), boxes in boxes_of(block, target, at)
    ]
    return Written(counted(target, at), tuple(receipts))


def counted(target: Target, at: tuple[int, ...]) -> dict[str, int]:
    """Return how many values of one block each dataset gets, by path."""
    counts: dict[str, int] = {}
    shape = target.shape(at)
    for piece in target.pieces(at):
        for path, n in piece.counts(shape[1:] if piece.lane is None else shape[2:]):
            counts[path] = counts.get(path, 0) + n
    return counts


def boxes_of(
    block: NDArray[Any], target: Target, at: tuple[int, ...]
) -> Iterator[tuple[Kind, Iterator[Part]]]:
    """Yield the boxes of a block with their values in the stored type, by that and fill value."""
    for kind, parts in by_kind(target.pieces(at), block.shape, block.dtype).items():
        yield kind, _values_of(block, parts)


def _values_of(block: NDArray[Any], parts: Sequence[Filled]) -> Iterator[Part]:
    for lane, rows, path, form, (index, start, extent) in parts:
        part = block[rows] if lane is None else block[rows, lane]
        yield index, start, converted(part, form, path).reshape(extent)


def check_block(written: Written, target: Target, at: tuple[int, ...]) -> None:
    """Read back what `write_block` wrote.

    Raises
    ------
    CorruptInput
        The file's bytes are not those that were written.
    """
    kinds = by_kind(target.pieces(at), target.shape(at)).items()
    for receipt, ((dtype, _), parts) in zip(written.receipts, kinds, strict=True):
        if read_receipt(target.file, [box for *_, box in parts], dtype) != receipt:
            raise CorruptInput(
                f"{target.file}: /{parts[0][2]} reads back other bytes than were written; nothing "
                "was published; check the disk and write it again"
            )


def converted(values: NDArray[Any], form: ArrayForm, path: str) -> NDArray[Any]:
    """Return values in the stored type; a number that it can't hold is refused."""
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
