"""Every error raised on purpose. Each carries one finished sentence and survives pickling."""

from __future__ import annotations


class H5daskError(Exception):
    """Base of all errors raised on purpose; its text is fit to print without a traceback."""


class NotFound(H5daskError, FileNotFoundError):
    """A file, folder, object or variable that was named isn't there."""


class AccessDenied(H5daskError, PermissionError):
    """The file or store exists and refuses us."""


class StoreUnavailable(H5daskError, OSError):
    """A store or network did not answer in time, or answered with a fault of its own."""


class Unreachable(H5daskError, OSError):
    """No scheduler, or too few workers, answered in time."""


class WorkersLost(H5daskError, RuntimeError):
    """One task ended every worker that it was given to."""


class InputChanged(H5daskError, OSError):
    """An input is no longer the file that was opened."""


class CorruptInput(H5daskError, OSError):
    """Bytes that cannot be what the file says they are: truncated, damaged, not HDF5."""


class LayoutError(H5daskError, ValueError):
    """A file or Dataset does not have the layout that was asked for."""


class Conflict(H5daskError, FileExistsError):
    """The target exists already, or somebody else is writing it."""


class OutOfSpace(H5daskError, OSError):
    """The target's disk or quota is full."""


class Refused(H5daskError, ValueError):
    """Possible, but unsafe or beyond a stated limit; the text names the way out."""


def exists_already(url: str) -> Conflict:
    """Return the error of a target that is there and must not be replaced."""
    return Conflict(
        f"{url}: exists already; choose another name, or allow it to be overwritten "
        "(overwrite=True, --overwrite)"
    )
