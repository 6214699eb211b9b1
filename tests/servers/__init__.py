"""Real stores for tests: each module starts one and says by an `Endpoint` how it is reached.

Every server listens on 127.0.0.1 alone, on a port that was free, keeps its files below the folder
it is given, and ends with the `with` block that started it. Nothing here knows h5dask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

Options = Mapping[str, Any]
"""What fsspec's filesystem of a store takes."""
_SECRET = ("key", "secret", "connection_string", "key_filename")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How a running store is reached, and by whom."""

    url: str
    """Where a test may put its objects; without a slash at the end."""
    options: Options = field(default_factory=dict, repr=False)
    """`storage_options` of somebody who may."""
    wrong: Options = field(default_factory=dict, repr=False)
    """`storage_options` of somebody the store doesn't know, where it asks."""
    behind: str = ""
    """The same place as whoever runs the server sees it; "" where that is `url`."""
    behind_options: Options = field(default_factory=dict, repr=False)
    """`storage_options` for that."""
    port: int = 0
    """Where it listens."""

    def place(self, name: str, content: bytes) -> str:
        """Put an object there without h5dask, and return its URL."""
        filesystem, folder = self._behind()
        filesystem.pipe_file(f"{folder}/{name}", content)
        return f"{self.url}/{name}"

    def content(self, name: str) -> bytes:
        """Return an object's bytes without h5dask."""
        filesystem, folder = self._behind()
        found: bytes = filesystem.cat_file(f"{folder}/{name}")
        return found

    def holds(self, name: str) -> bool:
        """Say without h5dask whether there is an object."""
        filesystem, folder = self._behind()
        filesystem.invalidate_cache()
        return bool(filesystem.exists(f"{folder}/{name}"))

    def secrets(self) -> list[str]:
        """Return what nothing may repeat: keys of all who are known, and of those who aren't."""
        every = (*self.options.items(), *self.wrong.items())
        return [value for name, value in every if name in _SECRET]

    def _behind(self) -> tuple[Any, str]:
        found: tuple[Any, str] = (
            fsspec.core.url_to_fs(self.behind, **self.behind_options)
            if self.behind
            else fsspec.core.url_to_fs(self.url, **self.options)
        )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A store that can be started, and what it can do then."""

    start: Callable[[Path], AbstractContextManager[Endpoint]]
    """Run it with its files below an empty folder."""
    programs: tuple[str, ...] = ()
    """Programs that must be there."""
    writable: bool = True
    """Whether it takes objects by the URLs it gives."""
    guarded: bool = True
    """Whether it asks who one is."""
    bucketed: bool = True
    """Whether the first name of a path is a bucket, which must exist."""
    enforces: bool = True
    """Whether it refuses a put whose condition doesn't hold."""
    ranged: bool = True
    """Whether it says of a part of an object that it is one."""
    remembers: bool = True
    """Whether it keeps a token beside an object."""
    quick: bool = False
    """Whether it is part of every run."""
