"""Measured peaks of memory beside what a plan projects, each in a process of its own.

python -m tests.peaks FOLDER BLOCK_NBYTES
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dask
import h5py
import numpy as np
import psutil
import xarray as xr

import h5dask
from h5dask.ops.cost import Cost, Forms, folding, reducing, writing
from h5dask.ops.neighbors import knn_cost
from h5dask.ops.scanning import scanning_cost
from h5dask.plan import stored_forms

N_BLOCKS = 2
N_FEATURES = 128
ROW_NBYTES = 4 * N_FEATURES
CHUNK_ROWS = 2048
SMALL = 2**20

Project = Callable[..., Cost]
Act = Callable[[xr.Dataset, str], object]


def mean(ds: xr.Dataset, _: str) -> None:
    ds.train.mean("vector", dtype="float64").compute()


def plain_sum(ds: xr.Dataset, _: str) -> None:
    ds.train.sum(dtype="float64", skipna=False).compute()


def summarize(ds: xr.Dataset, _: str) -> None:
    dask.compute(h5dask.summarize(ds.train, "vector"))


def scan(ds: xr.Dataset, _: str) -> None:
    dask.compute(h5dask.scan(ds[["train"]]))


def nearest(ds: xr.Dataset, _: str) -> None:
    dask.compute(h5dask.knn(ds.train, ds.test, k=100))


def rewrite(ds: xr.Dataset, target: str) -> None:
    h5dask.write_dataset(ds, target)


def knn_stored(ds: xr.Dataset, *, stored: Forms) -> Cost:
    return knn_cost(ds.train, ds.test, k=100, stored=stored)


def without_nan(ds: xr.Dataset, *, stored: Forms) -> Cost:
    return reducing(ds, stored=stored, skipna=False)


ACTS: dict[str, tuple[Act, Project]] = {
    "mean": (mean, reducing),
    "sum": (plain_sum, without_nan),
    "summarize": (summarize, folding),
    "scan": (scan, scanning_cost),
    "knn": (nearest, knn_stored),
    "write": (rewrite, writing),
}


def make(path: str, nbytes: int, compressed: bool) -> None:
    """Make a file whose `train` has so many bytes; a compressed one repeats a single chunk."""
    n_rows = nbytes // ROW_NBYTES
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "euclidean"
        shape = n_rows, N_FEATURES
        if compressed:
            how = {"chunks": (CHUNK_ROWS, N_FEATURES), "compression": 4, "shuffle": True}
            train = file.create_dataset("train", shape, "<f4", **how)
            values = np.random.default_rng(0).standard_normal((CHUNK_ROWS, N_FEATURES), np.float32)
            train[:CHUNK_ROWS] = np.round(values * 256) / np.float32(256)
            mask, stored = train.id.read_direct_chunk((0, 0))
            for row in range(CHUNK_ROWS, n_rows, CHUNK_ROWS):
                train.id.write_direct_chunk((row, 0), stored, mask)
        else:
            file.create_dataset("train", shape, "<f4")[:1] = 1
        file["test"] = np.zeros((10, N_FEATURES), "<f4")
        file["neighbors"] = np.arange(100).reshape(10, 10)
        file["distances"] = np.zeros((10, 10), "<f4")


def opened(path: str, block_nbytes: int) -> xr.Dataset:
    return h5dask.open_dataset(path, chunks={"vector": block_nbytes // ROW_NBYTES})


def measured(act: Act, path: str, small: str, block_nbytes: int) -> int:
    """Return by how many bytes a fork of this process grows; one that is already warm."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        # Libraries' pages are mapped anew in a fork, when they are first used.
        act(opened(small, SMALL // N_BLOCKS), f"{path}.warm")
        ds = opened(path, block_nbytes)
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        idle = psutil.Process().memory_info().rss
        act(ds, f"{path}.written")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = peak * (1 if sys.platform == "darwin" else 1024) - idle
        os.write(send, str(grown).encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    for made in (f"{path}.warm", f"{path}.written"):
        Path(made).unlink(missing_ok=True)
    return int(found)


def main(folder: str, block_nbytes: int) -> None:
    found = {}
    with dask.config.set(scheduler="synchronous"):
        for compressed in (False, True):
            form = "gzip" if compressed else "contiguous"
            path, small = f"{folder}/{form}.h5", f"{folder}/small_{form}.h5"
            make(small, SMALL, compressed)
            make(path, N_BLOCKS * block_nbytes, compressed)
            stored = stored_forms(path)
            for name, (act, project) in ACTS.items():
                act(opened(small, SMALL // N_BLOCKS), f"{small}.warm")
                Path(f"{small}.warm").unlink(missing_ok=True)
                cost = project(opened(path, block_nbytes), stored=stored)
                grown = measured(act, path, small, block_nbytes)
                found[f"{name}, {form}"] = cost.memory, grown
            Path(path).unlink()
    print(json.dumps(found))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
