"""Other ways to read the values of one dataset: each block whole, one element of it kept."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tests.benchmarks.files import Made
from tests.benchmarks.harness import N_THREADS

Blocks = tuple[tuple[int, ...], ...]


def reading(values: da.Array) -> Callable[[], NDArray[Any]]:
    """Return a run that reads every block whole and keeps one element of each."""
    kept = kept_of(values)

    def run() -> NDArray[Any]:
        with dask.config.set(scheduler="threads", num_workers=N_THREADS):
            return np.asarray(kept.compute())

    return run


def kept_of(values: da.Array) -> da.Array:
    """Return one element of each block, lazily."""
    lengths = tuple((1,) * n for n in values.numblocks)
    return values.map_blocks(_first, chunks=lengths, dtype=values.dtype, meta=values._meta)


def _first(block: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of the first element, so that the block can go."""
    return block[(slice(1),) * block.ndim].copy()


@contextmanager
def over_h5py(made: Made) -> Iterator[Any]:
    """Give the open dataset, for `dask.array.from_array`."""
    with h5py.File(made.path, "r") as file:
        yield file[made.group][made.dataset]


@contextmanager
def over_h5netcdf(made: Made, chunks: Blocks | None) -> Iterator[da.Array]:
    """Give the variable as xarray opens it with h5netcdf: in its own blocks, or in ours."""
    with xr.open_dataset(
        made.path,
        engine="h5netcdf",
        group=made.group,
        phony_dims="sort",
        chunks={} if chunks is None else None,
    ) as ds:
        yield _in_blocks(ds[made.dataset], chunks)


def _in_blocks(values: xr.DataArray, chunks: Blocks | None) -> Any:
    if chunks is not None:
        values = values.chunk(dict(zip(values.dims, chunks, strict=True)))
    return values.data


def has_virtualizarr() -> bool:
    """Return whether VirtualiZarr and what it reads local files with are installed."""
    return find_spec("virtualizarr") is not None and find_spec("obstore") is not None


@contextmanager
def over_virtualizarr(made: Made, chunks: Blocks | None) -> Iterator[da.Array]:
    """Give the variable as xarray opens VirtualiZarr's store of chunk references."""
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore
    from virtualizarr.parsers import HDFParser

    with h5py.File(made.path, "r") as file:
        others = [name for name in file[made.group] if name != made.dataset]
    # It gives each dataset dims of the same names, so that xarray can't hold two of other shapes.
    parse = HDFParser(group=made.group.strip("/") or None, drop_variables=others)
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    chosen = {} if chunks is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its codecs are no part of Zarr's specification
        store = parse(f"file://{made.path}", registry)
        with xr.open_zarr(store, consolidated=False, zarr_format=3, chunks=chosen) as ds:
            yield _in_blocks(ds[made.dataset], chunks)


@contextmanager
def bare_loop(made: Made, rows: Sequence[int]) -> Iterator[Callable[[], None]]:
    """Give a run that reads the stored bytes of the same blocks: `preadv` from two threads.

    Nothing is decoded, nothing put in its place: no reader can be faster.
    """
    ranges = list(_ranges(made, rows))
    largest = max(sum(n for _, n in block) for block in ranges)
    with ExitStack() as stack:
        number = os.open(made.path, os.O_RDONLY)
        stack.callback(os.close, number)
        pool = stack.enter_context(ThreadPoolExecutor(N_THREADS))

        def read(block: Sequence[tuple[int, int]]) -> None:
            memory = memoryview(np.empty(largest, np.uint8))
            at = 0
            for offset, nbytes in block:
                at += os.preadv(number, [memory[at : at + nbytes]], offset)

        def run() -> None:
            for _ in pool.map(read, ranges):
                pass

        yield run


@contextmanager
def bare_tasks(
    made: Made, blocks: Blocks, shape: tuple[int, ...], dtype: Any
) -> Iterator[da.Array]:
    """Give contiguous values, read by `preadv` in dask's tasks: what dask leaves of its speed."""
    ((start, _),) = next(_ranges(made, shape[:1]))
    number = os.open(made.path, os.O_RDONLY)
    try:
        yield da.from_array(_Bare(number, start, shape, dtype), blocks, name=False)
    finally:
        os.close(number)


@dataclass(frozen=True, slots=True, eq=False)
class _Bare:
    number: int
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        rows = key[0]
        out = np.empty((rows.stop - rows.start, *self.shape[1:]), self.dtype)
        offset = self.start + rows.start * (out.nbytes // len(out))
        os.preadv(self.number, [memoryview(out).cast("B")], offset)
        return out


def _ranges(made: Made, rows: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Yield the byte ranges of each block of rows, those side by side joined."""
    with h5py.File(made.path, "r") as file:
        dataset = file[made.group][made.dataset]
        stored: list[tuple[int, int, int]] = []
        if dataset.chunks is None:
            row = dataset.nbytes // len(dataset)
            offset = dataset.id.get_offset()
            steps = pairwise(accumulate(rows, initial=0))
            stored = [(a, offset + a * row, (b - a) * row) for a, b in steps]
        else:
            dataset.id.chunk_iter(
                lambda chunk: stored.append((chunk.chunk_offset[0], chunk.byte_offset, chunk.size))
            )
    for start, stop in pairwise(accumulate(rows, initial=0)):
        block: list[tuple[int, int]] = []
        for _, offset, nbytes in (one for one in stored if start <= one[0] < stop):
            if block and sum(block[-1]) == offset:
                block[-1] = block[-1][0], block[-1][1] + nbytes
            else:
                block.append((offset, nbytes))
        yield block


def resident(path: Path) -> None:
    """Read a file through once, so that the page cache holds it."""
    with open(path, "rb") as file:
        while file.read(2**24):
            pass
