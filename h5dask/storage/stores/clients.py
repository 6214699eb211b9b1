"""The clients of stores that this process holds: made once, used by all threads, in no pickle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

_HELD = 64
"""Clients that are kept at most, of those used last."""
_clients: dict[str, Any] = {}
_touching = threading.Lock()


def held(key: str, make: Callable[[], Any]) -> Any:
    """Return the client that is held under a key, made where there is none.

    Parameters
    ----------
    key : str
        A digest of all that makes one client another; it must not tell credentials.
    make : callable
        Makes it.
    """
    with _touching:
        client = _clients.pop(key, None)
        if client is not None:
            _clients[key] = client
            return client
    # Making one may take a connection; others needn't wait for it.
    made = make()
    with _touching:
        client = _clients.setdefault(key, made)
        while len(_clients) > _HELD:
            _clients.pop(next(iter(_clients)))
    return client


def forget(key: str) -> None:
    """Hold the client of a key no longer, because its connection is broken."""
    with _touching:
        _clients.pop(key, None)


def key_of(*told: Any) -> str:
    """Return a key for what tells clients apart."""
    from dask.base import tokenize  # a run that is current never needs dask

    return str(tokenize(*map(_brief, told)))


def _brief(told: Any) -> Any:
    """Return options with long bytes, such as certificates, as the number that tells them apart.

    Python remembers it: a key is asked for with each block that is read.
    """
    if isinstance(told, Mapping):
        return {name: _brief(value) for name, value in told.items()}
    return ("bytes", hash(told)) if isinstance(told, bytes) else told
