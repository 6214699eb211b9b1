"""Bytes that a network has damaged: a checksum tells, and they are fetched again, once."""

from __future__ import annotations

from pathlib import Path

import dask
import fsspec
import h5py
import numpy as np
import pytest

import h5dask
from h5dask.errors import CorruptInput
from h5dask.storage.stores import with_fsspec

VALUES = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=VALUES, chunks=(100, 16), fletcher32=True)
        file["test"] = VALUES[:5]
        file.attrs["distance"] = "euclidean"
    name = f"memory://{tmp_path.name}/a.h5"
    fsspec.filesystem("memory").pipe_file(name, path.read_bytes())
    return name


def flipping(monkeypatch: pytest.MonkeyPatch, n_times: int) -> list[int]:
    """Flip a bit in the middle of the next answers."""
    real, flipped = with_fsspec.WithFsspec.get, []

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        found = real(self, start, stop, mark)
        if len(flipped) < n_times:
            flipped.append(start)
            damaged = bytearray(found)
            damaged[len(damaged) // 2] ^= 4
            return memoryview(damaged)
        return found

    monkeypatch.setattr(with_fsspec.WithFsspec, "get", get)
    return flipped


def test_one_flipped_bit_comes_right(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = h5dask.open_dataset(url)
    flipped = flipping(monkeypatch, 1)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(ds.train.values, VALUES)
    assert len(flipped) == 1


def test_bytes_that_stay_wrong_are_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = h5dask.open_dataset(url)
    flipping(monkeypatch, 100)
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(CorruptInput, match=r"/train, chunk at .*checksum"),
    ):
        ds.train.compute()
