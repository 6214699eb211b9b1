"""Where the outputs of a run lie, side by side, with its record: on disk or in a store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from h5dask.errors import NotFound, Refused
from h5dask.jobs.on_disk import OnDisk
from h5dask.jobs.record import FOLDERS, Record, shown
from h5dask.storage.remote import resolved

_READ_ONLY = ("http://", "https://")


class Held(Protocol):
    """The right to make the outputs, for as long as it is entered."""

    @property
    def enforced(self) -> bool:
        """Whether it was had under a condition, or in one step."""

    def holds(self) -> bool:
        """Whether it is still ours."""


class Outputs(Protocol):
    """The outputs of one run; the others' names lie beside the first one's."""

    @property
    def url(self) -> str:
        """Path or URL of the first one, without which there is no run."""

    @property
    def folder(self) -> str:
        """Local folder of what a killed run needs to go on; there while the right is held."""

    def held(self, say: Callable[[str], Any], /) -> AbstractContextManager[Held]:
        """Take the right to make them, or raise `lease.Held`; `say` tells who has to wait."""

    def exists(self) -> bool:
        """Whether the first one is there, whoever made it."""

    def record(self) -> Record | None:
        """Return what tells how they came to be; None where nothing does."""

    def write_record(self, record: Record, mark: str | None) -> str | None:
        """Put the record where one with a mark is, whole or not at all; return its own mark.

        Conflict where there is another one, if the store enforces that.
        """

    def record_mark(self) -> str | None:
        """Return what the record is known by in a store; None where there is none, "" on a disk."""

    def mark_of(self, name: str, /) -> str | None:
        """Return what an output is known by, likewise."""

    def state_of(self, name: str) -> str:
        """Return the fingerprint of one; NotFound where it isn't there."""

    def nbytes_of(self, name: str) -> int:
        """Return the bytes of one."""

    def publish(self, part: str, name: str, *, overwrite: bool, mark: str | None) -> bool | None:
        """Give a finished local file or folder its name, which goes then.

        Conflict where it is taken, and not to be overwritten, or by another one than that with
        the mark; returned is whether that was enforced, None where nothing was asked.
        """

    def remove(self, name: str) -> None:
        """Remove one, if it is there."""

    def remove_record(self) -> None:
        """Remove the record, if it is there."""


def outputs_at(
    output: str | os.PathLike[str], options: Mapping[str, Any] | None = None, *, keep: int = 0
) -> Outputs:
    """Return the outputs of which one is named; nothing is asked of a store yet.

    Parameters
    ----------
    output : path or URL
        The first one, by whose name the others are called.
    options : mapping, optional
        Of its store.
    keep : int
        Former versions that stay.

    Raises
    ------
    NotFound
        There is no such local folder, or the output is one.
    Refused
        Former versions are to stay in a store, or nothing can be written there.
    """
    url = resolved(output)
    if "://" in url:
        from h5dask.jobs.in_store import (
            InStore,
        )  # brings dask, which a local run is skipped without

        if url.startswith(_READ_ONLY):
            raise Refused(
                f"{shown(url)}: a web server takes no outputs; name a local path, or a store's URL"
            )
        if keep:
            raise Refused(
                f"{shown(url)}: found keep={keep!r}, but former outputs stay on local disks only; "
                "leave it out, and let the store keep versions"
            )
        return InStore(url, dict(options or {}))
    folder = os.path.dirname(url)
    if not os.path.isdir(folder):
        raise NotFound(f"{url}: no folder {folder!r}; make it first")
    if os.path.isdir(url) and not url.endswith(FOLDERS):
        raise NotFound(f"{url}: is a folder; name a file in it")
    return OnDisk(url, keep)


def is_current(outputs: Outputs, record: Record | None, digest: str) -> bool:
    """Whether outputs are what a run of this digest published, untouched since."""
    if record is None or record.digest != digest or not record.finished:
        return False
    try:
        return all(outputs.state_of(one["name"]) == one["fingerprint"] for one in record.outputs)
    except NotFound:
        return False
