"""One attribute -> an open HDF5 object, with exactly the on-disk type that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from h5py import h5a, h5s, h5t
from numpy.typing import NDArray

from h5dask.contents import Attr
from h5dask.errors import LayoutError, Refused
from h5dask.storage.values import TEXT_IN_MEMORY, encoded_text, fixed_text

Array = NDArray[Any]


class _Type(NamedTuple):
    """An on-disk type, and how a value becomes what h5py takes."""

    stored: Any
    in_memory: Any
    inner: tuple[int, ...]
    encode: Callable[[Any, str], Array]


class AttributeWriter:
    """Writes attributes of one file; types and spaces are made once and used again.

    Parameters
    ----------
    file : str
        The file's name, for messages.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._types: dict[bytes, _Type] = {}
        self._spaces: dict[tuple[int, ...] | None, Any] = {}

    def write(self, target: Any, path: str, attrs: Iterable[Attr]) -> None:
        """Create the attributes of one object, in the order given.

        Parameters
        ----------
        target : h5py.h5d.DatasetID or h5py.h5g.GroupID
            The object, open.
        path : str
            Its path, for messages.
        attrs : iterable of Attr
            What to write. A value of text may be str, bytes or numpy strings of any kind.

        Raises
        ------
        LayoutError
            Where a value doesn't fit its type or shape, or text holds a NUL character.
        Refused
            Where the type holds references, which mean places in another file.
        """
        for attr in attrs:
            subject = f"{self._file}: attribute {attr.name!r} of '/{path}'"
            kind = self._types.get(attr.type)
            if kind is None:
                kind = self._types[attr.type] = _type(h5t.decode(attr.type), subject)
            values = _values(attr, kind, subject)
            created = h5a.create(target, attr.name.encode(), kind.stored, self._space(attr.shape))
            if values.size:
                created.write(values, kind.in_memory)

    def _space(self, shape: tuple[int, ...] | None) -> Any:
        space = self._spaces.get(shape)
        if space is None:
            space = self._spaces[shape] = _new_space(shape)
        return space


def _new_space(shape: tuple[int, ...] | None) -> Any:
    if shape is None:
        return h5s.create(h5s.NULL)
    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)


def _type(stored: Any, subject: str) -> _Type:
    if stored.detect_class(h5t.REFERENCE):
        raise Refused(
            f"{subject} holds HDF5 references, which mean places in the file they came from; "
            "drop it before writing"
        )
    number = stored.get_class()
    if number == h5t.STRING and stored.is_variable_str():
        return _Type(stored, TEXT_IN_MEMORY, (), lambda v, s: encoded_text(_text(v), s))
    if number == h5t.STRING:
        return _Type(stored, stored, (), lambda v, s: fixed_text(_text(v), stored, s))
    if number == h5t.ENUM:
        # A bool's enum may lie on any integer type; as integers its values are taken as they are.
        integers = stored.get_super().dtype
        return _Type(stored, stored, (), lambda v, _: _number(v, integers))
    dtype = stored.dtype
    # HDF5 converts opaque values between equal tags only, and numpy has none.
    in_memory = stored if number == h5t.OPAQUE else h5t.py_create(dtype)
    if number == h5t.VLEN:
        base = stored.get_super().dtype
        return _Type(stored, in_memory, (), lambda v, _: _ragged(v, base))
    return _Type(stored, in_memory, dtype.shape, lambda v, _: _number(v, dtype.base))


def _values(attr: Attr, kind: _Type, subject: str) -> Array:
    """Return the attribute's value as an array that h5py takes, empty where it has none."""
    if attr.shape is None or 0 in attr.shape:
        return np.empty(0)
    try:
        values = kind.encode(attr.value, subject)
        return np.ascontiguousarray(values).reshape(attr.shape + kind.inner)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, LayoutError):
            raise
        raise LayoutError(
            f"{subject} is {attr.value!r:.80}, which its stored type of shape {attr.shape!r} "
            f"can't hold ({error}); give it a value of that type"
        ) from None


def _text(value: Any) -> Array:
    """Return text as an array; numpy must not guess a width, which would cut trailing NULs."""
    if isinstance(value, (str, bytes)) and not isinstance(value, np.bytes_):
        out = np.empty((), object)
        out[()] = value
        return out
    return np.asarray(value)


def _number(value: Any, dtype: np.dtype[Any]) -> Array:
    if isinstance(value, bytes) and dtype.kind == "V":
        return np.frombuffer(value, dtype)
    values = np.asarray(value, dtype)
    # numpy itself refuses an int that is too large, but cuts floats and wraps arrays.
    if dtype.kind in "iu" and type(value) is not int and not np.array_equal(value, values):
        raise ValueError(f"as {dtype.str!r} it would be {values.tolist()!r}")
    return values


def _ragged(value: Any, base: np.dtype[Any]) -> Array:
    rows = value if isinstance(value, np.ndarray) and value.dtype == object else None
    out = np.empty(() if rows is None else rows.shape, object)
    if rows is None:
        out[()] = np.ascontiguousarray(value, base)
        return out
    for i in np.ndindex(rows.shape):
        out[i] = np.ascontiguousarray(rows[i], base)
    return out
