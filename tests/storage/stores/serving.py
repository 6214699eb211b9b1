"""A web server in a thread whose every answer is a test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered; nothing at all, and the connection closed, where the status is 0."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    nbytes: int | None = None
    """Bytes that are promised, where that isn't the body's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server."""

    url: str
    """Without a slash at its end."""
    asked: list[Asked]
    """Every request, in order."""


@contextmanager
def serving(answer: Callable[[Asked], Answer]) -> Iterator[Served]:
    """Run a server on 127.0.0.1 that answers as a function says."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            one = Asked(method=self.command, path=self.path, headers=self.headers)
            asked.append(one)
            found = answer(one)
            if not found.status:
                self.close_connection = True
                return
            nbytes = len(found.body) if found.nbytes is None else found.nbytes
            self.send_response(found.status)
            for name, value in {"Content-Length": str(nbytes), **found.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body)
            self.close_connection = nbytes != len(found.body)

        do_GET = do_HEAD = do_PUT = do_DELETE = respond  # noqa: N815

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Served(url=f"http://127.0.0.1:{server.server_port}", asked=asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ranged(content: bytes, asked: Asked, marks: Mapping[str, str]) -> Answer:
    """Answer as a good server does that holds one object, and keeps conditions on its etag."""
    if asked.headers.get("If-Match", marks.get("ETag")) != marks.get("ETag"):
        return Answer(status=412)
    if asked.method == "HEAD" or "Range" not in asked.headers:
        return Answer(headers=marks, body=content)
    first, last = map(int, asked.headers["Range"].removeprefix("bytes=").split("-"))
    if first >= len(content):
        return Answer(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    part = content[first : last + 1]
    place = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
    return Answer(status=206, headers={**marks, "Content-Range": place}, body=part)
