"""Finished parts -> outputs under their names, the former ones kept by count."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from h5dask.errors import AccessDenied, OutOfSpace
from h5dask.jobs.record import Record, files_of, state_of
from h5dask.storage.publishing import publish


def publish_parts(
    parts: Mapping[str, str], folder: str, former: Record | None, keep: int
) -> list[dict[str, Any]]:
    """Give each part its name, one after the other, and return what was published.

    Parameters
    ----------
    parts : mapping
        Name -> where it was made, on the same filesystem.
    folder : str
        Where outputs lie.
    former : Record, optional
        Of the run before; what it published and this one doesn't is removed at the end.
    keep : int
        Former versions of each output that stay.
    """
    for name, part in parts.items():
        target = os.path.join(folder, name)
        if keep:
            _set_aside(target)
        if os.path.isdir(part):
            _publish_folder(part, target)
        else:
            publish(part, target)
        _remove_old(target, keep)
    held = {one["name"] for one in former.outputs} if former is not None else set()
    for name in sorted(held - set(parts)):
        remove(os.path.join(folder, name))
    found = []
    for name in parts:
        path = os.path.join(folder, name)
        nbytes = sum(os.stat(one).st_size for one in files_of(path))
        found.append({"name": name, "fingerprint": state_of(path), "nbytes": nbytes})
    return found


def remove(path: str) -> None:
    """Remove an output, file or folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
        return
    with suppress(FileNotFoundError):
        os.unlink(path)


def _publish_folder(part: str, target: str) -> None:
    """Put a folder in its place; the one that is there steps aside for that moment, and goes.

    A crash in between leaves it in the run's folder: the next run makes the output anew.
    """
    former = f"{part}.former"
    try:
        os.sync()  # a folder such as .zarr has too many files to sync them one by one
        if os.path.exists(target):
            os.rename(target, former)
        os.rename(part, target)
        os.sync()
    except OSError as error:
        raise OutOfSpace(f"{target}: could not be written to disk ({error.strerror})") from None
    shutil.rmtree(former, ignore_errors=True)


def _set_aside(target: str) -> None:
    """Give an output that is about to be replaced a second name, which tells its time."""
    if not os.path.exists(target):
        return
    written = time.gmtime(os.stat(target).st_mtime)
    second = f"{target}.{time.strftime('%Y%m%dT%H%M%SZ', written)}.old"
    if os.path.isdir(target):
        if not os.path.exists(second):
            os.rename(target, second)
        return
    try:
        os.link(target, second)
    except FileExistsError:
        return
    except OSError:  # a filesystem without links
        try:
            shutil.copy2(target, second)
        except OSError as error:
            raise AccessDenied(f"{second}: can't be kept ({error.strerror})") from None


def _remove_old(target: str, keep: int) -> None:
    """Remove all but the newest of the former versions of an output."""
    folder, name = os.path.split(target)
    with suppress(FileNotFoundError):
        old = sorted(
            one for one in os.listdir(folder) if one.startswith(name + ".") and _is_old(one, name)
        )
        for one in old[: max(0, len(old) - keep)] if keep else []:
            remove(os.path.join(folder, one))


def _is_old(name: str, output: str) -> bool:
    time_of = name.removeprefix(output + ".").removesuffix(".old")
    return name.endswith(".old") and len(time_of) == 16 and time_of[:8].isdecimal()
