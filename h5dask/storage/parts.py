"""The names of files while they are written, and what writers that died have left behind.

A part lies beside its target and names its writer, so that the next one knows whether it is
still wanted: `.queries.h5.node7.4711.1f0c9a7be2-0.part`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import socket
import uuid
from contextlib import suppress

from h5dask.storage.remote import local_folder

PROBE = ".probe"
"""Ending of a file beside a part, by which workers are asked whether they share its folder."""
PLACING = ".placing"
"""Ending of a file beside a part that is there while HDF5's library changes the part."""
COPY = ".copy"
"""Ending of the copy that takes a part's place where somebody may still write into it."""
_BESIDE = (PROBE, PLACING, COPY)

_HOST = socket.gethostname().replace(".", "-")[:63]
# A container's first process has the same number in every run: the number alone isn't enough.
_RUN = uuid.uuid4().hex[:10]
_COUNT = itertools.count()
_LONGEST_NAME = 150


def new_part(url: str) -> str:
    """Return an unused path beside the target; for a store's, in the temporary folder.

    Examples
    --------
    >>> new_part("results/queries.h5").startswith("results/.queries.h5.")
    True
    """
    folder, prefix = _place(url)
    return os.path.join(folder, f"{prefix}{_HOST}.{os.getpid()}.{_RUN}-{next(_COUNT)}.part")


def end_placing(part: str) -> None:
    """Forget that somebody was placing chunks in a part, which is whole, gone or made anew."""
    with suppress(OSError):  # a disk that can't be written to refuses what isn't there, too
        os.unlink(part + PLACING)


def remove_abandoned(url: str) -> None:
    """Remove the parts of a target whose writers ran on this machine and are no more."""
    for path in abandoned(url):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            os.unlink(path)


def abandoned(url: str) -> list[str]:
    """Return the paths of the parts that `remove_abandoned` would remove."""
    folder, prefix = _place(url)
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
        return [os.path.join(folder, n) for n in names if _is_abandoned(n.removeprefix(prefix))]
    return []


def _place(url: str) -> tuple[str, str]:
    """Return the folder of a target's parts, and how their names begin."""
    folder, name = local_folder(url)
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return folder, f".{name}."


def _is_abandoned(writer: str) -> bool:
    """Whether the end of a part's name tells of a writer that is no more."""
    for ending in _BESIDE:
        writer = writer.removesuffix(ending)
    match writer.split("."):
        case [host, number, run, "part"] if host == _HOST and number.isdecimal():
            if int(number) == os.getpid():
                return not run.startswith(f"{_RUN}-")
            try:
                os.kill(int(number), 0)
            except (ProcessLookupError, OverflowError):
                return True
            except PermissionError:
                return False
    return False
