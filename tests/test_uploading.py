"""Datasets written to a store of S3: the same bytes as locally, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr

import h5dask
from h5dask import layouts
from h5dask.errors import AccessDenied, Conflict, H5daskError, NotFound, Refused, StoreUnavailable
from h5dask.results import open_any, write_result
from h5dask.storage import publishing
from h5dask.storage.publishing import Published, publish
from h5dask.storage.stores import uploads
from h5dask.storage.stores.uploads import Part, Upload
from h5dask.testing import example
from h5dask.writing import cutting, uploading, writer
from h5dask.writing.preparing import prepare
from tests.servers import Endpoint, moto, s3
from tests.servers.faulty import Plan, Proxy, faulty

MIB = 2**20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with moto.start(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def short_waits() -> Iterator[None]:
    with dask.config.set({"h5dask.store-timeout": "5 s", "h5dask.store-deadline": "30 s"}):
        yield


@pytest.fixture
def name(store: Endpoint) -> Iterator[str]:
    """Name of an object that no other test uses; no unfinished upload and no local file stay."""
    made = f"{uuid.uuid4().hex}.h5"
    yield made
    assert under_way(store, made) == []
    assert [one for one in os.listdir(tempfile.gettempdir()) if made in one] == []


def under_way(store: Endpoint, name: str) -> list[Any]:
    filesystem = fsspec.filesystem("s3", **store.options)
    found = filesystem.call_s3("list_multipart_uploads", Bucket=s3.BUCKET).get("Uploads") or []
    return [one for one in found if name in one["Key"] or ".probe" in one["Key"]]


def queries(mib: int, rows: int = 4096) -> xr.Dataset:
    """Return a lazy Dataset of several variables that takes about so many mebibytes."""
    n = mib * 2**12

    def values(start: int) -> Any:
        flat = da.arange(start, start + n * 64, chunks=rows * 64, dtype="f4")
        return flat.reshape(n, 64).rechunk((rows, 64))

    few = example("ann").isel(query=[0] * 2000, feature=[0] * 64)
    return few.drop_vars(["train", "train_labels", "test"]).assign(
        train=(("vector", "feature"), values(0)),
        test=(("query", "feature"), values(7)[:2000]),
        train_labels=("vector", da.arange(n, chunks=rows)),
    )


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ways that Datasets take."""
    taken: list[str] = []
    begin = writer.begin_upload

    def noted(*args: Any, **how: Any) -> Any:
        found = begin(*args, **how)
        taken.append("file" if found is None else "parts")
        return found

    monkeypatch.setattr(writer, "begin_upload", noted)
    return taken


@pytest.mark.parametrize("layout", layouts.names())
def test_examples_of_every_layout(
    layout: str, store: Endpoint, name: str, tmp_path: Path, ways: list[str]
) -> None:
    h5dask.write_dataset(example(layout), tmp_path / "a.h5")
    url = f"{store.url}/{name}"
    h5dask.write_dataset(example(layout), url, storage_options=store.options)
    assert store.content(name) == (tmp_path / "a.h5").read_bytes()
    h5dask.write_dataset(
        example(layout), url, storage_options=store.options, compression="gzip", overwrite=True
    )
    with h5dask.open_dataset(url, storage_options=store.options) as back:
        xr.testing.assert_equal(back.load(), example(layout).load())
    assert ways == ["file", "file", "file"]


@pytest.mark.parametrize("rows", [1000, 4096, 2**18])
def test_parts_from_threads(
    rows: int, store: Endpoint, name: str, tmp_path: Path, ways: list[str]
) -> None:
    ds = queries(24, rows)
    h5dask.write_dataset(ds, f"{store.url}/{name}", storage_options=store.options)
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    assert store.content(name) == (tmp_path / "a.h5").read_bytes()
    assert ways == ["parts", "file"]
    assert h5dask.validate(f"{store.url}/{name}", storage_options=store.options) == ()


