"""Functions run in child processes, where a crash, a hang or a greedy allocation is an outcome.

A server without threads forks a child for each call; it knows nothing of h5dask but its imports.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[1]
SECONDS = 10
"""What one call may take before it counts as a hang."""
AT_ONCE = 2
SHIM = Path(__file__).parent / "crash" / "shim.c"
CAN_KILL = sys.platform == "linux" and shutil.which("cc") is not None
"""Whether `SHIM`, by which a child is killed at a call of the system's, can be made here."""
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function of a module, its arguments, and what it may use."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    seconds: int = SECONDS
    memory: int | None = None
    """Bytes of address space that it may take beside what the server has."""
    file_nbytes: int | None = None
    """Largest file that it may write."""
    user: int | None = None
    """Number of the user that it runs as."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call ended."""

    value: Any = None
    """What it returned."""
    error: BaseException | None = None
    """What it raised."""
    signal: int = 0
    """What killed it: SIGALRM where it hung."""
    grown: int = 0
    """Bytes by which its peak of resident memory exceeds what it began with."""

    @property
    def said(self) -> str:
        """Type and text of the error, or how else it ended."""
        if self.signal:
            return f"killed by {signal.Signals(self.signal).name}"
        return f"{type(self.error).__name__}: {self.error}" if self.error else "returned"


class Server:
    """Forks a child for each call; started with modules imported, so that a call takes little.

    Parameters
    ----------
    preload : str
        A shared library that stands before the system's own in it and its children.
    """

    def __init__(self, preload: str = "") -> None:
        # One thread: a fork of several may find a lock held for ever.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        if preload:
            environment["LD_PRELOAD"] = preload
        self._lock = threading.Lock()
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.isolated"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(self, function: Callable[..., Any], *args: Any, **limits: Any) -> Outcome:
        """Run one call."""
        [outcome] = self.run([Call(function=function, args=args, **limits)])
        return outcome

    def run(self, calls: Iterable[Call]) -> list[Outcome]:
        """Run calls, two at a time, and return their outcomes in order."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        with self._lock:
            _send(self._program.stdin, list(calls))
            found: list[Outcome] = _receive(self._program.stdout)
        return found

    def close(self) -> None:
        """End the server."""
        self._program.communicate()


@cache
def server() -> Server:
    """Return the one server that all tests of a session share."""
    folder = tempfile.mkdtemp(prefix="h5dask-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = f"{folder}/shim.so" if CAN_KILL else ""
    if library:
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", library, str(SHIM), "-ldl"]
        subprocess.run(command, check=True)
    started = Server(preload=library)
    atexit.register(started.close)
    return started


def _send(stream: Any, message: Any) -> None:
    raw = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(raw)) + raw)
    stream.flush()


def _receive(stream: Any) -> Any:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("the server of child processes ended")
    return pickle.loads(stream.read(_LENGTH.unpack(head)[0]))


@dataclass(slots=True)
class _Children:
    """The children of one request, at most `AT_ONCE` at a time."""

    folder: Path
    running: dict[int, int] = field(default_factory=dict)
    signals: dict[int, int] = field(default_factory=dict)

    def start(self, number: int, call: Call) -> None:
        if len(self.running) >= AT_ONCE:
            self.wait()
        pid = os.fork()
        if not pid:
            _in_child(call, self.folder / str(number))
        self.running[pid] = number

    def wait(self) -> None:
        pid, status = os.wait()
        self.signals[self.running.pop(pid)] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def outcome(self, number: int) -> Outcome:
        path = self.folder / str(number)
        if self.signals[number] or not path.exists():
            return Outcome(signal=self.signals[number] or signal.SIGKILL)
        found: Outcome = pickle.loads(path.read_bytes())
        return found


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until their stream ends."""
    while True:
        try:
            calls = _receive(requests)
        except EOFError:
            return
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            children = _Children(Path(folder))
            for number, call in enumerate(calls):
                children.start(number, call)
            while children.running:
                children.wait()
            _send(answers, [children.outcome(number) for number in range(len(calls))])


def _in_child(call: Call, answer: Path) -> None:
    """Run one call and leave its outcome in a file; never return."""
    signal.alarm(call.seconds)  # without a handler of Python's it ends a loop in C as well
    before = _peak()
    output = answer.open("wb")
    try:
        with _limited(call):
            outcome = Outcome(value=call.function(*call.args), grown=_peak() - before)
    except BaseException as error:  # noqa: BLE001 - whatever was raised is the outcome
        outcome = Outcome(error=_portable(error), grown=_peak() - before)
    with contextlib.suppress(OSError), output:
        output.write(pickle.dumps(outcome))
    os._exit(0)


def _portable(error: BaseException) -> BaseException:
    """Return the error with its traceback as a note, or its text where it can't be pickled."""
    lines = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - any object may be part of an error
        copy = RuntimeError(lines)
    assert isinstance(copy, BaseException)
    copy.add_note(lines)
    return copy


@contextlib.contextmanager
def _limited(call: Call) -> Any:
    """Apply the limits of a call; those that would keep its outcome from being told, only here."""
    limits: Mapping[int, int | None] = {
        resource.RLIMIT_AS: None if call.memory is None else _address_space() + call.memory,
        resource.RLIMIT_FSIZE: call.file_nbytes,
    }
    kept = {which: resource.getrlimit(which) for which in limits}
    for which, limit in limits.items():
        if limit is not None:
            resource.setrlimit(which, (limit, kept[which][1]))
    if call.user is not None and os.getuid() == 0:
        os.setgid(call.user)
        os.setuid(call.user)
    try:
        yield
    finally:
        for which, limit in kept.items():
            resource.setrlimit(which, limit)


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _address_space() -> int:
    """Return the bytes of address space in use, where the system tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except FileNotFoundError:
        return 8 << 30


def main() -> None:
    """Import what children need, then serve on the standard streams."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from tests import attempts  # the functions, with all of h5dask that they use

    attempts.warm_up()
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    # A pickle names classes by their module, which must not be called __main__.
    from tests import isolated

    isolated.main()
