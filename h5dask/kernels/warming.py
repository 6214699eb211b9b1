"""Every kernel called once, so that no task waits for one to be compiled."""

from __future__ import annotations

import pkgutil
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

from numba.core import event

from h5dask import kernels
from h5dask.kernels.machinecode import folder_of, locked

OTHERS_SECONDS = 120.0
"""What another process may take to compile all kernels."""


def warm() -> None:
    """Make every kernel ready in this process; what is compiled is kept on disk for the next one.

    Each module beside this one that holds kernels has a function `call_each`, which calls all of
    them on next to nothing.

    Examples
    --------
    >>> warm()
    """
    with ExitStack() as stack:
        stack.enter_context(event.install_listener("numba:compile", _Turn(stack)))
        for found in pkgutil.iter_modules(kernels.__path__):
            module = import_module(f"{kernels.__name__}.{found.name}")
            if call_each := getattr(module, "call_each", None):
                call_each()


class _Turn(event.Listener):
    """Lets one process compile all kernels, for which others wait once they have to compile one."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._has_waited = False

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        """Wait for whoever compiles, the first time; nobody can where nothing can be kept."""
        if not self._has_waited and (folder := folder_of(__file__)):
            with suppress(OSError):
                self._stack.enter_context(locked(folder, OTHERS_SECONDS))
        self._has_waited = True

    def on_end(self, event: Any) -> None:
        """Take no notice."""
