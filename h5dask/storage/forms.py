"""How new datasets and attributes are stored: a form or an attribute from plain Python values.

What a file already has is described elsewhere; here nothing is read.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t

from h5dask.chunkindex import Filter
from h5dask.contents import UNLIMITED, ArrayForm, Attr
from h5dask.errors import LayoutError

_NAMED_TYPES = {
    "str": h5py.string_dtype(),
    "bytes": h5py.vlen_dtype(np.uint8),
}


def attr(name: str, value: Any, encoding: str = "utf8") -> Attr:
    """Return a new attribute, stored as h5py would store such a value.

    Parameters
    ----------
    name : str
        Its name.
    value : str, bytes, int, float, bool, None, numpy scalar or array, or list
        Text becomes text of variable length, int and float 64 bits wide, bool HDF5's enum; numpy
        values keep their dtype; None becomes an attribute without a value.
    encoding : {"utf8", "ascii"}
        Of text.

    Raises
    ------
    LayoutError
        Where HDF5 has no type for the value.

    Examples
    --------
    >>> attr("layers", [13, 14]).value
    array([13, 14])
    >>> attr("distance", "angular", "ascii").shape
    ()
    """
    if value is None:
        return Attr(name=name, value=None, type=_encoded_type("str", encoding), shape=None)
    if type(value) is int and -(2**63) <= value < 2**63:
        return Attr(name=name, value=value, type=_encoded_type(np.dtype(np.int64)))
    array = _as_array(value)
    if array.dtype.kind in "OUST":
        text = np.empty(array.shape, object)
        text.reshape(-1)[:] = [_decoded(item) for item in array.ravel().tolist()]
        kind = _encoded_type("str", encoding)
        return Attr(name=name, value=text[()], type=kind, shape=array.shape)
    try:
        kind = _encoded_type(array.dtype)
    except TypeError as error:
        raise LayoutError(
            f"attribute {name!r} is {value!r:.60}, for which HDF5 has no type ({error}); "
            "give it text, a number or an array of them"
        ) from None
    plain = array.item() if not array.shape and array.dtype.kind in "iub" else array[()]
    return Attr(name=name, value=plain, type=kind, shape=array.shape)


def _decoded(item: Any) -> Any:
    return item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item


def _as_array(value: Any) -> np.ndarray[Any, Any]:
    """Return the value as an array, text without a width."""
    if isinstance(value, (str, bytes)):
        out = np.empty((), object)
        out[()] = str(value) if isinstance(value, str) else bytes(value)
        return out
    return np.asarray(value)


def form_of(
    dtype: np.dtype[Any] | str,
    *,
    chunks: tuple[int, ...] | bool | None = None,
    maxshape: tuple[int, ...] = (),
    filters: tuple[Filter, ...] = (),
    fill: bytes | None = None,
    encoding: str = "utf8",
) -> ArrayForm:
    """Return the form of a new dataset, as h5py would make it.

    Parameters
    ----------
    dtype : dtype or str
        "str" for text and "bytes" for bytes of variable length, else a numpy dtype.
    chunks : tuple of int or bool, optional
        Shape of a chunk; True for h5py's own choice, which is also taken where the dataset may
        grow or has filters.
    maxshape : tuple of int
        `UNLIMITED`, `AS_SHAPE` or a number for each dim; none: the dataset may not grow.
    filters : tuple of Filter
        Filter pipeline, first step first.
    fill : bytes, optional
        The fill value's bytes in the stored type.
    encoding : {"utf8", "ascii"}
        Of text of variable length.

    Examples
    --------
    >>> form_of("f4").storage, form_of("f4", maxshape=(UNLIMITED, 0)).storage
    ('contiguous', 'chunked')
    """
    named = dtype if isinstance(dtype, str) and dtype in _NAMED_TYPES else None
    name = {"str": "str", "bytes": "vlen |u1"}.get(named or "") or np.dtype(dtype).str
    chunked = bool(chunks or filters or any(limit != 0 for limit in maxshape))
    return ArrayForm(
        dtype=name.replace("|S", "S"),
        type=_encoded_type(named or np.dtype(dtype), encoding),
        storage="chunked" if chunked else "contiguous",
        maxshape=maxshape,
        chunks=chunks if isinstance(chunks, tuple) else None,
        filters=filters,
        fill=fill,
        alloc_time=h5d.ALLOC_TIME_INCR if chunked else h5d.ALLOC_TIME_LATE,
        fill_time=h5d.FILL_TIME_IFSET,
    )


def gzip_filters(level: int, itemsize: int) -> tuple[Filter, Filter]:
    """Return the pipeline of shuffled, deflated values, as h5py's ``shuffle=True`` makes it.

    Examples
    --------
    >>> [f.name for f in gzip_filters(4, 2)]
    ['shuffle', 'deflate']
    """
    return Filter(2, 1, (itemsize,), "shuffle"), Filter(1, 1, (level,), "deflate")


def takes_bytes(form: ArrayForm) -> bool:
    """Return whether a dataset's values can be written as blocks of bytes or encoded chunks.

    That is so for numbers in contiguous or chunked storage whose stored type is numpy's.
    """
    if not form.is_numeric or form.null or form.storage not in ("contiguous", "chunked"):
        return False
    return _is_numpys(form.type, form.dtype)


@cache
def _is_numpys(kind: bytes, dtype: str) -> bool:
    # Sizes don't tell: 12 bits in 16 are as large as numpy's int16, and lie otherwise.
    return bool(h5t.decode(kind) == h5t.py_create(np.dtype(dtype)))


@cache
def stored_itemsize(kind: bytes) -> int:
    """Return the bytes of one element of a type, given by HDF5's own encoding."""
    return int(h5t.decode(kind).get_size())


