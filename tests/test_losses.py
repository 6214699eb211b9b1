"""A block over which every worker dies: its file, path, rows and chunks are named."""

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
from dask.delayed import delayed
from distributed import Client

import h5dask
from h5dask.errors import WorkersLost
from h5dask.losses import compute
from h5dask.testing import example
from h5dask.threads import one_blas_thread
from h5dask.workers import connect
from tests.test_threads import blas_threads

MARK = 12345.0


def die_of(block: np.ndarray) -> Any:
    """End the worker that is given the block with the mark."""
    if (block == MARK).any():
        time.sleep(0.5)  # time to tell of the block before, or dask takes that for the fatal one
        os._exit(1)
    return block


def fatal(path: Path, row: int, **storage: Any) -> str:
    """Write a benchmark of 100 vectors, one of which is marked."""
    ds = example("ann")
    train = np.tile(ds.train.values, (4, 1))[:100].astype("f4")
    train[row] = MARK
    with h5py.File(path, "w") as f:
        for name in ("test", "neighbors", "distances"):
            f[name] = ds[name].values
        f.create_dataset("train", data=train, **storage)
        f.attrs.update(ds.attrs)
    return str(path)


@pytest.fixture(scope="module")
def worker() -> Iterator[Client]:
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        client = connect(workers=1)
        assert client is not None
        with client:
            yield client


def each(ds: xr.Dataset) -> list[Any]:
    return [ds.train.data.map_blocks(die_of, dtype="f4").mean(axis=0), ds.test.data.sum()]


def one_by_one(ds: xr.Dataset) -> list[Any]:
    blocks = enumerate(ds.train.data.to_delayed().ravel())
    return [delayed(sum)([delayed(die_of)(b, dask_key_name=f"check-train-{i}") for i, b in blocks])]


@pytest.mark.parametrize("made", [each, one_by_one])
def test_the_block_is_named(tmp_path: Path, worker: Client, made: Any) -> None:
    path = fatal(tmp_path / "fatal.h5", row=57)
    ds = h5dask.open_dataset(path, chunks={"vector": 10})
    told = rf"{path}: /train, rows 50 to 59\b.*: 2 workers died one after the other over "
    with pytest.raises(WorkersLost, match=told) as lost:
        compute(*made(ds))
    named = str(lost.value).split(": 2 workers")[0].split("; ")
    assert len(named) <= 2  # one may have waited beside it, and dask can't tell which it was
    assert ("one of these blocks" in str(lost.value)) == (len(named) == 2)
    assert str(pickle.loads(pickle.dumps(lost.value))) == str(lost.value)
    assert "the last one tcp://127.0.0.1:" in str(lost.value)


def test_the_chunks_are_named(tmp_path: Path, worker: Client) -> None:
    path = fatal(tmp_path / "fatal.h5", row=57, chunks=(5, 2), compression="gzip")
    ds = h5dask.open_dataset(path, chunks={"vector": 10})
    with pytest.raises(WorkersLost, match=r"/train, rows 50 to 59 \(chunks 10 to 11\)"):
        compute(*each(ds))


def test_all_files_of_a_task_that_reads_several(tmp_path: Path, worker: Client) -> None:
    paths = [fatal(tmp_path / f"{name}.h5", row=0) for name in "ab"]
    both = da.concatenate([h5dask.open_dataset(path).train.data for path in paths])
    with pytest.raises(WorkersLost) as lost:
        compute(both.rechunk(-1).map_blocks(die_of, dtype="f4").sum())
    assert [path for path in paths if path not in str(lost.value)] == [], str(lost.value)


def test_a_task_that_reads_nothing(worker: Client) -> None:
    with pytest.raises(WorkersLost, match=r"^task 'fatal-\w+': 2 workers died"):
        compute(delayed(os._exit)(1, dask_key_name="fatal-task"))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"):
        compute(delayed(divmod)(1, 0))


def test_blas_has_one_thread_while_it_computes() -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(2, user_api="blas"):
        assert compute(delayed(blas_threads)()) == ({1},)
        with one_blas_thread():
            assert compute(delayed(blas_threads)()) == ({1},)
        assert blas_threads() == {2}
