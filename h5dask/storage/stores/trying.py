"""Trying again: what may pass is asked for once more, after a pause, until one deadline."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from h5dask.errors import StoreUnavailable
from h5dask.storage.stores import settings
from h5dask.words import seconds_in_words

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
DEADLINE = "60 s"
"""From the first attempt at a request, where `h5dask.store-deadline` says nothing else."""
TIMEOUT = "15 s"
"""Without a byte from the store, where `h5dask.store-timeout` says nothing else."""
AT_LENGTH = 3600.0
"""Seconds that a request for a whole object may take as long as its bytes keep coming."""
_SILENCE = 5.0
"""Seconds after which whoever waits is told why, and how often at most."""
_FIRST, _LONGEST = 0.05, 5.0
"""Seconds of the first pause at most, and of any; each is drawn anew below its bound."""


class Again(Exception):
    """A store failed in a way that may pass.

    Parameters
    ----------
    why : str
        What it said, without the URL.
    after : float, optional
        Seconds that it asks to be left alone.
    """

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why, after)
        self.why, self.after = why, after


class Whole(Exception):
    """A server gives an object as a whole only."""


def deadline() -> float:
    """Return the seconds in which a request must have succeeded."""
    return settings.seconds("deadline", DEADLINE)


def timeout() -> float:
    """Return the seconds after which a silent store is given up, for this attempt."""
    return min(settings.seconds("timeout", TIMEOUT), deadline())


def persistently(url: str, attempt: Callable[[], Result]) -> Result:
    """Return what an attempt gives; one that raises `Again` is repeated until the deadline.

    Parameters
    ----------
    url : str
        What the error calls it.
    attempt : callable
        One request; it ends by itself within `timeout()` of silence.

    Raises
    ------
    StoreUnavailable
        The deadline has passed; the text tells what the store said last.

    Notes
    -----
    Pauses are drawn between zero and a bound that doubles each time (full jitter), so that many
    workers that failed together don't come back together.

    Examples
    --------
    >>> answers = iter([Again("503 Slow Down"), b"bytes"])
    >>> def attempt():
    ...     found = next(answers)
    ...     if isinstance(found, Again):
    ...         raise found
    ...     return found
    >>> persistently("s3://bucket/a.h5", attempt)
    b'bytes'
    """
    began, bound, n = time.monotonic(), _FIRST, 0
    allowed = deadline()
    while True:
        n += 1
        try:
            return attempt()
        except Again as again:
            pause = max(again.after, random.uniform(0, bound))
            spent = time.monotonic() - began
            if spent + pause >= allowed:
                tries = "1 attempt" if n == 1 else f"{n} attempts"
                raise StoreUnavailable(
                    f"{url}: the store gave no answer to use in {seconds_in_words(spent)} and "
                    f"{tries}; the last one: {again.why}; try again later, or give it more time "
                    "with h5dask.store-deadline"
                ) from None
            if spent > _SILENCE:
                _tell(url, again.why, allowed)
        time.sleep(pause)
        bound = min(_LONGEST, 2 * bound)


_told: dict[str, float] = {}


def _tell(url: str, why: str, allowed: float) -> None:
    """Say what is waited for: many requests fail at once, and one line does for all."""
    place, now = "/".join(url.split("/")[:3]), time.monotonic()
    if now - _told.get(place, -_SILENCE) >= _SILENCE:
        _told[place] = now
        _log.warning("%s: %s; tried again for %s", url, why, seconds_in_words(allowed))
