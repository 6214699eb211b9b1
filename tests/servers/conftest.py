"""Servers as fixtures: each is started when a test first asks for it, and runs until the end."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import dask
import pytest

from tests.servers import Endpoint, Server
from tests.servers.catalogue import SERVERS, asking

Started = Callable[[str], Endpoint]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """How to come by a server by its name."""
    running: dict[str, Endpoint] = {}
    with ExitStack() as stack:

        def one(name: str) -> Endpoint:
            if name not in running:
                folder = tmp_path_factory.mktemp(name)
                running[name] = stack.enter_context(SERVERS[name].start(folder))
            return running[name]

        yield one


def stores(suits: Callable[[Server], bool]) -> Any:
    """Return a fixture: every store that suits in turn."""

    @pytest.fixture(scope="session", params=asking(suits))
    def one(request: pytest.FixtureRequest, started: Started) -> Endpoint:
        return started(request.param)

    return one


endpoint = stores(lambda _: True)
ranged = stores(lambda server: server.ranged)
unranged = stores(lambda server: not server.ranged)
writable = stores(lambda server: server.writable)
guarded = stores(lambda server: server.guarded)
bucketed = stores(lambda server: server.bucketed)
enforcing = stores(lambda server: server.writable and server.enforces)
heedless = stores(lambda server: server.writable and not server.enforces)
remembering = stores(lambda server: server.writable and server.remembers)


@pytest.fixture(scope="session")
def moto(started: Started) -> Endpoint:
    """A store of S3."""
    return started("moto")


@pytest.fixture(scope="session")
def nginx(started: Started) -> Endpoint:
    """A web server; a test that asks for it is marked as one that needs it."""
    return started("nginx")


_numbers = itertools.count()


@pytest.fixture
def folder() -> str:
    """Name of a folder that no other test uses, in any store."""
    return f"{os.getpid()}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def short_waits() -> Iterator[None]:
    """Give a store of this machine less time than one far away."""
    with dask.config.set({"h5dask.store-timeout": "5 s", "h5dask.store-deadline": "20 s"}):
        yield