def test_parts_from_processes(store: Endpoint, name: str, tmp_path: Path, ways: list[str]) -> None:
    ds = queries(60)
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    group = f"{store.url}/{name}.zarr"
    with h5dask.connect(workers=2):
        h5dask.write_dataset(ds, f"{store.url}/{name}", storage_options=store.options)
        write_result(ds[["test"]], group, storage_options=store.options)
    assert store.content(name) == (tmp_path / "a.h5").read_bytes()
    back = open_any(group, storage_options=store.options)
    xr.testing.assert_equal(back.load(), ds[["test"]].load())
    assert ways == ["file", "parts"]


def test_nothing_but_the_skeleton_is_local(
    store: Endpoint, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken, cut = [], uploading.cut

    def looked(*args: Any, **how: Any) -> Any:
        found = cut(*args, **how)
        taken.append(sum(os.stat(tmp_path / one).st_blocks * 512 for one in os.listdir(tmp_path)))
        return found

    def block(values: Any) -> Any:
        taken.append(sum(one.stat().st_size for one in tmp_path.iterdir()))
        return values

    monkeypatch.setattr(uploading, "cut", looked)
    ds = queries(24)
    ds = ds.assign(train=ds.train.copy(data=ds.train.data.map_blocks(block)))
    taken.clear()
    h5dask.write_dataset(ds, f"{store.url}/{name}", storage_options=store.options)
    assert taken
    assert max(taken) < MIB
    assert list(tmp_path.iterdir()) == []


def test_what_would_wait_too_long_goes_by_a_file(
    store: Endpoint, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    monkeypatch.setattr(cutting, "WAITING", MIB)
    monkeypatch.setattr(cutting, "_WAITING_PARTS", 0)
    ds = queries(24)
    ds = ds.assign(train=ds.train.chunk(vector=-1, feature=32))
    h5dask.write_dataset(ds, f"{store.url}/{name}", storage_options=store.options)
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    assert store.content(name) == (tmp_path / "a.h5").read_bytes()
    assert ways == ["file", "file"]


def test_later(store: Endpoint, name: str, tmp_path: Path) -> None:
    ds = queries(17).compute()
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    url = f"{store.url}/{name}"
    later = h5dask.write_dataset(ds, url, storage_options=store.options, compute=False)
    ds.train.values[:] = 0
    assert not store.holds(name)
    assert later.compute() is None
    assert store.content(name) == (tmp_path / "a.h5").read_bytes()


# Whole or not at all


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_nothing(
    error: type[BaseException], scheduler: str, store: Endpoint, name: str
) -> None:
    def block(values: Any, block_info: Any = None) -> Any:
        if block_info and block_info[0]["chunk-location"][0] == 20:
            raise error("in a task")
        return values

    ds = queries(24)
    ds = ds.assign(train=ds.train.copy(data=ds.train.data.map_blocks(block, dtype="f4")))
    with dask.config.set(scheduler=scheduler), pytest.raises(error, match="in a task"):
        h5dask.write_dataset(ds, f"{store.url}/{name}", storage_options=store.options)
    assert not store.holds(name)


def test_an_existing_object_is_kept(store: Endpoint, name: str) -> None:
    url = store.place(name, b"precious")
    with pytest.raises(Conflict, match="exists already; choose another name, or allow it"):
        h5dask.write_dataset(queries(17), url, storage_options=store.options)
    assert store.content(name) == b"precious"
    h5dask.write_dataset(queries(17), url, storage_options=store.options, overwrite=True)
    assert h5dask.identify(url, storage_options=store.options) == "ann"


@pytest.mark.parametrize("enforced", [True, False])
def test_what_appears_meanwhile_is_kept(
    enforced: bool, store: Endpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "once_a_process", lambda *_: enforced)
    url = f"{store.url}/{name}"

    def block(values: Any) -> Any:
        if values.size:
            store.place(name, b"precious")
        return values

    ds = queries(17)
    ds = ds.assign(train=ds.train.copy(data=ds.train.data.map_blocks(block, dtype="f4")))
    with pytest.raises(Conflict, match=f"{name}: exists already"):
        h5dask.write_dataset(ds, url, storage_options=store.options)
    assert store.content(name) == b"precious"


@pytest.mark.parametrize("mib", [1, 17, 70])
def test_files_are_published(mib: int, store: Endpoint, name: str, tmp_path: Path) -> None:
    content = np.arange(mib * MIB // 4, dtype="u4").tobytes()
    url, part = f"{store.url}/{name}", tmp_path / "part"
    part.write_bytes(content)
    assert publish(str(part), url, store.options, overwrite=False) == Published(enforced=True)
    assert store.content(name) == content
    assert not part.exists()
    part.write_bytes(b"other")
    with pytest.raises(Conflict, match=f"{name}: exists already"):
        publish(str(part), url, store.options, overwrite=False)
    assert part.exists()
    assert publish(str(part), url, store.options) == Published(enforced=None)
    assert store.content(name) == b"other"


# Stores that misbehave


@pytest.fixture
def proxy(store: Endpoint) -> Iterator[Proxy]:
    with faulty(store.port, seed=1) as found:
        yield found


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_commit_whose_reply_is_lost(
    overwrite: bool, store: Endpoint, name: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, tried = uploads.commit, []

    def lost_at_first(upload: Upload, parts: list[Part], *, absent: bool, mark: str = "") -> None:
        if name in upload.url:
            tried.append(absent)
            proxy.plan = Plan(share=1.0 if len(tried) == 1 else 0.0, faults=("lost",))
        try:
            commit(upload, parts, absent=absent, mark=mark)
        finally:
            proxy.plan = Plan()

    monkeypatch.setattr(uploads, "commit", lost_at_first)
    seen = s3.through(store, proxy.port)
    url = f"{seen.url}/{name}"
    h5dask.write_dataset(queries(17), url, storage_options=seen.options, overwrite=overwrite)
    assert tried == [not overwrite]
    assert proxy.done == {"lost": 1}
    assert h5dask.identify(url, storage_options=store.options) == "ann"


def test_faults_on_the_way(store: Endpoint, name: str, proxy: Proxy, tmp_path: Path) -> None:
    seen = s3.through(store, proxy.port)
    proxy.plan = Plan(
        share=0.3, faults=("500", "503", "reset", "truncated", "lost"), methods=("PUT", "HEAD")
    )
    ds = queries(60)
    h5dask.write_dataset(ds, f"{seen.url}/{name}", storage_options=seen.options)
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    assert sum(proxy.done.values()) > 0
    assert store.content(name) == (tmp_path / "a.h5").read_bytes()


def test_a_store_that_gives_up(store: Endpoint, name: str, proxy: Proxy) -> None:
    seen = s3.through(store, proxy.port)
    proxy.plan = Plan(share=1.0, faults=("503",), methods=("PUT",), in_a_row=10**9)
    with (
        dask.config.set({"h5dask.store-deadline": "1 s"}),
        pytest.raises(StoreUnavailable, match=f"{name}: the store gave no answer .*503 Service"),
    ):
        h5dask.write_dataset(queries(17), f"{seen.url}/{name}", storage_options=seen.options)
    assert not store.holds(name)


@pytest.mark.parametrize("operation", ["upload_part", "complete_multipart_upload"])
def test_an_upload_that_somebody_removes(
    operation: str, store: Endpoint, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = uploads._attempt

    def gone(url: str, options: Any, asked: str, *args: Any, **how: Any) -> Any:
        if asked == operation and name in url:
            raise NotFound(f"{url}: no such upload")
        return attempt(url, options, asked, *args, **how)

    monkeypatch.setattr(uploads, "_attempt", gone)
    with pytest.raises(Conflict, match=f"{name}: its upload was removed while it was under way"):
        h5dask.write_dataset(queries(17), f"{store.url}/{name}", storage_options=store.options)


_KILLED = """
import json, os, signal, sys
from h5dask.storage.stores import uploads
url, options = json.load(sys.stdin)
upload = uploads.begin(url, options, "token")
uploads.put_part(upload, 1, b"x" * 6_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_removed(store: Endpoint, name: str) -> None:
    url = f"{store.url}/{name}"
    told = json.dumps([url, store.options]).encode()
    subprocess.run([sys.executable, "-c", _KILLED], input=told, check=False)
    assert len(under_way(store, name)) == 1
    other = fsspec.filesystem("s3", **store.options).call_s3(
        "create_multipart_upload", Bucket=s3.BUCKET, Key=f"made/{name}"
    )
    h5dask.write_dataset(example("ann"), url, storage_options=store.options)
    assert [one["UploadId"] for one in under_way(store, name)] == [other["UploadId"]]
    uploads.abort(Upload(url=url, number=other["UploadId"], token="", options=store.options))


# What is refused, and what is told


def test_bad_targets(store: Endpoint, name: str) -> None:
    for url, options, error, text in (
        (f"s3://no-such-bucket/{name}", store.options, NotFound, "no such bucket; check its name"),
        (f"{store.url}/{name}", store.wrong, AccessDenied, "access denied"),
        (f"http://127.0.0.1:1/{name}", {}, Refused, "an HTTP address can only be read"),
        (f"nowhere://bucket/{name}", {}, NotFound, "unknown scheme 'nowhere'"),
    ):
        for ds in (example("ann"), queries(17)):
            with pytest.raises(error, match=f"{name}: {text}"):
                h5dask.write_dataset(ds, url, storage_options=options)


def test_credentials_are_told_to_nobody(store: Endpoint, name: str) -> None:
    made, url = prepare(queries(17), f"{store.url}/{name}"), f"{store.url}/{name}"
    found = uploading.begin_upload(made, url, store.options)
    assert found is not None
    uploads.abort(found.upload)
    told = [repr(found), repr(found.upload)]
    for task in found.tasks:
        told += [f"{key} {node!r}" for key, node in dict(task.dask).items()]
    assert len(told) > 20
    assert not [text for text in told if store.options["secret"] in text]
    assert not [text for text in told if store.options["key"] in text]


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_results(ending: str, store: Endpoint) -> None:
    url = f"{store.url}/{uuid.uuid4().hex}{ending}"
    ds = xr.Dataset({"x": (("a", "b"), da.arange(24, chunks=5).reshape(4, 6))}, {"a": [*"wxyz"]})
    write_result(ds, url, storage_options=store.options)
    xr.testing.assert_equal(open_any(url, storage_options=store.options).load(), ds.load())
    with pytest.raises(Conflict, match="exists already; choose another name"):
        write_result(ds, url, storage_options=store.options)
    write_result(ds + 1, url, storage_options=store.options, overwrite=True)
    xr.testing.assert_equal(open_any(url, storage_options=store.options).load(), (ds + 1).load())
    with pytest.raises(H5daskError, match="access denied"):
        write_result(ds, url, storage_options=store.wrong, overwrite=True)


@pytest.mark.parametrize("ending", [".zarr", ".nc"])
def test_results_that_fail_leave_nothing(ending: str, store: Endpoint) -> None:
    folder = f"{store.url}/{uuid.uuid4().hex}"

    def block(values: Any) -> Any:
        if values.size and values[0] == 8:
            raise ValueError("in a task")
        return values

    x = da.arange(10, chunks=2).map_blocks(block, dtype=int)
    with pytest.raises(ValueError, match="in a task"):
        write_result(
            xr.Dataset({"x": ("a", x)}), f"{folder}/a{ending}", storage_options=store.options
        )
    filesystem = fsspec.filesystem("s3", **store.options)
    filesystem.invalidate_cache()
    assert filesystem.find(folder) == []
