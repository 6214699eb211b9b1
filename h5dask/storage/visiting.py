"""One group or dataset of a file at a time -> what is recorded of it.

Which come next, and when a walk begins anew, lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
from h5py import h5a, h5d, h5l, h5t

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import AS_SHAPE, ArrayForm, Attr, GroupForm
from h5dask.errors import Refused
from h5dask.storage import headers, soundness
from h5dask.storage.families import Family
from h5dask.storage.held import Lacking
from h5dask.storage.inspection import (
    dtype_name,
    form_and_shape,
    is_plain,
    locate,
    mean_nbytes,
    read_attr,
)
from h5dask.storage.place import Place
from h5dask.storage.ranges import Ranges

MAX_OBJECTS = 4_000_000
"""Groups and datasets of one file; more is refused."""


@dataclass(slots=True)
class Walk:
    """What one metadata pass collects."""

    subject: str
    families: tuple[Family, ...]
    heap_base: int
    paths: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    form_of: list[int] = field(default_factory=list)
    forms: dict[ArrayForm, int] = field(default_factory=dict)
    mean_nbytes: dict[str, float] = field(default_factory=dict)
    groups: dict[str, GroupForm] = field(default_factory=dict)
    attrs: dict[str, tuple[Attr, ...]] = field(default_factory=dict)
    numbers: dict[tuple[str, bytes], dict[str, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)
    chunked: dict[int, ChunkIndex] = field(default_factory=dict)
    inline: dict[int, bytes] = field(default_factory=dict)
    seen: dict[int, str] = field(default_factory=dict)
    types: dict[bytes, str] = field(default_factory=dict)
    plain: dict[tuple[bytes, int], ArrayForm] = field(default_factory=dict)
    view: memoryview | None = None
    values: Ranges | None = None
    """Where a few values can be read."""
    there: headers.There | None = None
    missed: Sequence[int] = ()
    """Where bytes were wanted that aren't here: what follows is looked at again."""
    heaps: soundness.Heaps | None = None
    at: str = ""
    """Path of the object that is being described, for messages."""
    complete: bool = True
    nbytes: int = 0
    """Of the file."""

    def add(self, path: str, shape: tuple[int, ...], form: ArrayForm, offset: int) -> int:
        """Record a dataset and return its position."""
        self.paths.append(path)
        self.shapes.append(shape)
        self.form_of.append(self.forms.setdefault(form, len(self.forms)))
        self.offsets.append(offset)
        if len(self.paths) + len(self.groups) > MAX_OBJECTS:
            raise Refused(
                f"{self.subject}: more than {MAX_OBJECTS:,} groups and datasets; split the file"
            )
        return len(self.paths) - 1


def target(group: Any, name: str, kind: int) -> str:
    """Return what a link says."""
    value = group.links.get_val(name.encode())
    if kind == h5l.TYPE_SOFT:
        return f"soft:{value.decode(errors='replace')}"
    if kind == h5l.TYPE_EXTERNAL:
        return "external:" + ":".join(part.decode(errors="replace") for part in value)
    return "user-defined:"


def describe_group(path: str, group: Any, walk: Walk) -> list[str]:
    """Record a group and return its members' names in the order to visit them."""
    walk.at = path
    created = group.get_create_plist()
    link_order = created.get_link_creation_order()
    names = [name.decode() for name in _members(group, link_order)]
    walk.groups[path] = GroupForm(
        link_order=link_order,
        attr_order=created.get_attr_creation_order(),
        members=tuple(names) if link_order else (),
    )
    _keep_attrs(path, group, walk, created.get_attr_creation_order())
    return names


def _members(group: Any, link_order: int) -> list[bytes]:
    names: list[bytes] = []
    by = h5py.h5.INDEX_CRT_ORDER if link_order else h5py.h5.INDEX_NAME
    group.links.iterate(names.append, idx_type=by, order=h5py.h5.ITER_INC)
    return names


def _keep_attrs(path: str, loc: Any, walk: Walk, order: int) -> None:
    if not h5a.get_num_attrs(loc):
        return
    names: list[bytes] = []
    by = h5py.h5.INDEX_CRT_ORDER if order else h5py.h5.INDEX_NAME
    h5a.iterate(loc, names.append, index_type=by)
    found = []
    for name in names:
        attr = h5a.open(loc, name)
        try:
            refers = h5py.check_ref_dtype(attr.dtype) is not None
            if not refers:
                found.append(read_attr(name.decode(), attr, loc, walk.heaps))
                continue
        except TypeError:
            refers = False
        walk.links[f"{path}@{name.decode()}"] = "reference:" if refers else "unreadable:"
    walk.attrs[path] = tuple(found)


