"""Programs run for a while: found, started, waited for until they answer, and ended with all
that they started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 60
"""What starting may take, and what ending by a signal that can be heard may take."""
_PAUSE = 0.02
_WATCH = 'read -r _; kill -s KILL -- "-$1"'
"""Waits for the end of a pipe, which comes when the process that holds it ends."""
PLACES = (
    Path(sys.executable).parent,
    Path(sys.prefix) / "node_modules" / ".bin",
    *map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep)),
    Path("/usr/sbin"),
    Path("/usr/local/sbin"),
)
"""Where programs are looked for: beside Python, those of npm in its environment, on PATH."""


def found(name: str) -> str | None:
    """Return the path of a program, or None where there is none."""
    return shutil.which(name, path=os.pathsep.join(map(str, PLACES)))


def program(name: str) -> str:
    """Return the path of a program that must be there."""
    path = found(name)
    assert path is not None, f"{name}: no such program; `make test-servers` installs it"
    return path


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Say whether somebody listens on a port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a program that stays in the foreground, from when it is ready until the block ends.

    It leads a process group of its own, which ends whole: asked first, then killed. Where this
    process ends without a word, it is killed as well.
    """
    with log.open("ab") as out:
        started = subprocess.Popen(
            [program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    watch = subprocess.Popen(["sh", "-c", _WATCH, "sh", str(started.pid)], stdin=subprocess.PIPE)
    try:
        _wait(started, log, ready)
        yield
    finally:
        watch.kill()
        watch.communicate()
        _end(started)


def _wait(started: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not ready():
        told = f"{started.args!r} {{}}; it said:\n{{}}"
        if started.poll() is not None:
            raise AssertionError(told.format("ended at once", log.read_text(errors="replace")))
        if time.monotonic() > until:
            raise AssertionError(told.format("isn't ready", log.read_text(errors="replace")))
        time.sleep(_PAUSE)


def _end(started: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        started.wait(SECONDS / 6)
    with suppress(ProcessLookupError):  # children that outlived their parent, or all of them
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()
