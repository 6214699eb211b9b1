"""When Python looks for cycles of objects: not while many records without any are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from h5dask.overlapping import Overlapping


def _stop() -> bool:
    """Stop searching; return whether Python did."""
    was_on = gc.isenabled()
    gc.disable()
    return was_on


def _go_on(was_on: bool) -> None:
    if was_on:
        gc.enable()


_without_search = Overlapping(start=_stop, end=_go_on)


@contextmanager
def unsearched() -> Iterator[None]:
    """Make many records without having them searched for cycles again and again.

    Python looks through all objects each time they have become a quarter more: of a plan of 40,000
    datasets that is a third of the time, and nothing is ever found. What is freed by counting
    references is freed as ever. Meant for a second or two of bookkeeping, never for a computation.

    Examples
    --------
    >>> import gc
    >>> with unsearched():
    ...     gc.isenabled()
    False
    """
    with _without_search.inside():
        yield
