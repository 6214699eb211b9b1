"""How every verb ends: exit codes, errors and warnings as lines, signals. No verb lives here."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

import click

FINE, FOUND, FAILED = 0, 1, 2
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143
"""Exit codes; the last three are those that a shell reports for SIGINT, SIGPIPE and SIGTERM."""

TRACEBACK = "H5DASK_TRACEBACK"
"""Environment variable that, set to 1, adds Python's traceback to an error's line."""
_OF_DASK_CONFIG = "A dask config file at"
"""How dask, when it is imported, begins to tell of a file of its user's that is no YAML."""


class Verbs(click.Group):
    """Commands that return an exit code, and whose errors are told in a clear line on stderr."""

    def main(  # type: ignore[override] # it never returns, whatever the mode
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run one command and leave with its exit code."""
        extra["standalone_mode"] = False
        sys.exit(ended(partial(super().main, args, prog_name or "h5dask", **extra)))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; click itself would take a closed pipe for a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return PIPE_CLOSED


def ended(run: Callable[[], int | None]) -> int:
    """Run a command to its end and return its exit code; nothing is raised."""
    with _plain_warnings(), _ended_by_signals():
        code = _exit_code(run)
    _let_go(sys.stdout)
    return code


def _exit_code(run: Callable[[], int | None]) -> int:
    """Run and return the exit code; whatever goes wrong is told here, and nowhere else."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        code = run() or FINE
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except (KeyboardInterrupt, click.Abort):
        tell("Interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return FAILED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - a person at a terminal gets a line, not a traceback
        _tell_error(error)
        return FAILED
    return code


def tell(text: str) -> None:
    """Print a line on stderr; where that is closed there is nobody to tell."""
    with suppress(OSError):
        click.echo(text, err=True)


def _tell_error(error: Exception) -> None:
    """Tell an error raised on purpose by its own text, any other by its type and a way out."""
    from h5dask.errors import H5daskError

    wanted = os.environ.get(TRACEBACK, "") not in ("", "0")
    if wanted:
        tell("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, H5daskError):
        tell("\n".join(f"Error: {line}" for line in str(error).splitlines()))
        return
    if str(error).startswith(_OF_DASK_CONFIG):
        tell(f"Error: {' '.join(str(error).split())}")
        return
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    tell(f"Error: {text}" if wanted else f"Error: {text}; {TRACEBACK}=1 shows where")


def _let_go(stream: Any) -> None:
    """Flush a stream, or send nowhere what it can't take: Python's own flush at exit is loud."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Tell warnings as lines on stderr, without the place in the source."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        tell(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that temporary files and workers go; miss neither."""

    def leave(*_: Any) -> None:
        sys.exit(TERMINATED)

    def again(lost: Any) -> None:
        # Python drops what a signal's handler raises in the middle of a finalizer.
        number = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(lost.exc_type)
        if number is None:
            told(lost)
        else:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    if threading.current_thread() is not threading.main_thread():
        yield  # whoever runs us there ends us in their own way
        return
    before, told = signal.signal(signal.SIGTERM, leave), sys.unraisablehook
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = told
        signal.signal(signal.SIGTERM, before)
