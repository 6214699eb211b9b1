"""Reading and writing while a proxy breaks requests: results are right, or an error says why."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import dask
import h5py
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask.errors import AccessDenied, CorruptInput, StoreUnavailable
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import persistently
from h5dask.testing import assert_same_form, example, example_file
from tests.servers import Endpoint, s3
from tests.servers.faulty import FAULTS, Plan, Proxy, faulty

Result = TypeVar("Result")
SEED = 20
N_REQUESTS = [
    pytest.param(500, id="500"),
    pytest.param(5000, id="5000", marks=pytest.mark.servers),
]
SECONDS = 240
"""After these, something hangs; what is tested takes a small part of them."""
BROKEN = Plan(share=0.2)
N_ROWS = 20_000
"""Vectors in the file that is read, 2.5 MB in chunks of 64 kB."""


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    with dask.config.set({"h5dask.store-timeout": "300 ms", "h5dask.store-deadline": "2 s"}):
        yield


@pytest.fixture
def proxy(moto: Endpoint) -> Iterator[Proxy]:
    with faulty(moto.port, seed=SEED) as running:
        yield running


@pytest.fixture
def store(moto: Endpoint, proxy: Proxy) -> Endpoint:
    """moto's server as it is reached by the proxy."""
    return s3.through(moto, proxy.port)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose chunks have checksums."""
    path, random = tmp_path_factory.mktemp("vectors") / "vectors.h5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs.update({"distance": "euclidean", "dimension": 32, "type": "dense"})
        for name, shape, dtype in (
            ("train", (N_ROWS, 32), "f4"),
            ("test", (50, 32), "f4"),
            ("neighbors", (50, 10), "i4"),
            ("distances", (50, 10), "f4"),
        ):
            values = random.integers(0, N_ROWS, shape).astype(dtype)
            chunks = (min(512, shape[0]), shape[1])
            file.create_dataset(name, data=values, chunks=chunks, fletcher32=True)
    return path


def ends(action: Callable[[], Result]) -> Result:
    """Return what something gives, which must not go on for ever."""
    ending: Future[Result] = Future()

    def run() -> None:
        try:
            ending.set_result(action())
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is asked for
            ending.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ending.result(SECONDS)


@pytest.mark.parametrize("n_requests", N_REQUESTS)
def test_ranges(store: Endpoint, proxy: Proxy, folder: str, n_requests: int) -> None:
    content = np.random.default_rng(1).bytes(2**20)
    found = object_at(store.place(f"{folder}/a.bin", content), store.options)
    mark = persistently(found.url, found.head).mark
    proxy.forget()
    proxy.plan = BROKEN
    random = np.random.default_rng(2)
    places = [sorted(random.integers(0, len(content), 2).tolist()) for _ in range(n_requests)]

    def right(place: list[int]) -> bool:
        start, stop = place[0], place[1] + 1
        part = persistently(found.url, lambda: found.get(start, stop, mark))
        return bool(part == content[start:stop])

    with ThreadPoolExecutor(8) as pool:
        assert ends(lambda: all(pool.map(right, places)))
    assert set(proxy.done) == set(FAULTS)
    asked = n_requests + proxy.done.total()  # a fault costs one request more
    assert asked <= proxy.requests.total() <= asked * 1.05  # as does an answer that comes too late


@pytest.mark.parametrize("n_requests", N_REQUESTS)
def test_rows(store: Endpoint, proxy: Proxy, folder: str, vectors: Path, n_requests: int) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    expected = h5dask.open_dataset(vectors)["train"].values
    proxy.forget()
    proxy.plan = BROKEN
    random = np.random.default_rng(3)

    def read() -> None:
        while proxy.requests.total() < n_requests:
            opened = h5dask.open_dataset(url, chunks=512, storage_options=store.options)
            rows = np.sort(random.choice(N_ROWS, 200, replace=False))
            found = opened["train"].isel({opened["train"].dims[0]: rows}).values
            np.testing.assert_array_equal(found, expected[rows])

    ends(read)
    assert set(proxy.done) == set(FAULTS)


def test_nothing_but_faults(store: Endpoint, proxy: Proxy, folder: str, vectors: Path) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    opened = h5dask.open_dataset(url, chunks=5000, storage_options=store.options)
    for fault in FAULTS:
        proxy.plan = Plan(share=1, faults=(fault,), in_a_row=0)
        for action in (
            opened.compute,
            lambda: h5dask.open_dataset(url, storage_options=store.options),
        ):
            with pytest.raises(StoreUnavailable, match=r"a\.h5: the store gave no answer to use"):
                ends(action)
    proxy.plan = Plan()
    xr.testing.assert_identical(opened.compute(), h5dask.open_dataset(vectors).compute())


def test_bits_that_turn(store: Endpoint, proxy: Proxy, folder: str, vectors: Path) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    opened = h5dask.open_dataset(url, chunks=512, storage_options=store.options)
    expected = h5dask.open_dataset(vectors).compute()
    proxy.plan = Plan(share=0.2, faults=("flip",), methods=("GET",))
    proxy.forget()
    while proxy.done["flip"] < 20:
        xr.testing.assert_identical(ends(opened.compute), expected)


def test_bits_that_turn_every_time(
    store: Endpoint, proxy: Proxy, folder: str, vectors: Path
) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    opened = h5dask.open_dataset(url, chunks=512, storage_options=store.options)
    proxy.plan = Plan(share=1, faults=("flip",), methods=("GET",), in_a_row=0)
    with pytest.raises(CorruptInput, match=r"a\.h5: .*checksum"):
        ends(opened["train"].compute)


def test_expired(store: Endpoint, proxy: Proxy, folder: str, vectors: Path) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    opened = h5dask.open_dataset(url, storage_options=store.options)
    proxy.plan = Plan(share=1, faults=("expired",), in_a_row=0)
    for action in (
        opened.compute,
        lambda: h5dask.open_dataset(url, storage_options=store.options),
    ):
        with pytest.raises(AccessDenied, match=r"a\.h5: .*expired; renew them"):
            ends(action)


def test_too_many_requests(store: Endpoint, proxy: Proxy, folder: str, vectors: Path) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    proxy.plan = Plan(share=0.5, faults=("429",))
    opened = h5dask.open_dataset(url, storage_options=store.options)
    xr.testing.assert_identical(ends(opened.compute), h5dask.open_dataset(vectors).compute())


@pytest.mark.parametrize("layout", ["activations", "proteins"])
@pytest.mark.parametrize("fault", ["503", "reset", "truncated", "lost"])
def test_writing(
    store: Endpoint, proxy: Proxy, folder: str, layout: str, fault: Any, tmp_path: Path
) -> None:
    url, local = f"{store.url}/{folder}/a.h5", tmp_path / "a.h5"
    proxy.plan = Plan(share=0.3, faults=(fault,))
    ends(
        lambda: h5dask.write_dataset(
            example(layout), url, layout=layout, storage_options=store.options
        )
    )
    proxy.plan = Plan()
    local.write_bytes(store.content(f"{folder}/a.h5"))
    assert_same_form(str(local), example_file(layout))
    xr.testing.assert_identical(
        h5dask.open_dataset(local).compute(), h5dask.open_dataset(example_file(layout)).compute()
    )


def test_late_answers(store: Endpoint, proxy: Proxy, folder: str, vectors: Path) -> None:
    url = store.place(f"{folder}/a.h5", vectors.read_bytes())
    proxy.plan = Plan(latency=0.05)
    proxy.forget()
    h5dask.open_dataset(url, storage_options=store.options)
    first = proxy.requests.total()
    again = h5dask.open_dataset(url, storage_options=store.options)
    assert first <= 4
    assert proxy.requests.total() == first + 1  # a HEAD: the index is known
    xr.testing.assert_identical(again.compute(), h5dask.open_dataset(vectors).compute())
