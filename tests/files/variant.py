"""The record of one form of a file, and what its writers share: drawing, storing, reading."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Fill = Callable[[h5py.File], None]
Put = Callable[[h5py.Group, str, Array], None]

TEXT = h5py.string_dtype()
DEFAULT: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of a file, and what a validator has to say about it.

    Each finding is given as a word that its text or place must hold (a path's end, an attribute,
    a dataset). Where ``problems`` is empty there must be none; notes beyond those named may occur.
    """

    write: Callable[[Path], Arrays]
    """Writes the file (the same one at every call); returns the values of its datasets by path."""
    doc: str
    """What is special about the file."""
    problems: tuple[str, ...] = ()
    """Problems seen without reading values."""
    value_problems: tuple[str, ...] = ()
    """Problems seen only by reading values."""
    notes: tuple[str, ...] = ()
    """Notes that must be there without reading values."""
    value_notes: tuple[str, ...] = ()
    """Notes that only reading values can bring."""


def register(
    registry: dict[str, Variant], *, options: Mapping[str, Any] = DEFAULT, **findings: Any
) -> Callable[[Fill], Fill]:
    """Put a function that fills an open file into `registry`, under its own name and docstring."""

    def add(fill: Fill) -> Fill:
        def write(path: Path) -> Arrays:
            with h5py.File(path, "w", **options) as f:
                fill(f)
            return read(path)

        registry[fill.__name__] = Variant(write=write, doc=fill.__doc__ or "", **findings)
        return fill

    return add


def rng(f: h5py.Group, name: str) -> np.random.Generator:
    """Give a generator of its own to each path, so that no two datasets hold the same values."""
    return np.random.default_rng(zlib.crc32(f"{f.name}/{name}".encode()))


def contiguous(group: h5py.Group, name: str, values: Array) -> None:
    """Store in one piece, not resizable; objects as variable-length UTF-8."""
    group.create_dataset(name, data=values, dtype=TEXT if values.dtype == object else None)


def resizable(group: h5py.Group, name: str, values: Array) -> None:
    """Store with the final shape, h5py's automatic chunks and a first axis that can grow."""
    chunked(group, name, values)


def appended(group: h5py.Group, name: str, values: Array) -> None:
    """Store row by row into a dataset that began with none, so the chunks are those of no rows."""
    chunked(group, name, values[:0])
    for row in values:
        group[name].resize(len(group[name]) + 1, axis=0)
        group[name][-1] = row


def chunked(
    group: h5py.Group, name: str, values: Array, *, chunks: Any = True, **filters: Any
) -> None:
    """Store in chunks, with a first axis that can grow and filters as h5py's keywords name them."""
    group.create_dataset(
        name,
        data=values,
        dtype=TEXT if values.dtype == object else None,
        maxshape=(None, *values.shape[1:]),
        chunks=chunks,
        **filters,
    )


def renew(group: h5py.Group, name: str, values: Array) -> None:
    """Put a contiguous dataset of other values in the place of one."""
    del group[name]
    contiguous(group, name, values)


def text(values: list[str]) -> Array:
    """Turn a list of text into an array of objects, never of numpy's fixed-width strings."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def read(path: Path) -> Arrays:
    """Read every dataset of a file by its path: text as `str`, null dataspaces left out."""
    arrays: Arrays = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            arrays[name] = decoded(item)

    with h5py.File(path, "r") as f:
        f.visititems(add)
    return arrays


def decoded(dataset: h5py.Dataset) -> Array:
    """Read a dataset whole; variable-length text becomes `str`, all else is as h5py gives it."""
    kind = h5py.check_string_dtype(dataset.dtype)
    if kind is None or kind.length is not None:
        return np.asarray(dataset[()])
    return np.array(dataset.asstr("utf-8")[()], dtype=object)
