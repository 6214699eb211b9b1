"""Stores that a library reaches by itself: what it raises, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from h5dask.errors import H5daskError, StoreUnavailable
from h5dask.storage.stores.told import by_error, plain
from h5dask.storage.stores.trying import Again


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn the errors of a store, and of what reaches it, into ours; others pass as they are."""
    try:
        yield
    except H5daskError:
        raise
    except Exception as error:
        told = by_error(plain(url), error, writing=True)
        if told is error:
            raise
        if isinstance(told, Again):
            told = StoreUnavailable(f"{plain(url)}: {told.why}; try again later")
        raise told from None
