"""One graph of many blocks, built and run in a process of its own: what that takes of the client.

python -m tests.benchmarks.growing KIND N_BLOCKS FOLDER
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import xarray as xr

import h5dask
from h5dask.testing import example_file

ROWS = 4
"""Of a block: so few that nearly all of the time is our own."""
N_FEATURES = 128
_QUERIES = 100

Build = Callable[[xr.Dataset, str], Any]


def summarize(ds: xr.Dataset, _: str) -> Any:
    return h5dask.summarize(ds.train, "vector")


def scan(ds: xr.Dataset, _: str) -> Any:
    return h5dask.scan(ds[["train"]])


def knn(ds: xr.Dataset, _: str) -> Any:
    return h5dask.knn(ds.train, ds.test, k=10)


def write(ds: xr.Dataset, target: str) -> Any:
    scaled = h5dask.normalize(ds.train, "l2", dim="feature")
    return h5dask.write_dataset(ds.assign(train=scaled), target, overwrite=True, compute=False)


KINDS: dict[str, Build] = {"summarize": summarize, "scan": scan, "knn": knn, "write": write}


def make(path: Path, n_blocks: int) -> None:
    """Make a file whose `train` has so many blocks, of which it holds none: a hole of zeros."""
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "euclidean"
        train = file.create_dataset("train", (n_blocks * ROWS, N_FEATURES), "<f4")
        train[:1] = 1  # a contiguous dataset has no place before something is written
        file["test"] = np.ones((_QUERIES, N_FEATURES), "<f4")
        file["neighbors"] = np.zeros((_QUERIES, 10), "<i8")
        file["distances"] = np.zeros((_QUERIES, 10), "<f4")


def computing() -> float:
    """Return the seconds that this process has computed, however busy the machine is."""
    times = os.times()
    return times.user + times.system


def peak() -> int:
    """Return the most bytes of memory that this process ever took."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def opened(path: str) -> xr.Dataset:
    return h5dask.open_dataset(path, chunks={"vector": ROWS})


def main(kind: str, n_blocks: int, folder: str) -> None:
    build, target = KINDS[kind], f"{folder}/written.h5"
    small, path = Path(folder, "small.h5"), Path(folder, f"{n_blocks}.h5")
    for one, n in ((small, 16), (path, n_blocks)):
        make(one, n)
    h5dask.open_dataset(example_file("ann"))
    dask.compute(build(opened(str(small)), target))  # what is compiled and imported once
    idle, seconds = peak(), {}
    started = computing()
    ds = opened(str(path))
    seconds["open"] = computing() - started
    started = computing()
    built = build(ds, target)
    seconds["build"] = computing() - started
    started = computing()
    with dask.config.set(scheduler="synchronous"):
        dask.compute(built)
    seconds["run"] = computing() - started
    print(json.dumps({**seconds, "idle": idle, "peak": peak()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
