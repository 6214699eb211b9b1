"""Short waits, and a store of S3."""

from collections.abc import Iterator

import dask
import pytest

from tests.servers import Endpoint, moto


@pytest.fixture(autouse=True)
def short_waits() -> Iterator[None]:
    with dask.config.set({"h5dask.store-timeout": "2 s", "h5dask.store-deadline": "4 s"}):
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A store of S3 that asks who one is."""
    with moto.start(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint
