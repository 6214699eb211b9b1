"""Values written by HDF5's library while a file is made: text, pictures, small arrays.

Large numeric arrays don't come this way: their blocks are written as bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import h5py
import numpy as np
from h5py import h5s, h5t
from numpy.typing import NDArray

from h5dask.contents import ArrayForm
from h5dask.errors import LayoutError, Refused
from h5dask.storage.space import Reservation

Array = NDArray[Any]

TEXT_IN_MEMORY = h5t.py_create(h5py.string_dtype())
"""The type of an object array of encoded text, as h5py takes it."""

_HEAP_NBYTES = 64
"""At most what HDF5 stores beside a value of variable length: descriptor, head, padding."""
_COLLECTION_NBYTES = 4096
"""The least that HDF5 takes for values of variable length."""


def write_values(
    dataset: Any, form: ArrayForm, blocks: Iterable[Array], subject: str, space: Reservation
) -> None:
    """Write all values of a new dataset, block by block along its first axis.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID
        The dataset, open.
    form : ArrayForm
        Its form; decides how values are encoded.
    blocks : iterable of array
        Blocks that lie end to end along the first axis and cover it. Text may be str, bytes or
        numpy strings of any kind, pictures uint8 arrays or bytes. Memory: one block, encoded.
    subject : str
        File and path, for messages.
    space : Reservation
        Where room for each block is taken before HDF5 writes it.

    Raises
    ------
    LayoutError
        Where the blocks don't have the dataset's shape, or a value doesn't fit its type.
    OutOfSpace
        Where the disk is full.
    """
    shape = dataset.shape
    kind = dataset.get_type()
    encode = _encoder(form)
    row = 0
    for block in blocks:
        values = np.asarray(block)
        if values.shape[1 : len(shape)] != shape[1:] or values.ndim < len(shape):
            raise _wrong_shape(subject, values.shape, shape)
        n_rows = values.shape[0] if shape else 1
        if shape and row + n_rows > shape[0]:
            raise _wrong_shape(subject, (row + n_rows, *shape[1:]), shape)
        if values.size:
            encoded, in_memory, nbytes = encode(values, kind, subject, row)
            space.need(nbytes)
            _write_rows(dataset, row, shape, np.ascontiguousarray(encoded), in_memory)
        row += n_rows
    if row != (shape[0] if shape else 1):
        raise _wrong_shape(subject, (row, *shape[1:]), shape)


def _write_rows(
    dataset: Any, row: int, shape: tuple[int, ...], values: Array, in_memory: Any
) -> None:
    if not shape:
        dataset.write(h5s.ALL, h5s.ALL, values.reshape(()), in_memory)
        return
    box = (len(values), *shape[1:])
    target = dataset.get_space()
    target.select_hyperslab((row, *(0 for _ in shape[1:])), box)
    dataset.write(h5s.create_simple(box), target, values, in_memory)


def _wrong_shape(subject: str, found: tuple[int, ...], expected: tuple[int, ...]) -> LayoutError:
    return LayoutError(
        f"{subject} was given values of shape {found!r}, expected {expected!r}; "
        "blocks must cover its first axis once, end to end"
    )


_Encode = Callable[[Array, Any, str, int], tuple[Array, Any, int]]
"""Values, stored type, subject, first row -> what h5py takes, its type in memory, bytes stored."""


def _encoder(form: ArrayForm) -> _Encode:
    if form.dtype == "str":
        return _variable_text
    if form.is_text:
        return _fixed_text
    if form.is_ragged_bytes:
        return _ragged
    return _refuse_references if form.dtype == "reference" else _plain


def _variable_text(values: Array, kind: Any, subject: str, row: int) -> tuple[Array, Any, int]:
    text = encoded_text(values, subject, row)
    return text, TEXT_IN_MEMORY, _heap_nbytes(sum(map(len, text.ravel().tolist())), text.size)


def _fixed_text(values: Array, kind: Any, subject: str, row: int) -> tuple[Array, Any, int]:
    text = fixed_text(values, kind, subject, row)
    return text, kind, text.nbytes


def _ragged(values: Array, kind: Any, subject: str, row: int) -> tuple[Array, Any, int]:
    base = kind.get_super().dtype
    out = np.empty(values.shape, object)
    flat = out.reshape(-1)
    nbytes = 0
    for i, value in enumerate(values.ravel()):
        raw = np.frombuffer(value, base) if isinstance(value, bytes) else np.asarray(value)
        flat[i] = np.ascontiguousarray(raw, base)
        nbytes += flat[i].nbytes
    return out, h5t.py_create(h5py.vlen_dtype(base)), _heap_nbytes(nbytes, values.size)


def _heap_nbytes(nbytes: int, n_values: int) -> int:
    """Return at most what HDF5's heap takes, whose collections are not filled to the end."""
    return nbytes + nbytes // 8 + _HEAP_NBYTES * n_values + _COLLECTION_NBYTES


