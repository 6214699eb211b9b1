"""What the spine costs: a run over the bare operation, processes over threads, skipping.

python -m tests.benchmarks.bench_spine --size 1GB --repeat 3
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

import h5dask
from h5dask.jobs import Policy
from h5dask.jobs.several import run_each
from h5dask.testing import example_file
from tests.benchmarks import files, peers
from tests.benchmarks.harness import (
    N_THREADS,
    Measure,
    Options,
    options,
    race,
    report,
    sized,
    workplace,
)

N_INPUTS = 1_000
N_ROUNDS = 24
"""Rounds of arithmetic on each value, so that two threads have work for half a minute."""


def measures(asked: Options) -> Iterator[Measure]:
    """Yield the overhead of runs, of processes, and of finding that nothing is to be done."""
    with workplace(asked.folder) as folder:
        if asked.wants("run"):
            yield from _a_run(folder, asked)
        if asked.wants("processes"):
            yield from _processes(folder, asked)
        if asked.wants("skipping"):
            yield from _skipping(folder, asked)


def _a_run(folder: Path, asked: Options) -> Iterator[Measure]:
    made = files.ann(folder / "made.h5", asked.nbytes)
    peers.resident(made.path)
    bare, run = folder / "bare.h5", folder / "run.h5"

    def copied(job: Any) -> None:
        job.write(h5dask.open_dataset(job.urls))

    def as_run() -> None:
        with dask.config.set(scheduler="threads", num_workers=N_THREADS):
            h5dask.run(copied, made.path, run, policy=Policy(force=True))

    def as_it_is() -> None:
        with dask.config.set(scheduler="threads", num_workers=N_THREADS):
            h5dask.write_dataset(h5dask.open_dataset(made.path), bare, overwrite=True)

    for _, ours, theirs in race(as_run, {"bare": as_it_is}, asked):
        yield Measure(
            case=f"a run that rewrites {sized(asked.nbytes)}, panels and record included",
            against="write_dataset alone",
            value=ours / theirs,
            unit="x its time",
            at_most=1.05,
        )
    for path in (bare, run, made.path):
        path.unlink()


def _worked(block: Any) -> Any:
    """Return one number of a block, after much arithmetic that leaves the interpreter alone."""
    values = block.astype("f8")
    for _ in range(N_ROUNDS):
        values = np.sqrt(values * values + 1.0)
    return values.sum(keepdims=True)


def _processes(folder: Path, asked: Options) -> Iterator[Measure]:
    made = files.ann(folder / "made.h5", asked.nbytes)
    peers.resident(made.path)
    values = h5dask.open_dataset(made.path)[made.variable].data
    ones = tuple((1,) * n for n in values.numblocks)
    total = da.map_blocks(_worked, values, dtype="f8", chunks=ones).sum()
    with dask.config.set(scheduler="threads", num_workers=N_THREADS):
        began = time.perf_counter()
        expected = total.compute()
        threads = time.perf_counter() - began
    with h5dask.connect(workers=N_THREADS) as client:
        assert client is not None
        client.wait_for_workers(N_THREADS)
        np.testing.assert_allclose(total.compute(), expected, rtol=1e-13)
        processes = threads
        for _ in range(asked.repeat):
            began = time.perf_counter()
            total.compute()
            processes = time.perf_counter() - began
            with dask.config.set(scheduler="threads", num_workers=N_THREADS):
                began = time.perf_counter()
                total.compute()
                threads = time.perf_counter() - began
            yield Measure(
                case=f"{N_THREADS} processes, workers up, {sized(asked.nbytes)}",
                against=f"{N_THREADS} threads",
                value=threads / processes,
                unit="x their speed",
                at_least=0.9,
                notes=f"{threads:.0f} s of threads",
            )
    made.path.unlink()


_SKIP = """
import sys
from h5dask.jobs.several import run_each
found = run_each(print, sys.argv[1] + "/*.h5", sys.argv[2], name="copied")
assert {one.what for one in found} == {"current"}, found
assert "dask" not in sys.modules
"""


def _skipping(folder: Path, asked: Options) -> Iterator[Measure]:
    landing, out = folder / "landing", folder / "out"
    landing.mkdir()
    for number in range(N_INPUTS):
        shutil.copy(example_file("ann"), landing / f"{number:04}.h5")

    def copied(job: Any) -> None:
        shutil.copy(job.urls[0], job.part())

    run_each(copied, f"{landing}/*.h5", out)
    command = [sys.executable, "-c", _SKIP, str(landing), str(out)]
    seconds = []
    for _ in range(asked.repeat):
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds.append(time.perf_counter() - began)
    yield Measure(
        case=f"skipping {N_INPUTS:,} current inputs, in a process of its own",
        against="",
        value=min(seconds),
        unit="s",
        at_most=2,
    )


if __name__ == "__main__":
    given = options(__doc__)
    report("Spine", measures(given), given)