@cache
def _encoded_type(dtype: np.dtype[Any] | str, encoding: str = "utf8") -> bytes:
    """Return HDF5's own encoding of the type that h5py stores a dtype in."""
    if dtype == "str":
        dtype = h5py.string_dtype("ascii" if encoding == "ascii" else "utf-8")
    elif isinstance(dtype, str):
        dtype = _NAMED_TYPES[dtype]
    return bytes(h5t.py_create(dtype, logical=True).encode())


@lru_cache(maxsize=4096)
def automatic_chunks(kind: bytes, shape: tuple[int, ...], maxshape: Any) -> tuple[int, ...]:
    """Return the chunk shape that h5py chooses for a dataset, by asking it.

    Parameters
    ----------
    kind : bytes
        HDF5's own encoding of the stored type.
    shape, maxshape : tuple of int
        As h5py takes them: None in `maxshape` for a dim without bound.

    Examples
    --------
    >>> automatic_chunks(h5t.IEEE_F32LE.encode(), (0, 4096), (None, 4096))
    (32, 256)
    """
    with h5py.File("chunks", "w", driver="core", backing_store=False) as memory:
        asked = memory.create_dataset(
            None, shape, dtype=h5t.decode(kind).dtype, maxshape=maxshape, chunks=True
        )
        return tuple(asked.chunks)


def limits(form: ArrayForm, shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """Return the maximal shape of a dataset of this form and shape, None where unbounded.

    A recorded bound below the shape gives way to the shape.

    Examples
    --------
    >>> limits(form_of("f4", maxshape=(UNLIMITED, 0)), (5, 128))
    (None, 128)
    """
    if form.storage != "chunked" or len(form.maxshape) != len(shape):
        return shape
    return tuple(
        None if limit == UNLIMITED else max(limit, n)
        for limit, n in zip(form.maxshape, shape, strict=True)
    )


def stored_chunks(form: ArrayForm, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the chunks that a dataset of this form and shape gets.

    HDF5 has no chunk longer than a dim that can't grow: such a chunk is cut to the dim.

    Examples
    --------
    >>> stored_chunks(form_of("f4", chunks=(64, 256)), (10, 4096))
    (10, 256)
    """
    most = limits(form, shape)
    if form.chunks is None or len(form.chunks) != len(shape):
        return automatic_chunks(form.type, shape, most)
    return tuple(
        min(chunk, bound) if bound is not None and size else chunk
        for chunk, bound, size in zip(form.chunks, most, shape, strict=True)
    )