def family_of(walk: Walk, path: str) -> Family | None:
    """Return the family that a group is of, if any."""
    for family in walk.families:
        if family.pattern.fullmatch(path):
            return family
    return None


def describe_plain(path: str, address: int, family: Family, walk: Walk) -> bool:
    """Describe one group of a family from its bytes; False where only HDF5 can."""
    if walk.view is None or walk.heap_base < 0:
        return False
    n_missed = len(walk.missed)
    found = headers.group(
        walk.view, walk.heap_base, address, family.members.__contains__, walk.there
    )
    if len(walk.missed) > n_missed:
        raise Lacking
    if found is None or not found.other_attrs.isdisjoint(family.attrs):
        return False
    for array in found.arrays:
        if array.type not in walk.types:
            kind = h5t.decode(array.type)
            walk.types[array.type] = dtype_name(kind) if is_plain(kind) else ""
        if not walk.types[array.type]:
            return False
    walk.complete = False
    walk.groups[path] = _PLAIN_GROUP
    for name, value in found.numbers:
        if name in family.attrs:
            walk.numbers.setdefault((name, headers.INT64), {})[path] = value
    for array in found.arrays:
        key = array.type, len(array.shape)
        form = walk.plain.get(key)
        if form is None:
            dtype, limits = walk.types[array.type], (AS_SHAPE,) * len(array.shape)
            form = walk.plain[key] = ArrayForm(dtype=dtype, type=array.type, maxshape=limits)
        walk.add(f"{path}/{array.name}", array.shape, form, array.offset)
    return True


def describe_member(path: str, group: Any, family: Family, walk: Walk) -> None:
    """Describe one group of a family by its known members only."""
    walk.complete = False
    walk.groups[path] = _PLAIN_GROUP
    kept = [
        read_attr(name, h5a.open(group, name.encode()), group, walk.heaps)
        for name in family.attrs
        if h5a.exists(group, name.encode())
    ]
    if kept:
        walk.attrs[path] = tuple(kept)
    for name in family.members:
        raw = name.encode()
        if not group.links.exists(raw):
            continue
        info = group.links.get_info(raw)
        if info.type != h5l.TYPE_HARD:
            walk.links[f"{path}/{name}"] = target(group, name, info.type)
            continue
        _describe_contiguous(f"{path}/{name}", h5d.open(group, raw), walk)


_PLAIN_GROUP = GroupForm()


def _describe_contiguous(path: str, dataset: Any, walk: Walk) -> None:
    """Describe a dataset that is expected to be contiguous, without its creation properties."""
    offset = dataset.get_offset()
    if offset is None:
        describe_dataset(path, dataset, walk)
        return
    kind = dataset.get_type().encode()
    dtype = walk.types.get(kind)
    if dtype is None:
        if not is_plain(dataset.get_type()):
            describe_dataset(path, dataset, walk)
            return
        dtype = walk.types[kind] = dtype_name(dataset.get_type())
    form = ArrayForm(dtype=dtype, type=kind, maxshape=(AS_SHAPE,) * dataset.rank)
    walk.add(path, dataset.shape, form, offset)


def describe_dataset(path: str, dataset: Any, walk: Walk) -> None:
    """Record one dataset: shape, form, attributes and where its bytes lie."""
    form, shape = form_and_shape(dataset)
    subject = f"{walk.subject}: /{path}"
    offset, chunked, inline = locate(subject, dataset, shape, form, walk.heap_base)
    position = walk.add(path, shape, form, offset)
    if chunked is not None:
        walk.chunked[position] = chunked
    if inline is not None:
        walk.inline[position] = inline
    if (form.dtype == "str" or form.is_ragged_bytes) and 0 not in shape:
        place = Place(path=path, shape=shape, form=form, offset=offset, index=chunked)
        walk.mean_nbytes[path] = mean_nbytes(walk.values, place, walk.nbytes)
    _keep_attrs(path, dataset, walk, form.attr_order)
