"""Outputs in a store: parts are made in a local folder, uploaded, and then recorded.

What a killed run needs to go on stays on its machine; another machine begins anew.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from h5dask.errors import Conflict, NotFound, Refused
from h5dask.jobs import record as records
from h5dask.jobs.file_lease import leased
from h5dask.jobs.lease import BEAT, Lease
from h5dask.jobs.record import FOLDERS, Record, beside, shown
from h5dask.jobs.state import remove_contents
from h5dask.jobs.store_lease import LeaseObject
from h5dask.storage import folders
from h5dask.storage.publishing import publish
from h5dask.storage.remembering import folder as cache_folder
from h5dask.storage.remote import fingerprint
from h5dask.storage.stores.finding import object_at
from h5dask.storage.stores.trying import persistently

LEASE = ".h5dask.lease"
"""What the name of the lease's object adds to its output's."""
_FORGOTTEN = 14 * 86_400.0
"""Seconds after which what a killed run has left on its machine is given up."""
_RUNS = "runs"
"""Folder of all states of runs, in that of remembered indexes."""


@dataclass(frozen=True, slots=True)
class InStore:
    """The outputs of one run, under one prefix; see `outputs.Outputs`."""

    url: str
    """URL of the first one."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of the store's filesystem."""

    @property
    def folder(self) -> str:
        """Folder of the run's state, among remembered indexes."""
        name = hashlib.sha256(shown(self.url).encode()).hexdigest()[:32]
        return os.path.join(cache_folder(), _RUNS, name)

    @contextmanager
    def held(self, say: Callable[[str], Any], /) -> Iterator[Lease]:
        """Take the right to make them: on this machine, whatever the store enforces, and there."""
        with ExitStack() as stack:
            stack.enter_context(leased(self.folder, shown(self.url), say))
            _clear_forgotten(os.path.dirname(self.folder), say)
            there = object_at(self.url + LEASE, self.options)
            yield stack.enter_context(Lease(LeaseObject(there), shown(self.url), say))

    def exists(self) -> bool:
        """Whether the first one is there, whoever made it."""
        try:
            self.state_of(_name_of(self.url))
        except NotFound:
            return False
        return True

    def record(self) -> Record | None:
        """Return what tells how they came to be; None where nothing does: one request."""
        text = content_of(self.url + records.ENDING, self.options)
        return None if text is None else records.parsed(text)

    def write_record(self, record: Record, mark: str | None) -> str | None:
        """Put the record where one with a mark is, whole or not at all; return its own mark."""
        url, content = self.url + records.ENDING, record.text.encode()
        there = object_at(url, self.options)
        try:
            return persistently(
                there.url, lambda: there.put(content, absent=mark is None, mark=mark or "")
            )
        except Conflict:
            if content_of(url, self.options) != content:
                raise
            return self.record_mark()  # it is ours: the first reply was lost

    def record_mark(self) -> str | None:
        """Return what changes with the record; None where it isn't there."""
        return _mark_of(self.url + records.ENDING, self.options)

    def mark_of(self, name: str, /) -> str | None:
        """Return what changes with an object; None where it isn't there."""
        return _mark_of(beside(self.url, name), self.options)

    def state_of(self, name: str) -> str:
        """Return the fingerprint of an object; of a folder, one of all objects below it."""
        url = beside(self.url, name)
        if not name.endswith(FOLDERS):
            return fingerprint(url, self.options)
        return folders.state_of(url, self.options)

    def nbytes_of(self, name: str) -> int:
        """Return the bytes of an object, or of all below a folder."""
        url = beside(self.url, name)
        if not name.endswith(FOLDERS):
            return persistently(url, object_at(url, self.options).head).nbytes or 0
        return folders.nbytes_of(url, self.options)

    def publish(self, part: str, name: str, *, overwrite: bool, mark: str | None) -> bool | None:
        """Upload a finished part; tell whether the store enforced that nothing was replaced."""
        url = beside(self.url, name)
        if os.path.isdir(part):
            if not name.endswith(FOLDERS):
                raise Refused(f"{shown(url)}: is a folder; in a store its name ends in {FOLDERS}")
            folders.publish(part, url, self.options, overwrite=overwrite)
            return None if overwrite else False
        overwrite &= mark is not None
        return publish(part, url, self.options, overwrite=overwrite, mark=mark or "").enforced

    def remove(self, name: str) -> None:
        """Remove an object, or all below a folder, if there is something."""
        url = beside(self.url, name)
        if name.endswith(FOLDERS):
            folders.remove(url, self.options)
        else:
            _delete(url, self.options)

    def remove_record(self) -> None:
        """Remove the record, if it is there."""
        _delete(self.url + records.ENDING, self.options)


def content_of(url: str, options: Mapping[str, Any]) -> bytes | None:
    """Return what a small object holds; None where there is none."""
    there = object_at(url, options)
    try:
        return bytes(persistently(there.url, lambda: there.whole("")))
    except NotFound:
        return None


def _mark_of(url: str, options: Mapping[str, Any]) -> str | None:
    there = object_at(url, options)
    try:
        return persistently(there.url, there.head).mark
    except NotFound:
        return None


def put(url: str, content: bytes, options: Mapping[str, Any]) -> None:
    """Store a small object, whatever was there."""
    there = object_at(url, options)
    persistently(there.url, lambda: there.put(content))


def _clear_forgotten(states: str, say: Callable[[str], Any]) -> None:
    """Remove what killed runs have left that nobody has gone on with for long."""
    for entry in list(os.scandir(states)):
        with suppress(OSError, Conflict):  # others clear up, too, or work there
            touched = max(os.stat(one).st_mtime for one in (entry, *os.scandir(entry)))
            if time.time() - touched > _FORGOTTEN:
                with leased(entry.path, entry.path, say, expiry=2 * BEAT):
                    remove_contents(entry.path)


def _delete(url: str, options: Mapping[str, Any]) -> None:
    there = object_at(url, options)
    persistently(there.url, there.delete)


def _name_of(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]
