"""Writing: targets, inputs and limits; nothing is left behind, whatever happens."""

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.errors import Conflict, NotFound, OutOfSpace, Refused
from h5dask.testing import example
from tests.rewriting import opened


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No test may leave a temporary file beside its targets."""
    yield
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_over_the_input_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    before = opened(path, "activations", "gzip_shuffle").compute()
    ds = h5dask.open_dataset(path)
    h5dask.write_dataset(ds.assign(logits=ds.logits + 1), path, overwrite=True)
    now = h5dask.open_dataset(path).compute()
    assert np.array_equal(now.logits, before.logits + 1)
    xr.testing.assert_equal(now.drop_vars("logits"), before.drop_vars("logits"))


def test_more_is_added_to_a_file_by_writing_over_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("activations"), path)
    for n in (1, 2):
        more = h5dask.concat([h5dask.open_dataset(path), example("activations", n)])
        h5dask.write_dataset(more, path, overwrite=True)
    ds = h5dask.open_dataset(path)
    assert ds.sizes["record"] == 21
    base = ds.sel(scenario="base").logits.values
    expected = [example("activations", n).sel(scenario="base").logits for n in range(3)]
    assert np.array_equal(base, np.concatenate(expected))
    assert os.listdir(tmp_path) == ["a.h5"]


def test_what_the_disk_says_once_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fsync, told = tmp_path / "a.h5", os.fsync, []

    def failing_once(number: int) -> None:
        if not told:
            told.append(number)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(number)

    h5dask.write_dataset(example("ann"), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", failing_once)
    with pytest.raises(OutOfSpace, match=r"a\.h5: could not be written to disk"):
        h5dask.write_dataset(example("ann", 1), path, overwrite=True)
    assert path.read_bytes() == before


def test_what_is_written_later_is_what_was_given(tmp_path: Path) -> None:
    ds = example("ann").compute()
    expected = ds.train.values.copy()
    later = h5dask.write_dataset(ds, tmp_path / "a.h5", compute=False)
    ds.train.values[:] = 0
    later.compute()
    assert np.array_equal(h5dask.open_dataset(tmp_path / "a.h5").train.values, expected)


def test_an_existing_target_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("precious")
    with pytest.raises(Conflict, match=r"a\.h5: exists already; .*overwrite=True"):
        h5dask.write_dataset(example("ann"), path)
    assert path.read_text() == "precious"
    h5dask.write_dataset(example("ann"), path, overwrite=True)
    assert h5dask.identify(path) == "ann"
    with pytest.raises(NotFound, match=r"no folder '.*nowhere'; make it first"):
        h5dask.write_dataset(example("ann"), tmp_path / "nowhere" / "a.h5")
    for overwrite in (True, False):
        with pytest.raises(NotFound, match="is a folder; name a file in it"):
            h5dask.write_dataset(example("ann"), tmp_path, overwrite=overwrite)


def test_later(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    job = h5dask.write_dataset(example("proteins"), path, compute=False)
    assert not path.exists()
    assert job.compute() is None
    xr.testing.assert_equal(h5dask.open_dataset(path).compute(), example("proteins"))


@pytest.mark.parametrize("layout", layouts.names())
@pytest.mark.parametrize("compression", ["gzip", 0, 9, ("gzip", 1)])
def test_compressed_as_asked_and_plain_again(layout: str, compression: Any, tmp_path: Path) -> None:
    h5dask.write_dataset(example(layout), tmp_path / "a.h5", compression=compression)
    level = {"gzip": 4, ("gzip", 1): 1}.get(compression, compression)
    numbers = []
    with h5py.File(tmp_path / "a.h5") as f:
        f.visititems(lambda _, item: numbers.append(item) if is_number(item) else None)
        assert {(x.compression, x.compression_opts, x.shuffle) for x in numbers} == {
            ("gzip", level, True)
        }
    h5dask.write_dataset(
        h5dask.open_dataset(tmp_path / "a.h5"), tmp_path / "b.h5", compression="none"
    )
    numbers.clear()
    with h5py.File(tmp_path / "b.h5") as f:
        f.visititems(lambda _, item: numbers.append(item) if is_number(item) else None)
        assert {item.compression for item in numbers} == {None}
    xr.testing.assert_equal(h5dask.open_dataset(tmp_path / "b.h5").compute(), example(layout))


def is_number(item: Any) -> bool:
    """Tell whether an object of a file is a dataset of numbers that has any."""
    return isinstance(item, h5py.Dataset) and item.dtype != object and bool(item.size)


def many(n: int, d: int) -> xr.Dataset:
    """Make episodes that would be large, without a value of them."""
    ids = da.map_blocks(lambda x: x.astype(str).astype(object), da.arange(n), dtype=object)
    vectors = da.zeros((n, d), dtype="f4", chunks=(10_000, d))
    return xr.Dataset(
        {"embeddings": (("episode", "feature"), vectors)}, {"episode_ids": ("episode", ids)}
    )


@pytest.mark.parametrize(
    ("n", "d", "text"),
    [
        (200_001, 1, "Too many episodes: 200001 > 200000"),
        (3, 2049, "Embedding dimension too large: 2049 > 2048"),
        (30_000, 1000, r"File too large\. Maximum size is 100MB"),
        (300_000, 3000, r"(?s)Too many.*too large: 3000.*File too large"),
    ],
)
def test_what_the_consumer_refuses_is_said_before_a_byte_is_written(
    n: int, d: int, text: str, tmp_path: Path, no_compute: None
) -> None:
    with pytest.raises(Refused, match=f"{text}.*pass allow_large=True to write it anyway"):
        h5dask.write_dataset(many(n, d), tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []


def test_large_files_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="too large: 2049"):
        h5dask.write_dataset(many(3, 2049), tmp_path / "a.h5", allow_large=True)
    assert h5dask.open_dataset(tmp_path / "a.h5").sizes["feature"] == 2049


def test_the_writer_warns_of_what_consumers_misread(tmp_path: Path) -> None:
    ds = example("ann")
    ds = ds.assign(train=ds.train.astype("i1"), test=ds.test.astype("i1"))
    with pytest.warns(UserWarning, match="int8 with 'euclidean'.*VSAG reads such bytes as float32"):
        h5dask.write_dataset(ds, tmp_path / "a.h5")
    with pytest.warns(UserWarning, match="/test_labels: missing beside /train_labels"):
        h5dask.write_dataset(ds.drop_vars("test_labels"), tmp_path / "b.h5")


@pytest.mark.filterwarnings("error")
def test_a_file_that_is_written_back_brings_no_warning(tmp_path: Path) -> None:
    h5dask.write_dataset(opened(tmp_path / "a.h5", "ann", "int8_euclidean"), tmp_path / "b.h5")


def test_no_file_stays_open(tmp_path: Path) -> None:
    ds = opened(tmp_path / "a.h5", "activations", "gzip_shuffle")
    h5dask.write_dataset(ds, tmp_path / "b.h5")
    ds.compute()
    gc.collect()
    names = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
    assert not [name for name in names if name.startswith(str(tmp_path))]


def test_a_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    h5dask.write_dataset(example("ann"), path)
    before = path.read_bytes()

    def fail(block: Any) -> Any:
        raise ZeroDivisionError("in the middle")

    ds = example("ann").chunk(7)
    ds = ds.assign(train=ds.train.copy(data=ds.train.data.map_blocks(fail, dtype="f4")))
    with pytest.raises(ZeroDivisionError, match="in the middle"), dask.config.set(scheduler="sync"):
        h5dask.write_dataset(ds, path, overwrite=True)
    assert path.read_bytes() == before
