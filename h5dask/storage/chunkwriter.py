"""Encoded chunks -> a file whose skeleton is made, through HDF5's library and by one writer."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from h5py import h5d, h5f, h5p
from numpy.typing import NDArray

from h5dask.chunkindex import Filter
from h5dask.errors import LayoutError, Refused, WorkersLost
from h5dask.storage import codec, plugins
from h5dask.storage.parts import PLACING, end_placing
from h5dask.storage.space import Reservation, full_disk_told

_SHUFFLE = 2
Origin = tuple[int, ...]

_INDEX_NBYTES = 256
"""At most what HDF5 adds to a dataset's index for one chunk."""
_META_BLOCKS = (4096, 1 << 20)
"""Least and largest size of the blocks in which nodes of the chunks' indexes lie together."""
_SLACK_NBYTES = 1 << 16
"""Room for what HDF5 may lay down beside a block's values."""
_MOST_OPEN = 64


def encode_chunks(
    block: NDArray[Any],
    start: tuple[int, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    filters: tuple[Filter, ...],
    dtype: str,
    fill: bytes | None = None,
) -> list[tuple[Origin, int, bytes]]:
    """Encode the chunks that a block covers, ready to be placed.

    Parameters
    ----------
    block : array
        Values whose box starts on the chunk grid, and ends on it or at the dataset's edge. Memory:
        the encoded chunks and at most four decoded ones.
    start : tuple of int
        Place of the block's first value.
    shape, chunks : tuple of int
        Shape of the dataset and of a chunk.
    filters : tuple of Filter
        The pipeline, all of it `codec.decodable`.
    dtype : str
        The stored dtype; the block's may differ in byte order only.
    fill : bytes, optional
        The fill value's bytes in the stored dtype, for chunks that reach over the edge.

    Returns
    -------
    list of (origin, mask, bytes)
        Place of the chunk's first value, HDF5's filter mask, and what belongs in the file.

    Raises
    ------
    Refused
        Where a filter isn't ours: write such values through `ChunkWriter.write_values`.
    LayoutError
        Where the block cuts a chunk, or has another dtype.

    Examples
    --------
    >>> deflate = Filter(1, 0, (4,), "deflate")
    >>> found = encode_chunks(np.ones((3, 2), "<f4"), (0, 0), (3, 2), (2, 2), (deflate,), "<f4")
    >>> [(origin, mask) for origin, mask, _ in found]
    [((0, 0), 0), ((2, 0), 0)]
    """
    if not codec.decodable(filters):
        names = ", ".join(f.name for f in filters)
        raise Refused(f"filters {names} are not encoded here; let HDF5 write these values")
    stored = np.dtype(dtype)
    _check(block, start, shape, chunks, stored)
    # HDF5 shuffles by the size of the stored type, whatever a form says.
    filters = tuple(
        replace(f, values=(stored.itemsize,)) if f.id == _SHUFFLE else f for f in filters
    )
    counts = [-(-n // chunk) for n, chunk in zip(block.shape, chunks, strict=True)]
    padding = np.frombuffer(fill, stored)[0] if fill else np.zeros((), stored)
    out = []
    for number in np.ndindex(*counts):
        first = [n * chunk for n, chunk in zip(number, chunks, strict=True)]
        box = tuple(slice(at, at + chunk) for at, chunk in zip(first, chunks, strict=True))
        values = block[box]
        if values.shape != chunks:
            padded = np.full(chunks, padding, stored)
            padded[tuple(slice(0, n) for n in values.shape)] = values
            values = padded
        raw = np.ascontiguousarray(values, stored).reshape(-1).view(np.uint8)
        encoded, mask = codec.encode(raw, filters)
        out.append((tuple(a + b for a, b in zip(start, first, strict=True)), mask, encoded))
    return out


def _check(
    block: NDArray[Any],
    start: tuple[int, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    stored: np.dtype[Any],
) -> None:
    if block.dtype.newbyteorder("=") != stored.newbyteorder("="):
        raise LayoutError(
            f"a block is {block.dtype.str!r}, its dataset {stored.str!r}; "
            f"convert it with astype({stored.str!r})"
        )
    whole = block.ndim == len(shape) and all(
        at % chunk == 0 and at + n <= size and (n % chunk == 0 or at + n == size)
        for at, n, size, chunk in zip(start, block.shape, shape, chunks, strict=True)
    )
    if not whole:
        raise LayoutError(
            f"a block of shape {block.shape!r} at {start!r} cuts chunks of {chunks!r} in a "
            f"dataset of shape {shape!r}; rechunk it to whole chunks"
        )


def _begin_placing(path: str) -> None:
    try:
        os.close(os.open(path + PLACING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    except FileExistsError:
        raise WorkersLost(
            f"{path}: a worker was lost, or stands still, while it placed compressed values there; "
            "nothing was published, write it again"
        ) from None


class ChunkWriter:
    """Places encoded chunks in a file that nobody else has open for writing meanwhile.

    Parameters
    ----------
    path : str
        Local path of a file that `skeleton.create` made, closed.
    n_chunks : int
        About how many chunks will be placed: so large a piece of the file is kept for their index.

    Raises
    ------
    WorkersLost
        Somebody began to place chunks in it and hasn't ended.

    Notes
    -----
    Space is reserved ahead of HDF5, so that it never meets a full disk. HDF5 changes the chunks'
    index in several steps, the last ones when the file is closed: of one who was killed it may be
    torn, and one who is frozen would write his own over what others have placed meanwhile. So a
    file beside it tells that somebody is at it, and what he leaves unfinished nobody goes on with.
    """

    def __init__(self, path: str, n_chunks: int = 1024) -> None:
        self._path = path
        meta_block = min(max(n_chunks * 64, _META_BLOCKS[0]), _META_BLOCKS[1])
        self._datasets: dict[str, Any] = {}
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
        access.set_meta_block_size(meta_block)
        access.set_file_locking(False, ignore_when_disabled=True)
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        self._space = Reservation(path)
        with ExitStack() as on_failure:
            on_failure.callback(self._space.close)
            with full_disk_told(path):
                _begin_placing(path)
                on_failure.callback(end_placing, path)
                self._space.need(os.path.getsize(path) + 2 * meta_block)
            self._file = h5f.open(os.fsencode(path), h5f.ACC_RDWR, fapl=access)
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with full_disk_told(self._path):
                self._file.close()
                self._space.finish()
            end_placing(self._path)
        finally:
            self._space.close()

    def place(self, path: str, origin: Origin, mask: int, data: bytes) -> None:
        """Put one encoded chunk of the dataset at `path` in its place.

        Raises
        ------
        OutOfSpace
            Where the disk, a quota or the limit of file sizes is reached.
        """
        with full_disk_told(self._path):
            self._space.need(len(data) + _INDEX_NBYTES)
            self._dataset(path).write_direct_chunk(origin, data, mask)

    def write_values(self, path: str, start: Origin, block: NDArray[Any]) -> None:
        """Let HDF5 encode and write a block of a dataset whose filters aren't ours.

        Blocks of whole chunks are encoded once; others again for each block.

        Raises
        ------
        Refused
            Where HDF5 lacks a filter.
        OutOfSpace
            Where the disk, a quota or the limit of file sizes is reached.
        """
        dataset = self._dataset(path)
        properties = dataset.get_create_plist()
        filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
        lacking = plugins.missing(Filter(n, 0, (), name.decode()) for n, _, _, name in filters)
        if lacking:
            names = ", ".join(f.name for f in lacking)
            raise Refused(
                f"{self._path}: '/{path}' has filters that HDF5 lacks here: {names}; "
                "pip install 'h5dask[filters]'"
            )
        with full_disk_told(self._path):
            self._space.need(block.nbytes + block.nbytes // 8 + _SLACK_NBYTES)
            box = tuple(slice(at, at + n) for at, n in zip(start, block.shape, strict=True))
            h5py.Dataset(dataset)[box] = block

    def _dataset(self, path: str) -> Any:
        dataset = self._datasets.get(path)
        if dataset is None:
            if len(self._datasets) >= _MOST_OPEN:
                self._datasets.clear()
            dataset = self._datasets[path] = h5d.open(self._file, f"/{path}".encode())
        return dataset
