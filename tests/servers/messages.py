"""HTTP/1.1 as bytes on a wire: where a message's head ends, and how long its body is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE = 256 * 2**10
"""Bytes that are passed on at once, at most."""
_BODILESS = (b"204", b"304")


class Ended(Exception):
    """The other side closed its connection between two messages."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of a request or an answer."""

    lines: tuple[bytes, ...]

    @property
    def method(self) -> str:
        """The first word of a request."""
        return self.lines[0].partition(b" ")[0].decode("latin-1")

    @property
    def path(self) -> str:
        """The second word of a request, its query included."""
        return self.lines[0].split(b" ")[1].decode("latin-1")

    def field(self, name: str) -> str:
        """Return a header's value, or "" where there is none."""
        wanted = name.lower().encode()
        for line in self.lines[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == wanted:
                return value.strip().decode("latin-1")
        return ""

    def without(self, name: str) -> Head:
        """Return it with a header left out."""
        start = name.lower().encode() + b":"
        return Head(tuple(line for line in self.lines if not line.lower().startswith(start)))

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        return b"\r\n".join(self.lines) + b"\r\n\r\n"

    def length(self, asked: str = "") -> int | None:
        """Return the bytes of its body: -1 where it comes in chunks, None where it ends with
        the connection, as the answer to `asked` may."""
        if asked:
            status = self.lines[0].split(b" ")[1]
            if asked == "HEAD" or status in _BODILESS or status.startswith(b"1"):
                return 0
        if "chunked" in self.field("Transfer-Encoding").lower():
            return -1
        if told := self.field("Content-Length"):
            return int(told)
        return None if asked else 0


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read the first lines of the next message."""
    try:
        found = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise Ended from error
    return Head(tuple(found[:-4].split(b"\r\n")))


async def pieces(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """Read a body of some length, as `Head.length` tells it; chunks come with their frames."""
    if length == -1:
        async for piece in _chunks(reader):
            yield piece
        return
    left = length
    while left is None or left > 0:
        piece = await reader.read(PIECE if left is None else min(left, PIECE))
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        nbytes = int(line.split(b";")[0], 16)
        if nbytes:
            yield await reader.readexactly(nbytes + 2)
            continue
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":  # trailers
            yield line
        yield line
        return
