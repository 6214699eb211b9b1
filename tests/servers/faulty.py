"""A proxy between a client and a server of HTTP that breaks a share of the answers, in ways drawn
from a seed, delays each request by itself, and counts what went through it."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from tests.servers.messages import PIECE, Ended, Head, pieces, read_head

Fault = Literal[
    "429", "500", "503", "expired", "page", "reset", "truncated", "stall", "flip", "lost"
]
"""What can be done to a request: an answer with that status; one that says that credentials have
expired; a web page instead of the object; a connection reset, closed, or silent in the middle of
the body; one bit of it turned; the request done and its answer thrown away."""
FAULTS: tuple[Fault, ...] = ("500", "503", "reset", "truncated", "stall")
"""Those that happen to everybody."""
_CODES = {
    "429": (HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests"),
    "500": (HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError"),
    "503": (HTTPStatus.SERVICE_UNAVAILABLE, "SlowDown"),
    "expired": (HTTPStatus.FORBIDDEN, "ExpiredToken"),
}
_PAGE = b"<!doctype html><html><body>Please log in.</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done to requests from now on."""

    share: float = 0.0
    """Of the requests that are broken."""
    faults: tuple[Fault, ...] = FAULTS
    """How, each as often as the others."""
    methods: tuple[str, ...] = ()
    """Of which methods; () of all."""
    in_a_row: int = 3
    """How often the same request may be broken one time after the other; 0 for any number."""
    latency: float = 0.0
    """Seconds that each request waits before it goes on, all of them at the same time."""


@dataclass(slots=True)
class Proxy:
    """A running proxy; `plan` may be replaced at any time."""

    server: int
    """Port of what lies behind."""
    seed: int = 0
    """Of the faults drawn."""
    plan: Plan = field(default_factory=Plan)
    """What is done to the requests that come next."""
    port: int = 0
    """Where it listens."""
    requests: Counter[str] = field(default_factory=Counter)
    """Requests by method."""
    nbytes: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies that went to the client, by method."""
    done: Counter[str] = field(default_factory=Counter)
    """Faults by kind."""
    random: random.Random = field(init=False, repr=False)
    _broken: Counter[str] = field(default_factory=Counter, init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def forget(self) -> None:
        """Count from zero."""
        for counts in (self.requests, self.nbytes, self.done):
            counts.clear()

    def draw(self, asked: Head) -> Fault | None:
        """Return what is to go wrong with a request."""
        plan = self.plan
        same = f"{asked.method} {asked.path} {asked.field('Range')}"
        drawn = self.random.random() < plan.share
        worn = plan.in_a_row and self._broken[same] >= plan.in_a_row
        if (plan.methods and asked.method not in plan.methods) or not drawn or worn:
            del self._broken[same]
            return None
        fault = self.random.choice(plan.faults)
        self._broken[same] += 1
        self.done[fault] += 1
        return fault


@contextmanager
def faulty(server: int, *, seed: int = 0, plan: Plan | None = None) -> Iterator[Proxy]:
    """Run a proxy to a port of this machine, in a thread with a loop of its own."""
    proxy, loop = Proxy(server, seed, plan or Plan()), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault proxy", daemon=True)
    thread.start()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _Connection(proxy, reader, writer).serve()
        finally:
            tasks.discard(task)

    async def begin() -> asyncio.Server:
        return await asyncio.start_server(accept, "127.0.0.1", 0, limit=PIECE)

    async def end(listening: asyncio.Server) -> None:
        listening.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    listening = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(slots=True)
class _Connection:
    """One client's connection, and one to the server that goes with it."""

    proxy: Proxy
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def serve(self) -> None:
        """Pass on one request after the other until either side has enough."""
        try:
            with suppress(Ended, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one():
                    pass
        finally:
            self.writer.close()
            if self.behind:
                self.behind[1].close()

    async def _one(self) -> bool:
        """Pass on a request and its answer; whether another may follow."""
        proxy = self.proxy
        asked = await read_head(self.reader)
        proxy.requests[asked.method] += 1
        fault = proxy.draw(asked)
        if proxy.plan.latency:
            await asyncio.sleep(proxy.plan.latency)
        if asked.field("Expect"):
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault in _CODES or fault == "page":
            async for _ in pieces(self.reader, asked.length()):
                pass
            await self._send(_answer(fault, asked.method))
            return True
        await self._ask(asked)
        return await self._answer(asked, fault)

    async def _ask(self, asked: Head) -> None:
        if self.behind is None:
            self.behind = await asyncio.open_connection("127.0.0.1", self.proxy.server, limit=PIECE)
        writer = self.behind[1]
        writer.write(asked.without("Expect").encoded())
        async for piece in pieces(self.reader, asked.length()):
            writer.write(piece)
            await writer.drain()

    async def _answer(self, asked: Head, fault: Fault | None) -> bool:
        assert self.behind is not None
        reader, method = self.behind[0], asked.method
        head = await read_head(reader)
        length = head.length(method)
        if fault == "lost":
            async for _ in pieces(reader, length):
                pass
            return self._reset()
        if fault not in (None, "flip") and length == 0:  # no body to break
            return await self._break(fault)
        await self._send(head.encoded())
        until = self._where(fault, length)
        sent = 0
        async for whole in pieces(reader, length):
            piece = whole
            if until is not None and sent + len(piece) > until:
                if fault != "flip":
                    await self._send(piece[: until - sent])
                    return await self._break(fault)
                piece, until = self._flipped(piece, until - sent), None
            await self._send(piece)
            sent += len(piece)
            self.proxy.nbytes[method] += len(piece)
        return length is not None and "close" not in head.field("Connection").lower()

    def _where(self, fault: Fault | None, length: int | None) -> int | None:
        """Return the byte of the body at which a fault happens."""
        if fault is None:
            return None
        return self.proxy.random.randrange(length) if length and length > 0 else 0

    def _flipped(self, piece: bytes, at: int) -> bytes:
        changed = bytearray(piece)
        changed[at] ^= 1 << self.proxy.random.randrange(8)
        return bytes(changed)

    async def _break(self, fault: Fault | None) -> bool:
        if fault == "reset":
            return self._reset()
        if fault == "stall":  # until the client has had enough
            await self.reader.read()
        return False

    def _reset(self) -> bool:
        """Close the connection with an RST."""
        wire: Any = self.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        return False

    async def _send(self, piece: bytes) -> None:
        self.writer.write(piece)
        await self.writer.drain()


def _answer(fault: Fault, method: str) -> bytes:
    """Return an answer that the server never gave."""
    if fault == "page":
        status, body, kind = HTTPStatus.OK, _PAGE, "text/html"
    else:
        status, code = _CODES[fault]
        body, kind = f"<Error><Code>{code}</Code></Error>".encode(), "application/xml"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*head, "", ""]).encode() + (b"" if method == "HEAD" else body)
