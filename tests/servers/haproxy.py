"""HAProxy before a server of S3: a fifth of the requests refused or cut off, the others late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import Endpoint, Server, moto, s3
from tests.servers.programs import answers, free_port, running

LATENCY = 5
"""Milliseconds that each request waits before it goes on, in the store of the tests."""
_DELAY = (
    'core.register_action("delay", {{"http-req"}}, function() core.msleep({milliseconds}) end)\n'
)
_CONFIGURATION = """\
global
    lua-load {folder}/delay.lua
    maxconn 512
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    http-request lua.delay
    http-request set-var(txn.drawn) rand(1000)
    http-request return status 503 hdr Retry-After 0 if {{ var(txn.drawn) -m int lt {a} }}
    http-request return status 500 if {{ var(txn.drawn) -m int lt {b} }}
    http-request reject if {{ var(txn.drawn) -m int lt {c} }}
    default_backend behind
backend behind
    server behind 127.0.0.1:{server}
"""


@contextmanager
def before(
    server: int, folder: Path, *, share: float = 0.0, milliseconds: int = 0
) -> Iterator[int]:
    """Run it before a port of this machine, and give the port to use instead.

    A share of the requests is answered by 503, by 500, or not at all: half, a quarter, a quarter.
    """
    port, drawn = free_port(), round(share * 1000)
    (folder / "delay.lua").write_text(_DELAY.format(milliseconds=milliseconds))
    configuration = folder / "haproxy.cfg"
    values = {"a": drawn // 2, "b": drawn * 3 // 4, "c": drawn}
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, port=port, server=server, **values)
    )
    command = ("haproxy", "-db", "-f", str(configuration))
    with running(command, folder / "haproxy.log", partial(answers, port)):
        yield port


@contextmanager
def start(folder: Path) -> Iterator[Endpoint]:
    """Run moto's server behind it; objects are placed past the faults."""
    with (
        moto.start(folder) as behind,
        before(behind.port, folder, share=0.2, milliseconds=LATENCY) as port,
    ):
        yield s3.through(behind, port)


SERVER = Server(start=start, programs=("haproxy",))
