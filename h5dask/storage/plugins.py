"""Filters that HDF5 doesn't bring itself: made known to it where a dataset asks for them."""

from __future__ import annotations

from collections.abc import Iterable

from h5py import h5z

from h5dask.chunkindex import Filter


def missing(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    """Return the filters that HDF5 can't apply here, after loading hdf5plugin where it is there.

    Examples
    --------
    >>> missing([Filter(1, 0, (4,), "deflate")])
    ()
    """
    absent = _absent(filters)
    if absent:
        try:
            import hdf5plugin  # noqa: F401
        except ImportError:
            return absent
    return _absent(absent)


def _absent(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    return tuple(f for f in filters if not h5z.filter_avail(f.id))