def _plain(values: Array, kind: Any, subject: str, row: int) -> tuple[Array, Any, int]:
    dtype = kind.dtype.base
    if values.dtype.newbyteorder("=") != dtype.newbyteorder("="):
        raise LayoutError(
            f"{subject} was given {values.dtype.str!r} values, its type is {dtype.str!r}; "
            f"convert them with astype({dtype.str!r})"
        )
    encoded = np.ascontiguousarray(values, dtype)
    # HDF5 converts opaque values between equal tags only, and numpy has none.
    opaque = kind.get_class() == h5t.OPAQUE
    return encoded, kind if opaque else h5t.py_create(kind.dtype), encoded.nbytes


def _refuse_references(values: Array, kind: Any, subject: str, row: int) -> tuple[Array, Any, int]:
    raise Refused(
        f"{subject} holds HDF5 references, which mean places in the file they came from; "
        "drop it before writing"
    )


def encoded_text(values: Array, subject: str, row: int = 0) -> Array:
    r"""Return text of any kind as an object array of UTF-8 bytes, as HDF5 can hold it.

    Parameters
    ----------
    values : array
        Of str, bytes or numpy strings of any kind. Bytes that h5py couldn't decode come back as
        they were (they stand in a str as lone surrogates).
    subject : str
        File and path, for messages.
    row : int
        Number of the first row, for messages.

    Returns
    -------
    array of object
        Of the shape of `values`.

    Raises
    ------
    LayoutError
        Names the first row that holds a NUL character or isn't text.

    Examples
    --------
    >>> encoded_text(np.array(["a", "ü"]), "x.h5: 'text'")
    array([b'a', b'\xc3\xbc'], dtype=object)
    """
    flat = values.ravel().tolist()
    out = np.empty(values.shape, object)
    encoded: list[bytes] = []
    for i, value in enumerate(flat):
        try:
            raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        except (AttributeError, UnicodeEncodeError):
            raise LayoutError(
                f"{subject}{_at(values, i, row)} is {value!r:.60}, expected text; "
                "give every row a string, an empty one where there is none"
            ) from None
        if b"\0" in raw:
            raise LayoutError(
                f"{subject}{_at(values, i, row)} holds a NUL character at byte "
                f"{raw.index(0)}, which HDF5 text can't; remove it, as with s.replace('\\0', '')"
            )
        encoded.append(raw)
    out.reshape(-1)[:] = encoded
    return out


def fixed_text(values: Array, kind: Any, subject: str, row: int = 0) -> Array:
    """Return text as the bytes of a fixed-length type, padded as that type asks.

    Parameters
    ----------
    values : array
        As in `encoded_text`; numpy bytes of the type's own length are taken as they are.
    kind : h5py.h5t.TypeStringID
        The stored type.
    subject, row : str, int
        For messages.

    Raises
    ------
    LayoutError
        Names the first row whose text is longer than the type.
    """
    nbytes = kind.get_size()
    padded = kind.get_strpad() == h5t.STR_SPACEPAD
    if values.dtype == np.dtype(f"S{nbytes}") and not padded:
        return np.ascontiguousarray(values)
    text = encoded_text(values, subject, row)
    flat = text.ravel().tolist()
    for i, raw in enumerate(flat):
        if len(raw) > nbytes:
            raise LayoutError(
                f"{subject}{_at(values, i, row)} holds {len(raw)} bytes of text, its type "
                f"holds {nbytes}; shorten it, or write text of variable length"
            )
    blank = b" " if padded else b"\0"
    joined = b"".join(raw.ljust(nbytes, blank) for raw in flat)
    return np.frombuffer(joined, f"S{nbytes}").reshape(text.shape)


def _at(values: Array, i: int, first: int) -> str:
    """Return which row the value at a flat position belongs to, nothing where there are none."""
    return f" row {first + i // math.prod(values.shape[1:])}" if values.shape else ""
