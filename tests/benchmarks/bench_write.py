"""Writing the same values by h5dask, by h5py alone, and as a plain file.

Every side writes a new file beside its name, syncs it to the disk, renames it and syncs the
folder. A disk has the last word on that, so there is a second round in memory where the system
has a folder for it.

    python -m tests.benchmarks.bench_write --size 1GB --repeat 5
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
from numpy.typing import NDArray

import h5dask
from tests.benchmarks import files
from tests.benchmarks.harness import (
    N_THREADS,
    Measure,
    Options,
    options,
    race,
    report,
    sized,
    speeds,
    workplace,
)

BLOCK_NBYTES = 16 * 2**20
BLOCK_ROWS = BLOCK_NBYTES // (4 * files.N_FEATURES)
MEMORY = Path("/dev/shm")
PLAIN = "plain file, pwrite from two threads"
H5PY = "h5py, one writer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A stored form, and how many times each peer's speed is wanted."""

    name: str
    storage: dict[str, Any]
    wanted: dict[str, float] = field(default_factory=dict)


_CHUNKED = {
    "chunks": (files.CHUNK_ROWS, files.N_FEATURES),
    "maxshape": (None, files.N_FEATURES),
}
CASES = (
    Case(name="float32 contiguous", storage={}, wanted={PLAIN: 0.9}),
    Case(name="float32 chunked", storage=_CHUNKED, wanted={PLAIN: 0.9}),
    Case(
        name="float32 gzip-4",
        storage={**_CHUNKED, "compression": "gzip", "compression_opts": 4},
        wanted={H5PY: 1.7},
    ),
    Case(
        name="float32 gzip-4 + shuffle",
        storage={**_CHUNKED, "compression": "gzip", "compression_opts": 4, "shuffle": True},
        wanted={H5PY: 1.7},
    ),
)


def measures(asked: Options) -> Iterator[Measure]:
    """Yield one measure for each case, folder and peer."""
    n_blocks = max(1, asked.nbytes // BLOCK_NBYTES)
    block = files.vectors(BLOCK_ROWS)
    folders = {"on disk": asked.folder} | ({"in memory": MEMORY} if MEMORY.is_dir() else {})
    for case in CASES:
        compressed = "compression" in case.storage
        for where, folder in folders.items():
            # How fast a disk is doesn't matter to what an encoder can do.
            if asked.wants(f"{case.name} {where}") and not (compressed and where == "on disk"):
                setting = f"{case.name}, {where}, {sized(BLOCK_NBYTES)} blocks"
                if case.storage:
                    setting += f", chunks {case.storage['chunks']}"
                with workplace(folder) as place:
                    ways = {H5PY: _by_h5py(place, case, block, n_blocks)}
                    if not compressed:
                        ways = {PLAIN: _as_plain_file(place, block, n_blocks), **ways}
                    ours = _by_h5dask(place, case, block, n_blocks)
                    raced = list(race(ours, ways, asked))
                    if compressed:
                        sizes = [(place / f"{name}.h5").stat().st_size for name in ("ours", "peer")]
                        setting += f", {sizes[0] / sizes[1]:.2f} times h5py's bytes"
                    yield from speeds(setting, n_blocks * BLOCK_NBYTES, raced, case.wanted)


def _by_h5dask(
    place: Path, case: Case, block: NDArray[np.float32], n_blocks: int
) -> Callable[[], None]:
    """Return a run of `write_dataset`; its blocks are there already, in the caller's memory."""
    form = place / "form.h5"
    files.ann(form, 4 * files.N_FEATURES * 10_000, **case.storage)
    rows = (BLOCK_ROWS,) * n_blocks
    layer = {("block", i, 0): block for i in range(n_blocks)}
    train = da.Array(layer, "block", (rows, (files.N_FEATURES,)), dtype=block.dtype)
    with h5dask.open_dataset(form) as small:
        rest = small.drop_vars("train").load()
    ds = rest.assign(train=(("vector", "feature"), train))

    def run() -> None:
        with dask.config.set(scheduler="threads", num_workers=N_THREADS):
            h5dask.write_dataset(ds, place / "ours.h5", like=form, overwrite=True)

    run()
    _same_storage(form, place / "ours.h5")
    return run


def _same_storage(form: Path, written: Path) -> None:
    """Refuse to measure a file that is not of the form that was asked for."""
    with h5py.File(form) as expected, h5py.File(written) as found:
        for name in ("chunks", "maxshape", "compression", "compression_opts", "shuffle"):
            wanted, got = (getattr(file["train"], name) for file in (expected, found))
            if name == "maxshape" and not expected["train"].chunks:
                wanted, got = len(wanted), len(got)
            if wanted != got:
                raise AssertionError(f"{written}: train has {name} {got!r}, expected {wanted!r}")


def _by_h5py(
    place: Path, case: Case, block: NDArray[np.float32], n_blocks: int
) -> Callable[[], None]:
    shape = len(block) * n_blocks, files.N_FEATURES

    def run() -> None:
        temporary = place / "peer.part"
        with h5py.File(temporary, "w") as file:
            train = file.create_dataset("train", shape, "<f4", **case.storage)
            for i in range(n_blocks):
                train[i * len(block) : (i + 1) * len(block)] = block
        _publish(temporary, place / "peer.h5")

    return run


def _as_plain_file(place: Path, block: NDArray[np.float32], n_blocks: int) -> Callable[[], None]:
    """Return a run that writes the blocks end to end: no file can be written faster."""
    memory = memoryview(block).cast("B")

    def run() -> None:
        temporary = place / "plain.part"
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:

            def write(i: int) -> None:
                done = 0
                while done < len(memory):
                    done += os.pwrite(number, memory[done:], i * len(memory) + done)

            with ThreadPoolExecutor(N_THREADS) as pool:
                for _ in pool.map(write, range(n_blocks)):
                    pass
        finally:
            os.close(number)
        _publish(temporary, place / "plain.h5")

    return run


def _publish(temporary: Path, target: Path) -> None:
    """Sync a file, give it its name, and sync the folder, as `write_dataset` does."""
    _sync(temporary)
    temporary.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


if __name__ == "__main__":
    given = options(__doc__)
    report("Writing", measures(given), given)
