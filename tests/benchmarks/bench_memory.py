"""A file of 2 GB opened, scanned and rewritten by workers of 512 MB that may not spill.

A worker that outgrows its limit is killed and started anew by its nanny, and that is counted.

    python -m tests.benchmarks.bench_memory --size 2GB
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import xarray as xr
from distributed import Client, LocalCluster

import h5dask
from h5dask.workers import ENVIRONMENT
from tests.benchmarks import files
from tests.benchmarks.harness import Measure, Options, options, report, sized, workplace

N_WORKERS = 2
LIMIT = 512 * 10**6
"""Bytes of memory that one worker may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A stored form."""

    name: str
    make: Callable[[Path, int], files.Made]


CASES = (
    Case(name="float32 contiguous", make=files.ann),
    Case(
        name="float32 gzip-4 + shuffle",
        make=lambda path, nbytes: files.ann(
            path, nbytes, compression="gzip", compression_opts=4, shuffle=True
        ),
    ),
    Case(
        name="float16 logits",
        make=lambda path, nbytes: files.activations(path, nbytes, "logits", 32_000),
    ),
)


def measures(asked: Options) -> Iterator[Measure]:
    """Yield restarts and peak memory for each case."""
    for case in CASES:
        if asked.wants(case.name):
            with workplace(asked.folder) as folder:
                made = case.make(folder / "made.h5", asked.nbytes)
                n_restarted, peak = scan_and_rewrite(made, folder)
            about = f"{case.name}, {sized(asked.nbytes)}, {N_WORKERS} workers of {sized(LIMIT)}"
            yield Measure(
                case=about,
                against="workers restarted",
                value=n_restarted,
                unit="",
                at_most=0,
            )
            yield Measure(
                case=about,
                against="largest worker's peak memory",
                value=peak / LIMIT,
                unit="of its limit",
                at_most=1,
            )


def scan_and_rewrite(made: files.Made, folder: Path) -> tuple[int, int]:
    """Return how many workers were restarted, and the most bytes that one took."""
    with cluster(folder) as client:
        before = client.run(os.getpid)
        with h5dask.open_dataset(made.path) as ds:
            found = scanned(ds[made.variable])
            h5dask.write_dataset(ds, folder / "rewritten.h5")
        with h5dask.open_dataset(folder / "rewritten.h5") as again:
            for one, other in zip(found, scanned(again[made.variable]), strict=True):
                xr.testing.assert_identical(one, other)
        after = client.run(os.getpid)
        peak = max(client.run(_peak).values())
    restarted = set(before.items()) - set(after.items())
    return len(restarted), peak


def scanned(values: xr.DataArray) -> tuple[xr.Dataset, ...]:
    """Return what takes every value: statistics of each column, and what is wrong."""
    figures = h5dask.summarize(values, values.dims[0])
    return tuple(dask.compute(figures, h5dask.scan(values.to_dataset(name="x"))))


def _peak() -> int:
    """Return the most memory that this process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def cluster(folder: Path) -> Iterator[Client]:
    """Give a client of workers that keep within their memory or are killed."""
    memory: dict[str, Any] = {
        f"distributed.worker.memory.{name}": False for name in ("spill", "target", "pause")
    }
    environment = {"distributed.nanny.pre-spawn-environ": ENVIRONMENT}
    with (
        dask.config.set({**memory, **environment}),
        LocalCluster(
            n_workers=N_WORKERS,
            threads_per_worker=1,
            memory_limit=LIMIT,
            dashboard_address=None,
            local_directory=folder / "scratch",
            silence_logs=logging.CRITICAL,
        ) as started,
        Client(started) as client,
    ):
        yield client


if __name__ == "__main__":
    given = options(__doc__, size="2GB")
    report("Memory", measures(given), given)
