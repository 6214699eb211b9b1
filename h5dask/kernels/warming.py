"""Every kernel called once, so that no task waits for one to be compiled."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from h5dask import kernels


def warm() -> None:
    """Make every kernel ready in this process; what is compiled is kept on disk for the next one.

    Each module beside this one that holds kernels has a function `call_each`, which calls all of
    them on next to nothing.

    Examples
    --------
    >>> warm()
    """
    for found in pkgutil.iter_modules(kernels.__path__):
        module = import_module(f"{kernels.__name__}.{found.name}")
        if call_each := getattr(module, "call_each", None):
            call_each()
