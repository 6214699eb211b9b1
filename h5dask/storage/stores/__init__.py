"""Objects in stores: what is asked of one, whichever library reaches it.

Each call is one attempt with the store's own words turned into ours; trying again is `trying`'s
matter, and what bytes are needed is known elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Options = Mapping[str, Any]
"""What fsspec's filesystem of the store takes: `storage_options`."""
TOKEN = "h5dasktoken"
"""An object's own metadata under which its writer's token stands; Azure allows letters only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a store tells of an object without its bytes."""

    nbytes: int | None
    """Its size; None where the server doesn't tell."""
    mark: str
    """What changes with its bytes: etag, generation or time; "" where the store has none."""
    token: str = ""
    """What its writer left with it, as `put` was told; "" where nothing."""
    ranged: bool = True
    """Whether parts of it can be had; False where the server says it gives the whole only."""


class Object(Protocol):
    """One object in a store, there or not; thread-safe, and made anew in every process.

    Every method makes one attempt. It raises `trying.Again` for what may pass (no answer, too many
    requests, a fault of the server's, fewer bytes than promised), and else a finished error of
    ours that names the URL: NotFound, AccessDenied, InputChanged, Conflict, Refused.
    """

    @property
    def url(self) -> str:
        """What errors call it; without credentials."""

    @property
    def parallel(self) -> int:
        """Requests that this process may have under way at once, of all that are reached alike."""

    def head(self) -> Head:
        """Ask for its state: one request."""

    def get(self, start: int, stop: int, mark: str) -> memoryview:
        """Return the bytes [start, stop): one request, as long as the object is what `mark` says.

        Raises
        ------
        InputChanged
            It is another one now; where the store can't be asked under a condition, this may
            go unseen (see `pins`).
        trying.Whole
            The server gives the whole object only.
        """

    def whole(self, mark: str) -> memoryview:
        """Return all its bytes: one request."""

    @property
    def pins(self) -> bool:
        """Whether `get` itself refuses an object that isn't what its mark says."""

    def names(self) -> list[str]:
        """Return the URLs of the objects that its URL, a pattern, matches, in order."""

    def put(
        self, content: bytes | Path, *, absent: bool = False, mark: str = "", token: str = ""
    ) -> str:
        """Store bytes or a local file under its name, and return the new mark.

        Parameters
        ----------
        content : bytes or Path
            What it is to hold. A large file may take several requests; it appears whole.
        absent : bool
            Only if there is none yet; else Conflict, where the store enforces that.
        mark : str
            Only if it is still the one with this mark; else Conflict, where the store enforces
            that.
        token : str
            What `head` tells from then on.
        """

    def delete(self) -> None:
        """Remove it; nothing happens where there is none."""
