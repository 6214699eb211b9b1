"""How far a run has come, in a folder beside its output that goes when the run is finished."""

from __future__ import annotations

import json
import os
import shutil
import time
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
    for one digest only.

    Parameters
    ----------
    folder : str
        Is there, and nobody else works in it.
    digest : str
        Of the run; what another one left is removed.
    """

    def __init__(self, folder: str, digest: str) -> None:
        self.folder, self.digest = folder, digest
        self._done: dict[str, dict[int, tuple[int, Any]]] = {}
        with translated(folder):
            if digest_in(folder) == digest:
                length = self._load()
                os.truncate(self._log, length)
            else:
                remove_contents(folder)
                plan = os.path.join(folder, PLAN)
                write_whole(json.dumps({"digest": digest}), plan, f"{plan}.part")
                write_whole("", self._log, f"{self._log}.part")

    @property
    def _log(self) -> str:
        return os.path.join(self.folder, LOG)

    @property
    def has_begun(self) -> bool:
        """Whether there is anything that a later run would not have to do again."""
        return any(self._done.values())

    def part(self, name: str) -> str:
        """Return where an output is made.

        A run of another digest makes its own elsewhere, so that one that was thought dead can't
        write into it.
        """
        return os.path.join(self.folder, f"{self.digest[:12]}.{name}")

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
        with translated(self._log), open(self._log, "ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _load(self) -> int:
        """Take up what is on record, and return how many bytes of the log can be trusted."""
        length = 0
        with suppress(FileNotFoundError), open(self._log, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    break
                length += len(line)
        if not os.path.exists(self._log):
            write_whole("", self._log, f"{self._log}.part")
        return length

    def _take(self, entry: Any) -> None:
        for name in entry.get("forget", ()):
            self._done.pop(name, None)
        if "step" in entry:
            start, stop = entry["at"]
            self._done.setdefault(entry["step"], {})[int(start)] = int(stop), entry["gave"]


def remove_contents(folder: str) -> None:
    """Remove what a run left in its folder, but for the lease."""
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if entry.name == LEASE:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)


def digest_in(folder: str) -> str | None:
    """Return the digest of the run that has left its state in a folder."""
    try:
        with open(os.path.join(folder, PLAN), encoding="utf-8") as file:
            return str(json.load(file)["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_whole(text: str, path: str, temporary: str) -> None:
    """Write a small file, whole or not at all, by way of another one."""
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
