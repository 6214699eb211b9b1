"""Outputs in a local folder: published by renames, the former ones kept by count."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from h5dask.errors import AccessDenied, Conflict, OutOfSpace
from h5dask.jobs import record as records
from h5dask.jobs.file_lease import leased
from h5dask.jobs.lease import Lease
from h5dask.jobs.record import Record
from h5dask.jobs.state import ENDING, write_whole
from h5dask.storage.publishing import publish, sync
from h5dask.storage.remote import fingerprint, translated


@dataclass(frozen=True, slots=True)
class OnDisk:
    """The outputs of one run, in one folder; see `outputs.Outputs`."""

    url: str
    """Path of the first one."""
    keep: int = 0
    """Former versions of each that stay, under names with their time."""

    @property
    def folder(self) -> str:
        """Folder of the run's state, beside the output."""
        return self.url + ENDING

    @contextmanager
    def held(self, say: Callable[[str], Any], /) -> Iterator[Lease]:
        """Take the right to make them, or raise `lease.Held`."""
        with leased(self.folder, self.url, say) as lease:
            yield lease

    def exists(self) -> bool:
        """Whether the first one is there, whoever made it."""
        return os.path.exists(self.url)

    def record(self) -> Record | None:
        """Return what tells how they came to be; None where nothing does."""
        return records.read(self.url)

    def write_record(self, record: Record, mark: str | None) -> str | None:
        """Put the record in its place, whole or not at all."""
        path = self.url + records.ENDING
        with translated(path):
            write_whole(record.text, path, os.path.join(self.folder, f"record{records.ENDING}"))
        return mark

    def record_mark(self) -> str | None:
        """Return nothing: see `mark_of`."""
        return ""

    def mark_of(self, name: str, /) -> str | None:  # noqa: ARG002 - of stores
        """Return nothing: who was taken over has no parts any more that he could publish."""
        return ""

    def state_of(self, name: str) -> str:
        """Return the fingerprint of a file; of a folder such as .zarr, one of all files in it."""
        path = self._path(name)
        if not os.path.isdir(path):
            return fingerprint(path)
        told = [(os.path.relpath(one, path), fingerprint(one)) for one in _files_of(path)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def nbytes_of(self, name: str) -> int:
        """Return the bytes of a file, or of all files in a folder."""
        return sum(os.stat(one).st_size for one in _files_of(self._path(name)))

    def publish(
        self,
        part: str,
        name: str,
        *,
        overwrite: bool,
        mark: str | None = "",  # noqa: ARG002 - of stores
    ) -> bool | None:
        """Give a finished part on the same filesystem its name; see `outputs.Outputs`."""
        target, enforced = self._path(name), None
        if not os.path.exists(part):
            raise Conflict(f"{target}: another run has taken over what was to be published")
        if os.path.exists(target) and os.path.samefile(part, target):
            os.unlink(part)  # it has both names where a run was killed as it published
            sync(os.path.dirname(target), os.O_RDONLY)
            return None
        latest = _set_aside(target) if self.keep and overwrite else ""
        if os.path.isdir(part):
            _publish_folder(part, target, overwrite=overwrite)
        else:
            enforced = publish(part, target, overwrite=overwrite).enforced
        _remove_old(target, self.keep, latest)
        return enforced

    def remove(self, name: str) -> None:
        """Remove an output, file or folder, if it is there."""
        _remove(self._path(name))

    def remove_record(self) -> None:
        """Remove the record, if it is there."""
        _remove(self.url + records.ENDING)

    def _path(self, name: str) -> str:
        return os.path.join(os.path.dirname(self.url), name)


def _files_of(path: str) -> list[str]:
    """Return a file, or all files below a folder, in order."""
    if not os.path.isdir(path):
        return [path]
    return sorted(os.path.join(at, name) for at, _, names in os.walk(path) for name in names)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
        return
    with suppress(FileNotFoundError):
        os.unlink(path)


def _publish_folder(part: str, target: str, *, overwrite: bool) -> None:
    """Put a folder in its place; the one that is there steps aside for that moment, and goes.

    A crash in between leaves it in the run's folder: the next run makes the output anew.
    """
    former = f"{part}.former"
    if os.path.exists(target) and not overwrite:
        raise Conflict(f"{target}: appeared while it was made; nothing was overwritten")
    try:
        os.sync()  # a folder such as .zarr has too many files to sync them one by one
        if os.path.exists(target):
            os.rename(target, former)
        os.rename(part, target)
        os.sync()
    except OSError as error:
        raise OutOfSpace(f"{target}: could not be written to disk ({error.strerror})") from None
    shutil.rmtree(former, ignore_errors=True)


def _set_aside(target: str) -> str:
    """Give an output that is about to be replaced a second name, which tells its time; return it.

    "" where there is none.
    """
    if not os.path.exists(target):
        return ""
    written = time.gmtime(os.stat(target).st_mtime)
    second = f"{target}.{time.strftime('%Y%m%dT%H%M%SZ', written)}.old"
    if os.path.isdir(target):
        if not os.path.exists(second):
            os.rename(target, second)
        return second
    try:
        os.link(target, second)
    except FileExistsError:
        return second
    except OSError:  # a filesystem without links
        try:
            shutil.copy2(target, second)
        except OSError as error:
            raise AccessDenied(f"{second}: can't be kept ({error.strerror})") from None
    return second


def _remove_old(target: str, keep: int, latest: str) -> None:
    """Remove all but the newest of the former versions of an output.

    The latest is the newest, whatever its name says: a clock may have been set back.
    """
    folder, name = os.path.split(target)
    with suppress(FileNotFoundError):
        old = sorted(
            (
                one
                for one in os.listdir(folder)
                if one.startswith(name + ".") and _is_old(one, name)
            ),
            key=lambda one: (os.path.join(folder, one) == latest, one),
        )
        for one in old[: max(0, len(old) - keep)] if keep else []:
            _remove(os.path.join(folder, one))


def _is_old(name: str, output: str) -> bool:
    time_of = name.removeprefix(output + ".").removesuffix(".old")
    return name.endswith(".old") and len(time_of) == 16 and time_of[:8].isdecimal()
