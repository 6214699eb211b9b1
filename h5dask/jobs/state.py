"""How far a run has come, in a folder beside its output that goes when the run is finished."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from h5dask.storage.remote import translated

ENDING = ".h5dask"
"""What the folder's name adds to its output's."""
LEASE = "lease.json"
PLAN = "plan.json"
LOG = "done.log"

PANEL_SECONDS = 2.5
"""How long a panel is to take: a stage of a minute has more than 20, and costs few syncs."""
_FIRST = 16
"""Most blocks of a stage's first panel, whose speed isn't known."""
_FEWEST_PANELS = 20


class State:
    """The steps of one run that are done, remembered in `done.log`.

    A step is done once its line is on disk; a torn last line is none. What is recorded counts
    for one digest only. All of it lies in a folder with a new name in each run: who was thought
    dead, or a task of his that comes late, knows another name, and finds nothing there.

    Parameters
    ----------
    folder : str
        Is there, and nobody else works in it; what another digest left is removed.
    digest : str
        Of the run.
    """

    def __init__(self, folder: str, digest: str) -> None:
        self.digest = digest
        self.folder = os.path.join(folder, uuid.uuid4().hex[:12])
        self._done: dict[str, dict[int, tuple[int, Any]]] = {}
        with translated(folder):
            left = _folder_of(digest, folder)
            remove_contents(folder, but=left)
            if left is not None:
                os.rename(os.path.join(folder, left), self.folder)
                length = self._load()
                os.truncate(self.log, length)
            else:
                os.mkdir(self.folder)
                plan = os.path.join(self.folder, PLAN)
                write_whole("", self.log, f"{self.log}.part")
                write_whole(json.dumps({"digest": digest}), plan, f"{plan}.part")

    @property
    def log(self) -> str:
        """Path of what remembers."""
        return os.path.join(self.folder, LOG)

    @property
    def has_begun(self) -> bool:
        """Whether there is anything that a later run would not have to do again."""
        return any(self._done.values())

    def part(self, name: str) -> str:
        """Return where an output is made."""
        return os.path.join(self.folder, name)

    def remove(self) -> None:
        """Remove all of it, and nothing that is another run's."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def done(self, name: str) -> Any:
        """Return what a step gave, None if it has not been done."""
        return self._done.get(name, {}).get(0, (0, None))[1]

    def once(self, name: str, do: Callable[[], Any]) -> Any:
        """Return what `do` gave when it ran for the first time; values that JSON holds."""
        return self.panels(name, 1, lambda *_: do())[0]

    def panels(self, name: str, n: int, do: Callable[[int, int], Any]) -> list[Any]:
        """Return what `do` gave for each panel [start, stop) below n, doing those that lack.

        Panels grow or shrink so as to take some seconds each; each is on record before the next
        begins.
        """
        done = self._done.setdefault(name, {})
        found, start, size = [], 0, max(1, min(_FIRST, n // _FEWEST_PANELS))
        while start < n:
            if start in done:
                start, gave = done[start]
            else:
                stop = min([start + size, n, *(at for at in done if at > start)])
                began = time.monotonic()
                gave = do(start, stop)
                self._append({"step": name, "at": [start, stop], "gave": gave})
                done[start] = stop, gave
                took = max(time.monotonic() - began, 1e-3)
                size = max(1, min(4 * size, int((stop - start) * PANEL_SECONDS / took)))
                start = stop
            found.append(gave)
        return found

    def forget(self, *names: str) -> None:
        """Take steps for not done."""
        lost = [name for name in names if self._done.pop(name, None)]
        if lost:
            self._append({"forget": lost})

    def _append(self, entry: Any) -> None:
        # Never created here: who comes late must not bring back what another run took over.
        with translated(self.log), open(self.log, "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _load(self) -> int:
        """Take up what is on record, and return how many bytes of the log can be trusted."""
        length = 0
        with suppress(FileNotFoundError), open(self.log, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    break
                length += len(line)
        if not os.path.exists(self.log):
            write_whole("", self.log, f"{self.log}.part")
        return length

    def _take(self, entry: Any) -> None:
        for name in entry.get("forget", ()):
            self._done.pop(name, None)
        if "step" in entry:
            start, stop = entry["at"]
            self._done.setdefault(entry["step"], {})[int(start)] = int(stop), entry["gave"]


def remove_contents(folder: str, *, but: str | None = None) -> None:
    """Remove what runs left in a folder, but for the lease and what else is named."""
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if entry.name in (LEASE, but):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)


def _folder_of(digest: str, folder: str) -> str | None:
    """Return the name of what a run of a digest has left in a folder."""
    for name in os.listdir(folder):
        with (
            suppress(OSError, ValueError, KeyError, TypeError),
            open(os.path.join(folder, name, PLAN), encoding="utf-8") as file,
        ):
            if json.load(file)["digest"] == digest:
                return name
    return None


def write_whole(text: str, path: str, temporary: str) -> None:
    """Write a small file, whole or not at all, by way of another one."""
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
