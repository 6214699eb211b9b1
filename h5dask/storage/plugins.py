"""Filters that HDF5 doesn't bring itself: made known to it where a dataset asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import lru_cache

from h5py import h5d, h5f, h5p, h5s, h5t, h5z

from h5dask.chunkindex import Filter

_FIRST_PLUGIN = 256
_LZF = 32000


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


@lru_cache(maxsize=1024)
def requests(
    filters: tuple[Filter, ...], kind: bytes, chunks: tuple[int, ...]
) -> tuple[Filter, ...] | None:
    """Return the filters as HDF5 has to be asked for them, so that a file says what these say.

    A filter may complete its client values when a dataset is created: with the size of an
    element, or with values of its own before those it was given.

    Parameters
    ----------
    filters : tuple of Filter
        What a file says; none of them `missing`.
    kind : bytes
        HDF5's own encoding of the dataset's type.
    chunks : tuple of int
        Shape of its chunks.

    Returns
    -------
    tuple of Filter or None
        None where no tail of the client values leads there.

    Examples
    --------
    >>> requests((Filter(2, 1, (4,), "shuffle"),), h5t.IEEE_F32LE.encode(), (10,))
    (Filter(id=2, flags=1, values=(4,), name='shuffle'),)
    """
    asked = []
    for wanted in filters:
        # HDF5's own and h5py's lzf replace the values they complete, whatever was given.
        if wanted.id < _FIRST_PLUGIN or wanted.id == _LZF:
            asked.append(wanted)
            continue
        found = next(_leading_to(wanted, kind, chunks), None)
        if found is None:
            return None
        asked.append(found)
    return tuple(asked)


def _leading_to(wanted: Filter, kind: bytes, chunks: tuple[int, ...]) -> Iterator[Filter]:
    for first in range(len(wanted.values) + 1):
        asked = Filter(wanted.id, wanted.flags, wanted.values[first:], wanted.name)
        if _stored_values(asked, kind, chunks) == wanted.values:
            yield asked


def _stored_values(asked: Filter, kind: bytes, chunks: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the client values that a file says of a filter, None where HDF5 refuses it."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk(chunks)
    properties.set_filter(asked.id, asked.flags, asked.values)
    with closing(h5f.create(b"filters", h5f.ACC_TRUNC, fapl=access)) as file:
        try:
            space = h5s.create_simple(chunks)
            dataset = h5d.create(file, None, h5t.decode(kind), space, dcpl=properties)
        except (ValueError, RuntimeError, OSError):
            return None
        return tuple(dataset.get_create_plist().get_filter(0)[2])
