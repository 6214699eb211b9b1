"""Reading the same bytes by h5dask and by its peers: each block whole, one element of it kept.

python -m tests.benchmarks.bench_read --size 1GB --repeat 5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da

import h5dask
from tests.benchmarks import files, peers
from tests.benchmarks.harness import (
    Measure,
    Options,
    Way,
    options,
    race,
    report,
    sized,
    speeds,
    timed,
    workplace,
)

H5PY = "dask over h5py, same blocks"
H5PY_BEST = "dask over h5py, its best blocks"
H5NETCDF = "xarray + h5netcdf, chunks={}"
H5NETCDF_SAME = "xarray + h5netcdf, same blocks"
VIRTUALIZARR = "VirtualiZarr, chunks={}"
VIRTUALIZARR_SAME = "VirtualiZarr, same blocks"
BARE = "preadv loop, two threads, same blocks"
BARE_TASKS = "preadv in dask's tasks, same blocks"

_MOST_TASKS = 4096
"""Stored chunks of which each may be a task; with more, chunks={} takes minutes."""
_CANDIDATES = (4, 8, 16, 32, 64, 128)
"""MiB of the blocks among which dask over h5py has its best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A stored form, and how many times each peer's speed is wanted."""

    name: str
    make: Callable[[Path, int], files.Made]
    wanted: dict[str, float] = field(default_factory=dict)


def _like_h5py(h5py: float, h5netcdf: float, bare: float | None = None) -> dict[str, float]:
    wanted = {
        H5PY: h5py,
        H5NETCDF: h5netcdf,
        VIRTUALIZARR: 3.0,
        VIRTUALIZARR_SAME: 3.0,
    }
    return wanted if bare is None else {**wanted, BARE: bare}


CASES = (
    Case(
        name="float32 contiguous",
        make=files.ann,
        wanted=_like_h5py(1.4, 5.0, bare=0.75),
    ),
    Case(
        name="float32 chunked",
        make=lambda path, nbytes: files.ann(
            path,
            nbytes,
            chunks=(files.CHUNK_ROWS, files.N_FEATURES),
            maxshape=(None, files.N_FEATURES),
        ),
        wanted=_like_h5py(2.5, 5.0, bare=0.75),
    ),
    Case(
        name="float32 gzip-4 + shuffle",
        make=lambda path, nbytes: files.ann(
            path, nbytes, compression="gzip", compression_opts=4, shuffle=True
        ),
        wanted=_like_h5py(2.2, 3.5),
    ),
    Case(
        name="float16 logits",
        make=lambda path, nbytes: files.activations(path, nbytes, "logits", 32_000),
        wanted={H5PY: 2.0},
    ),
    Case(
        name="float16 activations",
        make=lambda path, nbytes: files.activations(path, nbytes, "activations", 4_096),
        wanted={H5PY: 2.0},
    ),
)


def measures(asked: Options) -> Iterator[Measure]:
    """Yield one measure for each case and peer."""
    for case in CASES:
        if asked.wants(case.name):
            with workplace(asked.folder) as folder:
                made = case.make(folder / "made.h5", asked.nbytes)
                peers.resident(made.path)
                yield from _measured(case, made, asked)


def _measured(case: Case, made: files.Made, asked: Options) -> Iterator[Measure]:
    with h5dask.open_dataset(made.path) as ds, ExitStack() as stack:
        values = ds[made.variable].isel(made.keep).data
        dataset = stack.enter_context(peers.over_h5py(made))
        ways = dict(_peers(made, values.chunks, dataset, stack))
        best, blocks = _best_blocks(dataset)
        ways[f"{H5PY_BEST} ({blocks})"] = best
        wanted = case.wanted | {f"{H5PY_BEST} ({blocks})": case.wanted[H5PY]}
        setting = f"{sized(max(values.chunks[0]) * values.nbytes / len(values))} blocks"
        if dataset.chunks is not None:
            setting += f", chunks {dataset.chunks}"
        if dataset.compression:
            smaller = dataset.nbytes / dataset.id.get_storage_size()
            setting += f", {smaller:.2f} times smaller"
        raced = race(peers.reading(values), ways, asked)
        yield from speeds(f"{case.name}, {setting}", values.nbytes, raced, wanted)


def _peers(
    made: files.Made, blocks: peers.Blocks, dataset: Any, stack: ExitStack
) -> Iterator[tuple[str, Way]]:
    """Yield each way to read the same dataset."""
    chunks = dataset.chunks
    few = (
        chunks is None or dataset.nbytes <= _MOST_TASKS * math.prod(chunks) * dataset.dtype.itemsize
    )
    yield H5PY, peers.reading(da.from_array(dataset, chunks=blocks))
    yield H5NETCDF_SAME, peers.reading(stack.enter_context(peers.over_h5netcdf(made, blocks)))
    if few:
        yield H5NETCDF, peers.reading(stack.enter_context(peers.over_h5netcdf(made, None)))
    if peers.has_virtualizarr():
        if few:
            opened = stack.enter_context(peers.over_virtualizarr(made, None))
            yield VIRTUALIZARR, peers.reading(opened)
        if chunks is not None:  # it decodes whole chunks, and contiguous values are one
            opened = stack.enter_context(peers.over_virtualizarr(made, blocks))
            yield VIRTUALIZARR_SAME, peers.reading(opened)
    if not dataset.compression:
        yield BARE, stack.enter_context(peers.bare_loop(made, blocks[0]))
    if chunks is None:  # what dask itself leaves of that speed
        bare = peers.bare_tasks(made, blocks, dataset.shape, dataset.dtype)
        yield BARE_TASKS, peers.reading(stack.enter_context(bare))


def _best_blocks(dataset: Any) -> tuple[Way, str]:
    """Return dask over h5py with the blocks it is quickest with, and what blocks these are."""
    row = dataset.nbytes // len(dataset)
    step = dataset.chunks[0] if dataset.chunks else 1
    found = []
    for size in _CANDIDATES:
        rows = max(1, size * 2**20 // row // step) * step
        way = peers.reading(da.from_array(dataset, chunks=(min(rows, len(dataset)), -1)))
        found.append((min(timed(way) for _ in range(2)), size, way))
    _, size, way = min(found, key=lambda one: one[0])
    return way, f"{size} MiB"


if __name__ == "__main__":
    given = options(__doc__)
    report("Reading", measures(given), given)
