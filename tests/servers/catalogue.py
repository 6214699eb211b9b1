"""All servers by name, and the parameters by which a test asks for some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import Server, azurite, gcs, haproxy, moto, nginx, rclone, rgw, sftp

SERVERS: dict[str, Server] = {
    "moto": moto.SERVER,
    "nginx": nginx.SERVER,
    "rgw": rgw.SERVER,
    "rclone": rclone.SERVER,
    "haproxy": haproxy.SERVER,
    "azurite": azurite.SERVER,
    "gcs": gcs.SERVER,
    "sftp": sftp.SERVER,
}


def asking(suits: Callable[[Server], bool]) -> list[Any]:
    """Return a parameter for each server that suits, with the marks by which tests are chosen."""
    return [
        pytest.param(name, id=name, marks=marks(server))
        for name, server in SERVERS.items()
        if suits(server)
    ]


def marks(server: Server) -> list[pytest.MarkDecorator]:
    """Return the marks of tests that need a server."""
    needs = [pytest.mark.needs(*server.programs)] if server.programs else []
    return needs if server.quick else [*needs, pytest.mark.servers]
