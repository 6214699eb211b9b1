"""Columns of a parquet file as lazy arrays: rows of numbers from a column of lists, ids beside it.

pyarrow decodes; its bytes come through `remote`, like those of any other file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, H5daskError, LayoutError, NotFound, Refused
from h5dask.storage.ranges import Ranges
from h5dask.storage.remote import Source
from h5dask.storage.selection import per_axis, select

_BATCH_NBYTES = 4 * 2**20
"""Values that pyarrow decodes at once."""
_PIECE = 2**20
"""Bytes of a column that are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetColumn:
    """One column: values (row,), or lists of one length (row, feature).

    Indexed like numpy, or wrapped by `dask.array.from_array`. Lists of another length, and rows
    without a value, are errors once they are read. Memory: the rows, and about 32 MiB of pyarrow's.
    """

    source: Source
    """The file."""
    name: str
    """The column's name."""
    shape: tuple[int, ...]
    """Rows, and features where values are lists."""
    dtype: np.dtype[Any]
    """Of values; object where they are text."""
    ends: tuple[int, ...]
    """Row after the last of each row group, the unit that is decoded from its beginning."""
    beside: tuple[str, ...] = ()
    """Names of all columns."""

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row's values."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, *columns = per_axis(key, self.shape)
        chosen = select(rows, self.shape[0])
        out = np.empty((chosen.size, *self.shape[1:]), self.dtype)
        with opened(self.source) as file:
            for first, run in chosen.runs():
                for at, values in self._batches(file, run.start, run.stop):
                    out[first + at - run.start : first + at - run.start + len(values)] = values
        return out[(0 if isinstance(rows, (int, np.integer)) else slice(None), *columns)]

    def _batches(self, file: Any, start: int, stop: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the wanted rows of each batch, and the number of the first."""
        begin = 0
        for group, end in enumerate(self.ends):
            if begin < stop and end > start:
                at = begin
                for batch in file.iter_batches(
                    batch_size=max(1, _BATCH_NBYTES // self.row_nbytes),
                    row_groups=[group],
                    columns=[self.name],
                    use_threads=False,
                ):
                    low, high = max(start - at, 0), min(stop - at, batch.num_rows)
                    if low < high:
                        part = batch.column(0).slice(low, high - low)
                        yield at + low, self._values(part, at + low)
                    at += batch.num_rows
                    if at >= stop:
                        break
            begin = end

    def _values(self, part: Any, start: int) -> NDArray[Any]:
        """Return some rows as numpy."""
        self._refuse_missing(part, start)
        if self.ndim == 1:
            return np.asarray(part.to_numpy(zero_copy_only=False)).astype(self.dtype, copy=False)
        if not hasattr(part.type, "list_size"):
            lengths = np.diff(part.offsets.to_numpy())
            wrong = np.flatnonzero(lengths != self.shape[1])
            if len(wrong):
                at = int(wrong[0])
                raise CorruptInput(
                    f"{self.source.url}: {self.name}, row {start + at:,}: found "
                    f"{int(lengths[at])!r} values, expected {self.shape[1]!r}, the mean of all "
                    "rows; rows of one width only are vectors: write the file again"
                )
        flat = part.flatten()
        self._refuse_missing(flat, start, self.shape[1])
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, self.shape[1])

    def _refuse_missing(self, part: Any, start: int, width: int = 1) -> None:
        if part.null_count:
            at = int(np.flatnonzero(np.asarray(part.is_null()))[0])
            raise CorruptInput(
                f"{self.source.url}: {self.name}, row {start + at // width:,}: found no value, "
                "expected one in every row; drop those rows and write the file again"
            )


def parquet_column(source: Source, name: str) -> ParquetColumn:
    """Return a column of a file, nothing but its metadata read.

    Raises
    ------
    NotFound
        There is no such column; those that there are are named.
    LayoutError
        It holds neither values nor lists of one length.
    """
    with opened(source) as file:
        schema, metadata = file.schema_arrow, file.metadata
        if name not in schema.names:
            raise NotFound(
                f"{source.url}: no column {name!r}; there are {', '.join(schema.names[:20])}"
            )
        kind = schema.field(name).type
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        n_rows = metadata.num_rows
        width: tuple[int, ...] = ()
        if hasattr(kind, "value_type"):
            width = (_width(source, name, kind, n_rows, groups),)
            kind = kind.value_type
        ends = tuple(
            int(n) for n in np.cumsum([group.num_rows for group in groups], dtype=np.int64)
        )
        return ParquetColumn(
            source=source,
            name=name,
            shape=(ends[-1] if ends else 0, *width),
            dtype=_dtype(source, name, kind),
            ends=ends,
            beside=tuple(schema.names),
        )


def _width(source: Source, name: str, kind: Any, n_rows: int, groups: list[Any]) -> int:
    """Return how many values a row has, by their number in all."""
    if hasattr(kind, "list_size"):
        return int(kind.list_size)
    n_values = sum(
        column.num_values
        for group in groups
        for column in (group.column(i) for i in range(group.num_columns))
        if column.path_in_schema.split(".")[0] == name
    )
    width, left = divmod(int(n_values), max(1, n_rows))
    if left or not width:
        raise LayoutError(
            f"{source.url}: {name}: found {n_values:,} values in {n_rows:,} rows, expected lists "
            "of one length; rows of one width only are vectors: write the file again"
        )
    return width


def _dtype(source: Source, name: str, kind: Any) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        raise LayoutError(
            f"{source.url}: {name}: found values of type {str(kind)!r}, expected numbers or text; "
            "convert that column"
        ) from None
    return found


class _RangeFile(io.RawIOBase):
    """Byte ranges as a file that can be read and sought."""

    def __init__(self, ranges: Ranges, size: int) -> None:
        self._ranges, self._size, self._at = ranges, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, into: Any) -> int:
        view = memoryview(into).cast("B")
        n = max(0, min(len(view), self._size - self._at))
        if n:
            self._ranges.read_into(self._at, view[:n])
        self._at += n
        return n


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """Open a file by pyarrow, its errors as ours.

    Raises
    ------
    Refused
        pyarrow isn't installed.
    CorruptInput
        It isn't parquet, or is damaged.
    """
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise Refused(
            f"{source.url}: parquet needs pyarrow, which isn't installed; "
            "pip install 'h5dask[parquet]'"
        ) from None
    with source.open() as ranges:
        try:
            file = _RangeFile(ranges, source.nbytes)
            yield parquet.ParquetFile(file, buffer_size=_PIECE, pre_buffer=False)
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, H5daskError):
                raise
            why = " ".join(str(error).split())[:200]
            raise CorruptInput(
                f"{source.url}: pyarrow can't read it ({why}); copy or download it again"
            ) from None
