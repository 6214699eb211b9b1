"""Arrays of numbers and their places in files without a structure: lazy reading, whole writing.

What the header says and where arrays lie is the caller's matter.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.utils import parse_bytes

from h5dask import blocks
from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm
from h5dask.errors import CorruptInput, H5daskError, Refused
from h5dask.losses import compute
from h5dask.results import refuse_existing_file
from h5dask.storage.parts import new_part, remove_abandoned
from h5dask.storage.planned import Plan
from h5dask.storage.publishing import publish
from h5dask.storage.region import Region, begin
from h5dask.storage.remote import Source, resolved
from h5dask.writing.delivery import deliver
from h5dask.writing.drafting import Transfer
from h5dask.writing.planning import FilePlan

Chunks = str | int
"""How a file is cut in blocks; see `vectors.open_vectors`."""


def block_lengths(
    subject: str,
    shape: Sequence[int],
    itemsize: int,
    chunks: Chunks,
    *,
    ends: Sequence[int] = (),
    chunk: int = 1,
) -> tuple[tuple[int, ...], ...]:
    """Return the lengths of blocks along each dim of an array of rows.

    Parameters
    ----------
    subject : str
        What messages begin with.
    shape, itemsize
        Of the array.
    chunks : "auto", int or str
        As in `open_vectors`.
    ends : sequence of int
        Where blocks end if they can, the size last; anywhere without.
    chunk : int
        Rows that are read and decoded together.
    """
    inner = tuple(shape[1:])
    if isinstance(chunks, int):
        if chunks < 1:
            raise Refused(f"{subject}: found chunks={chunks!r}, expected 1 row or more in a block")
        found: tuple[tuple[int, ...], ...]
        found = da.core.normalize_chunks((chunks, *(-1,) * len(inner)), tuple(shape))
        return found
    size = block_size(chunks)
    columns = blocks.columns(inner, itemsize, size)
    nbytes = math.prod(inner) * itemsize
    ending = np.array(ends or [shape[0]])
    rows = blocks.Rows(size=shape[0], nbytes=nbytes, ends=ending, chunk=chunk)
    return blocks.cut(rows, size), *columns


def lazily(source: Source, array: Any, lengths: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return an array that reads a file in blocks, whose names tell the file's state.

    Parameters
    ----------
    source : Source
        The file.
    array : array-like
        Lazy, with a name, indexed like numpy.
    lengths : tuple of tuple of int
        Of blocks along each dim.
    """
    token = tokenize(source.url, source.fingerprint, lengths)
    name = f"read-{array.name}-{token}"
    values: da.Array = da.from_array(array, lengths, name=name, inline_array=False)
    return values


def block_size(chunks: str) -> int:
    """Return the bytes of a block that "auto" or a size such as "64 MiB" asks for."""
    given = dask.config.get("h5dask.block-size", blocks.BLOCK_SIZE) if chunks == "auto" else chunks
    try:
        return int(parse_bytes(given))
    except ValueError:
        raise Refused(
            f"chunks={chunks!r} is no size of blocks; give one such as '64 MiB'"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One array, and where it goes."""

    name: str
    """What it is called in messages and in the names of tasks."""
    values: da.Array
    """The values, of the region's shape; bytes (row, byte) where rows are counted."""
    region: Region
    """Where they go."""


def write_raw(
    urlpath: str | os.PathLike[str],
    header: bytes,
    arrays: Sequence[Placed],
    *,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write a header and arrays at their places as one file, block by block.

    Parameters
    ----------
    urlpath : str or path
        Local path, or fsspec URL (written by way of a local temporary file).
    header : bytes
        The file's first bytes.
    arrays : sequence of Placed
        What follows; together they fill the file up to the last one's end.
    overwrite : bool, default False
        Whether an existing file is replaced.
    storage_options : mapping, optional
        Options of the fsspec filesystem.

    Raises
    ------
    Conflict
        The target is there already.
    NotFound
        The target's folder isn't there.
    OutOfSpace
        The disk is full; nothing is left behind.

    Notes
    -----
    Memory per task: the block.
    """
    url = resolved(urlpath)
    refuse_existing_file(url, overwrite=overwrite, storage_options=storage_options)
    remove_abandoned(url)
    part = new_part(url)
    with _removed(part, url):
        begin(part, header, max((one.region.end for one in arrays), default=len(header)))
        _fill(part, url, [one for one in arrays if one.values.size])
        publish(part, url, storage_options, overwrite=overwrite)


def _fill(part: str, url: str, arrays: Sequence[Placed]) -> None:
    """Write all values, read them back, and see that all arrived."""
    transfers, indexes, variables = [], {}, {}
    for one in arrays:
        shape = one.values.shape
        nbytes = one.region.end - one.region.offset
        form = ArrayForm(dtype="|u1" if one.region.counted else one.region.dtype, type=b"")
        rows = slice(0, shape[0])
        transfers.append(
            Transfer(path=one.name, variable=one.name, lane=None, rows=rows, shape=shape, form=form)
        )
        indexes[one.name] = ChunkIndex.contiguous(shape, one.region.offset, nbytes)
        dims = [f"{one.name}_{axis}" for axis in range(one.values.ndim)]
        variables[one.name] = xr.Variable(dims, one.values)
    planned = FilePlan(
        plan=Plan(groups={}, arrays=(), attrs={}),
        transfers=tuple(transfers),
        sizes={},
        nbytes=sum(one.region.end - one.region.offset for one in arrays),
    )
    written = compute(*deliver(xr.Dataset(variables), planned, indexes, part).tasks())
    counted: Counter[str] = Counter()
    for receipt in (receipt for some in written for receipt in some):
        counted.update(receipt.counts)
    if counted != planned.expected:
        raise CorruptInput(
            f"{url}: found {dict(counted)!r} values written, expected {planned.expected!r}; "
            "nothing was published; write it again"
        )


@contextmanager
def _removed(part: str, url: str) -> Iterator[None]:
    """Leave nothing behind where writing fails or is interrupted, and name the target in errors."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            os.unlink(part)
        if isinstance(error, H5daskError) and part in str(error):
            raise type(error)(str(error).replace(part, url)) from None
        raise
