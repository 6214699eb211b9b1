"""An object that tests hold in memory, which counts what it is asked and fails as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from h5dask.errors import InputChanged, NotFound
from h5dask.storage.fetching import Passes
from h5dask.storage.stores import Head


@dataclass
class Fake:
    """Bytes under a name of their own."""

    content: bytes
    url: str = "fake://bucket/a.h5"
    mark: str = "m1"
    parallel: int = 4
    pins: bool = True
    asked: list[tuple[int, int]] = field(default_factory=list)
    """The ranges that were asked for."""
    before: Callable[[int, int], None] | None = None
    """Called before each request is answered: it may raise."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def head(self) -> Head:
        return Head(nbytes=len(self.content), mark=self.mark)

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        with self.lock:
            self.asked.append((start, stop))
        if self.before is not None:
            self.before(start, stop)
        if mark != self.mark:
            raise InputChanged(f"{self.url}: changed since it was opened; open it again")
        return memoryview(self.content)[start:stop]

    def whole(self, mark: str) -> memoryview:
        return self.get(0, len(self.content), mark)

    def names(self) -> list[str]:
        return [self.url]

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        del content, absent, mark, token
        raise NotFound(f"{self.url}: it is read only")

    def delete(self) -> None:
        raise NotFound(f"{self.url}: it is read only")

    def opened(self, *, gathering: bool = False) -> Passes:
        return Passes(self.url, self, len(self.content), self.mark, gathering)
