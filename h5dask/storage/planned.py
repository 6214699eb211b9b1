"""What a new file shall hold, as records, and how much room it will need. Nothing is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.contents import ArrayForm, Attr, GroupForm
from h5dask.storage.forms import stored_chunks, stored_itemsize

_META_BLOCKS = (2048, 8 << 20)
"""Least (HDF5's own choice) and largest size of a block of metadata."""
_LARGE_ATTR_NBYTES = 64_000
"""HDF5's first form of object headers holds attributes a little larger than this."""
_OBJECT_NBYTES = 4096
"""At most what the headers of a group or dataset take, attributes apart."""
_LINK_NBYTES = 512
"""At most what a link or an attribute takes beside its name and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedArray:
    """One dataset to create."""

    path: str
    """Its path, without a leading slash."""
    shape: tuple[int, ...]
    """Its shape."""
    form: ArrayForm
    """How it is stored."""
    attrs: tuple[Attr, ...] = ()
    """Its attributes, in the order of creation."""
    values: Callable[[], Iterator[NDArray[Any]]] | None = None
    """Yields its values in blocks along the first axis, which are written at once; None where
    they follow as bytes."""

    @property
    def follows(self) -> bool:
        """Whether its values come after the skeleton, as bytes or as encoded chunks."""
        return self.values is None and 0 not in self.shape and not self.form.null

    @property
    def allocated(self) -> bool:
        """Whether its values come later, to places that the skeleton allocates."""
        return self.follows and not self.form.filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A file without values."""

    groups: Mapping[str, GroupForm]
    """Every group by path, "" the root; parents that are missing are made with the default form."""
    arrays: tuple[PlannedArray, ...]
    """Every dataset. Their bytes lie group by group, in this order in each; those of many groups
    alike lie member by member, in the order of the groups."""
    attrs: Mapping[str, tuple[Attr, ...]]
    """Attributes of groups by path, "" the root."""
    copies: tuple[tuple[str, str], ...] = ()
    """Local source file and path of each object or link that is carried over as it is."""


def has_large_attrs(plan: Plan) -> bool:
    """Return whether an attribute is too large for HDF5's first form of object headers."""
    found = [*plan.attrs.values(), *(array.attrs for array in plan.arrays)]
    return any(_attr_nbytes(attr) > _LARGE_ATTR_NBYTES for attrs in found for attr in attrs)


def _attr_nbytes(attr: Attr) -> int:
    """Return what an attribute's values take in its object's header."""
    return math.prod(attr.shape or ()) * stored_itemsize(attr.type)


def metadata_nbytes(plan: Plan) -> int:
    """Return a little more than all takes that lies around values and copies."""
    return _metadata_nbytes(plan) + 2 * meta_block_nbytes(plan)


def meta_block_nbytes(plan: Plan) -> int:
    """Return the size of the blocks in which metadata is laid down.

    Large ones keep it together in few places. What is left of the last one is lost, so no more
    than a thousandth of the values, or an eighth of the metadata, is put at stake.
    """
    metadata = _metadata_nbytes(plan)
    wanted = min(max(metadata // 8, values_nbytes(plan) // 1000), metadata)
    return min(max(wanted, _META_BLOCKS[0]), _META_BLOCKS[1])


def values_nbytes(plan: Plan) -> int:
    """Return what all bytes take that follow the skeleton."""
    return sum(_values_nbytes(array) for array in plan.arrays)


def _metadata_nbytes(plan: Plan) -> int:
    """Return at most what groups, datasets, attributes and chunk indexes take."""
    names = [*plan.groups, *(array.path for array in plan.arrays)]
    attrs = [a for found in plan.attrs.values() for a in found]
    attrs += [a for array in plan.arrays for a in array.attrs]
    links = sum(_LINK_NBYTES + 4 * len(name) for name in names)
    notes = sum(_LINK_NBYTES + 2 * (_attr_nbytes(a) + _text_nbytes(a.value)) for a in attrs)
    indexes = sum(_index_nbytes(array) for array in plan.arrays)
    return links + notes + indexes + _OBJECT_NBYTES * len(names)


def _text_nbytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return sum(map(_text_nbytes, value.ravel())) if value.dtype == object else 0
    return 4 * len(value) + 64 if isinstance(value, (str, bytes)) else 0


def _values_nbytes(array: PlannedArray) -> int:
    """Return what an array's bytes take where the skeleton allocates them, padding included."""
    if not array.allocated:
        return 0
    itemsize = np.dtype(array.form.dtype).itemsize
    if array.form.storage != "chunked":
        return math.prod(array.shape) * itemsize
    return math.prod(_grid(array)) * math.prod(stored_chunks(array.form, array.shape)) * itemsize


def _index_nbytes(array: PlannedArray) -> int:
    """Return what the index of the chunks takes: nodes of a B-tree that may be half empty."""
    if not array.allocated or array.form.storage != "chunked":
        return 0
    return 2 * math.prod(_grid(array)) * (24 + 8 * len(array.shape)) + _OBJECT_NBYTES


def _grid(array: PlannedArray) -> list[int]:
    chunks = stored_chunks(array.form, array.shape)
    return [-(-n // chunk) for n, chunk in zip(array.shape, chunks, strict=True)]
