"""What the user has set for us, in dask's configuration and the environment, before a verb begins.

It is judged here; those who use it read it themselves.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from h5dask.cli.verbs import tell
from h5dask.errors import Refused

_SIZE, _TIME, _NUMBER = "a size such as '16 MiB'", "a time such as '60 s'", "a whole number"
KNOWN = {
    "block-size": _SIZE,
    "store-deadline": _TIME,
    "store-timeout": _TIME,
    "store-request": _SIZE,
    "store-gap": _SIZE,
    "store-in-flight": _SIZE,
    "store-connections": _NUMBER,
    "store-ahead": _SIZE,
    "store-whole": _SIZE,
}
"""What there is, and what it is said as."""
CACHES = ("H5DASK_CACHE", "NUMBA_CACHE_DIR")
"""Environment variables that name folders for what is kept between runs."""


def refuse_wrong() -> None:
    """Raise Refused where a setting can't be what it says, and name all such."""
    from dask.utils import parse_bytes, parse_timedelta

    kinds: Mapping[str, Callable[[Any], Any]] = {
        _SIZE: parse_bytes, _TIME: parse_timedelta, _NUMBER: int
    }  # fmt: skip
    wrong = []
    for name, value in _given().items():
        kind = KNOWN.get(name)
        try:
            if kind is not None and value is not None:
                kinds[kind](value)
        except (ValueError, TypeError, KeyError, AttributeError):  # dask looks units up
            wrong.append(f"h5dask.{name}: found {value!r}, expected {kind}")
    if wrong:
        raise Refused(f"dask's configuration: {'; '.join(wrong)}; mend its file or environment")


def warn_of_unknown() -> None:
    """Tell settings of ours that there aren't, a line each."""
    for name in _given():
        if name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, 1)
            said = f"did you mean {near[0]}?" if near else f"those are {', '.join(KNOWN)}"
            tell(f"Warning: dask's configuration: h5dask.{name}: unknown; {said}")


def warn_of_caches() -> None:
    """Tell folders for what is kept between runs that were named and are of no use."""
    for name in CACHES:
        path = os.path.expanduser(os.environ.get(name, ""))
        if path and not _is_of_use(path):
            tell(
                f"Warning: {name}: {path!r} can't be written to, and another folder is taken, if "
                "any; name one of your own"
            )


def _is_of_use(path: str) -> bool:
    """Return whether a folder can be written to, or holds something already, as in an image."""
    with suppress(OSError):
        os.makedirs(path, 0o700, exist_ok=True)
        return os.access(path, os.W_OK | os.X_OK) or bool(os.listdir(path))
    return False


def _given() -> dict[str, Any]:
    """Return what the user has set, with hyphens in its names, as dask reads both."""
    import dask

    found = dask.config.get("h5dask", None)
    given = found if isinstance(found, Mapping) else {}
    return {str(name).replace("_", "-"): value for name, value in given.items()}
