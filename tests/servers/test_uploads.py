"""Writing to real servers of S3: what each enforces, and that nothing else stays there."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import fsspec
import pytest
import xarray as xr

import h5dask
from h5dask.errors import Conflict
from h5dask.storage.publishing import Published, commit, publish
from h5dask.storage.stores import uploads
from h5dask.testing import example
from tests.servers import Endpoint, s3
from tests.servers.catalogue import SERVERS, marks
from tests.servers.conftest import Started

ENFORCED = {"moto": (True, True), "rgw": (True, False), "rclone": (False, False)}
"""By server: whether it keeps conditions of single puts, and of completed uploads."""


@pytest.fixture(
    params=[pytest.param(name, id=name, marks=marks(SERVERS[name])) for name in ENFORCED]
)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def store(kind: str, started: Started) -> Endpoint:
    return started(kind)


def large() -> xr.Dataset:
    """Return a lazy Dataset of three parts."""
    values = da.arange(5 * 2**20, chunks=2**18, dtype="f4").reshape(-1, 64).rechunk((2**14, 64))
    few = example("ann").isel(feature=[0] * 64).drop_vars(["train", "train_labels", "test_labels"])
    return few.assign(train=(("vector", "feature"), values))


def left(store: Endpoint, folder: str) -> tuple[list[str], int]:
    """Return the objects of a folder, and how many uploads are under way in the bucket."""
    filesystem = fsspec.filesystem("s3", **store.options)
    filesystem.invalidate_cache()
    found = [path.rpartition("/")[2] for path in filesystem.find(f"{store.url}/{folder}")]
    pending = filesystem.call_s3("list_multipart_uploads", Bucket=s3.BUCKET).get("Uploads")
    return sorted(found), len(pending or [])


def test_datasets_in_parts(store: Endpoint, folder: str, tmp_path: Path) -> None:
    ds, url = large(), f"{store.url}/{folder}/a.h5"
    h5dask.write_dataset(ds, tmp_path / "a.h5")
    h5dask.write_dataset(ds, url, storage_options=store.options)
    assert store.content(f"{folder}/a.h5") == (tmp_path / "a.h5").read_bytes()
    with pytest.raises(Conflict, match=r"a\.h5: exists already"):
        h5dask.write_dataset(ds, url, storage_options=store.options)
    h5dask.write_dataset(ds, url, storage_options=store.options, overwrite=True)
    assert left(store, folder) == (["a.h5"], 0)


def test_what_is_enforced_is_told(kind: str, store: Endpoint, folder: str, tmp_path: Path) -> None:
    at_once, in_parts = ENFORCED[kind]
    part, url = tmp_path / "part", f"{store.url}/{folder}/a.h5"
    part.write_bytes(b"ours")
    assert publish(str(part), url, store.options, overwrite=False) == Published(enforced=at_once)
    upload = uploads.begin(f"{url}.2", store.options, "token")
    sent = uploads.put_part(upload, 1, b"ours")
    assert commit(upload, [sent], 4, overwrite=False) == Published(enforced=in_parts)
    for name in ("a.h5", "a.h5.2"):
        assert store.content(f"{folder}/{name}") == b"ours"
        part.write_bytes(b"other")
        with pytest.raises(Conflict, match=rf"{name}: exists already"):
            publish(str(part), f"{store.url}/{folder}/{name}", store.options, overwrite=False)
    assert left(store, folder) == (["a.h5", "a.h5.2"], 0)
