"""Reading ahead: for those who go from one end to the other, and for nobody else."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest

import h5dask
from h5dask.storage import ahead as ahead_module
from h5dask.storage import array, fetching
from h5dask.storage.ahead import Ahead
from h5dask.storage.stores import with_fsspec


def answered(content: bytes) -> Future[memoryview]:
    future: Future[memoryview] = Future()
    future.set_result(memoryview(content))
    return future


def test_who_goes_on_is_followed():
    ahead = Ahead()
    assert not ahead.follows("a", 0, 10)
    assert not ahead.follows("a", 50, 60)
    assert ahead.follows("a", 10, 20)
    assert not ahead.follows("b", 20, 30)


def test_next_runs_either_way():
    ahead = Ahead()
    ahead.follows("a", 40, 50)
    assert list(ahead.runs("a", 40, 50, 60)) == []
    assert ahead.follows("a", 30, 40)
    assert next(ahead.runs("a", 30, 40, 60)) == slice(20, 30)
    assert list(ahead.runs("a", 30, 40, 60)) == [slice(20, 30), slice(10, 20), slice(0, 10)]
    assert ahead.follows("a", 20, 30)
    assert list(ahead.runs("a", 20, 30, 60)) == []  # all was asked for
    assert not ahead.follows("a", 0, 5)
    assert ahead.follows("a", 5, 10)
    assert list(ahead.runs("a", 5, 10, 17)) == [slice(10, 15), slice(15, 17)]


def test_a_gap_that_is_filled_changes_no_way():
    ahead = Ahead()
    for start in (50, 40, 20, 30):
        ahead.follows("a", start, start + 10)
    assert list(ahead.runs("a", 30, 40, 60)) == []  # neither way: 20 went on from nowhere


def test_a_request_is_made_and_taken_once():
    ahead, n = Ahead(), []

    def request() -> Future[memoryview]:
        n.append(1)
        return answered(b"ab")

    key = ("u", "m", 0, 2)
    room = ahead.room()
    ahead.ask("a", key, request)
    ahead.ask("a", key, request)
    assert (len(n), ahead.room()) == (1, room - 2)
    taken = ahead.taken(key)
    assert taken is not None
    assert taken.result() == b"ab"
    assert ahead.taken(key) is None
    assert ahead.room() == room


def test_a_request_that_failed_is_made_anew():
    ahead, future = Ahead(), Future[memoryview]()
    future.set_exception(OSError("reset"))
    ahead.ask("a", ("u", "m", 0, 2), lambda: future)
    assert ahead.taken(("u", "m", 0, 2)) is None


def test_who_didnt_come_for_it_isnt_followed_again(monkeypatch: pytest.MonkeyPatch):
    ahead = Ahead()
    ahead.follows("a", 0, 10)
    ahead.ask("a", ("u", "m", 0, 2), lambda: answered(b"ab"))
    monkeypatch.setattr(ahead_module, "_SECONDS", -1.0)
    assert not ahead.follows("a", 10, 20)
    assert ahead.taken(("u", "m", 0, 2)) is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    real = with_fsspec.WithFsspec.get

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        found.append((start, stop))
        return real(self, start, stop, mark)

    monkeypatch.setattr(with_fsspec.WithFsspec, "get", get)
    return found


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Ahead:
    """Nobody else reads ahead."""
    mine = Ahead()
    for module in (array, fetching):
        monkeypatch.setattr(module, "ahead", mine)
    return mine


@pytest.mark.parametrize("way", [slice(None), slice(None, None, -1)], ids=["up", "down"])
@pytest.mark.parametrize("chunks", [None, (64, 16), (64, 64)])
def test_a_scan_asks_for_each_byte_once(
    chunks: tuple[int, int] | None,
    way: slice,
    tmp_path: Path,
    asked: list[tuple[int, int]],
    alone: Ahead,
):
    values = np.random.default_rng(1).normal(size=(1000, 64)).astype(np.float32)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=values, chunks=chunks)
        file["test"] = values[:5]
        file.attrs["distance"] = "euclidean"
    url = f"memory://{tmp_path.name}/a.h5"
    fsspec.filesystem("memory").pipe_file(url, path.read_bytes())
    ds = h5dask.open_dataset(url, chunks={"vector": 128})
    asked.clear()
    room = alone.room()
    blocks = list(range(0, len(values), 128))[way]
    for start in blocks:
        found = ds.train[start : start + 128].values
        np.testing.assert_array_equal(found, values[start : start + 128])
        if start == blocks[1]:  # from then on all the rest is under way
            left = sum(values[other : other + 128].nbytes for other in blocks[2:])
            assert left <= room - alone.room() <= 1.03 * left
    wanted = sum(stop - start for start, stop in asked)
    assert values.nbytes <= wanted <= 1.02 * values.nbytes
    np.testing.assert_array_equal(ds.train[7].values, values[7])
