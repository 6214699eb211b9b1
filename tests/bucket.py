"""A prefix in a store of S3, with nothing in it that another test has left; fixtures by import."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import fsspec
import pytest

from tests.servers import Endpoint, moto


@dataclass(frozen=True)
class Bucket:
    """A prefix in a store of S3 that is a test's own."""

    url: str
    options: Any
    log: Path
    """A line for each request."""

    @property
    def filesystem(self) -> Any:
        """Look at it without h5dask."""
        return fsspec.filesystem("s3", use_listings_cache=False, **self.options)

    def names(self) -> list[str]:
        """Return the names of all objects below the prefix."""
        prefix = self.url.removeprefix("s3://")
        found = self.filesystem.find(prefix)
        return sorted(one.removeprefix(prefix + "/") for one in found)

    def content(self, name: str) -> bytes:
        """Return an object's bytes."""
        found: bytes = self.filesystem.cat_file(f"{self.url}/{name}")
        return found

    def place(self, name: str, content: bytes) -> None:
        """Put an object there, whatever was there."""
        self.filesystem.pipe_file(f"{self.url}/{name}", content)

    def requests(self) -> list[str]:
        """Return what was asked of the server so far: "HEAD /bucket/a.h5"."""
        lines = self.log.read_text().splitlines()
        return [line.split('"')[1].rpartition(" ")[0] for line in lines if " HTTP/1.1" in line]


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, Path]]:
    """A server of S3, and the folder of its log."""
    folder = tmp_path_factory.mktemp("moto")
    with moto.start(folder) as endpoint:
        yield endpoint, folder


@pytest.fixture
def bucket(moto_server: tuple[Endpoint, Path]) -> Iterator[Bucket]:
    """A prefix of the test's own."""
    endpoint, folder = moto_server
    waits = {"h5dask.store-timeout": "5 s", "h5dask.store-deadline": "20 s"}
    with dask.config.set(waits):
        url = f"{endpoint.url}/{uuid.uuid4().hex[:8]}"
        yield Bucket(url, dict(endpoint.options), folder / "moto.log")
