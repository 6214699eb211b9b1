"""An HDF5 file -> what it holds and where its bytes lie, in one metadata pass by HDF5's library.

Links are recorded and never followed; no value is read but attributes, compact datasets and a
few texts that are measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t

from h5dask.chunkindex import ChunkIndex, FileIndex
from h5dask.contents import AS_SHAPE, ArrayForm, Attr, Contents, GroupForm, SharedAttrs
from h5dask.errors import CorruptInput, Refused
from h5dask.storage import headers, library, soundness
from h5dask.storage.families import Family
from h5dask.storage.inspection import (
    dtype_name,
    form_and_shape,
    is_plain,
    locate,
    mean_nbytes,
    read_attr,
)
from h5dask.storage.mapped import mapped
from h5dask.storage.place import Place
from h5dask.storage.remote import translated

MAX_OBJECTS = 4_000_000
"""Groups and datasets of one file; more is refused."""
MAX_DEPTH = 64
"""Levels of groups; more is refused."""
_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""What HDF5, h5py and numpy raise over metadata that can't be."""


@dataclass(slots=True)
class _Walk:
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
    heaps: soundness.Heaps | None = None
    at: str = ""
    """Path of the object that is being described, for messages."""
    complete: bool = True

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


def describe(
    file: str | BinaryIO, *, subject: str, fingerprint: str, families: Iterable[Family] = ()
) -> tuple[Contents, FileIndex]:
    """Return what an HDF5 file holds and where its bytes lie.

    Parameters
    ----------
    file : str or binary file
        A local path, or a file object over bytes that are in memory already.
    subject, fingerprint : str
        The file's name for messages, and its state.
    families : iterable of Family
        Groups that are described by their known members only. Without any, all is described.

    Returns
    -------
    contents : Contents
        Paths, shapes, forms, attributes, links.
    index : FileIndex
        Byte ranges.

    Raises
    ------
    NotFound, AccessDenied
        The file is gone, or can't be read by this user.
    CorruptInput
        The file isn't HDF5, or its metadata is damaged.
    Refused
        The file exceeds a limit on objects, depth or chunks.
    """
    walk = _Walk(subject, tuple(families), -1)
    try:
        with library.opened(file) as opened, mapped(file) as view:
            if opened.id.get_create_plist().get_sizes() == (8, 8):
                walk.heap_base = opened.id.get_create_plist().get_userblock()
                walk.heaps = soundness.Heaps(view, walk.heap_base) if view is not None else None
            walk.view = view
            nbytes = opened.id.get_filesize()
            _walk(opened.id, walk)
        offsets = np.array(walk.offsets, np.int64)
    except (FileNotFoundError, PermissionError):
        with translated(subject):
            raise
    except (Refused, CorruptInput):
        raise
    except _DAMAGED as error:
        raise CorruptInput(_unreadable(subject, walk.at, error)) from None
    contents = Contents(
        subject=subject,
        fingerprint=fingerprint,
        nbytes=nbytes,
        complete=walk.complete,
        paths=tuple(walk.paths),
        shapes=tuple(walk.shapes),
        form_of=tuple(walk.form_of),
        forms=tuple(walk.forms),
        mean_nbytes=walk.mean_nbytes,
        groups=walk.groups,
        attrs=SharedAttrs(walk.attrs, walk.numbers) if walk.numbers else walk.attrs,
        links=walk.links,
    )
    return contents, FileIndex(offsets, walk.chunked, walk.inline, walk.heap_base)


def _unreadable(subject: str, path: str, error: Exception) -> str:
    text = str(error)
    if "signature not found" in text:
        return f"{subject}: not an HDF5 file (no HDF5 signature); check the path and the download"
    if "truncated" in text:
        return f"{subject}: truncated HDF5 file ({text}); copy or download it again"
    what = f"/{path}: HDF5 can't read it" if path else "HDF5 can't read its structure"
    return f"{subject}: {what} ({text}); copy or download the file again"


def _walk(root: Any, walk: _Walk) -> None:
    """Visit every object once, without recursion; links are only recorded."""
    top = h5g.open(root, b"/")
    walk.seen[h5o.get_info(top).addr] = ""
    stack: list[tuple[str, Any]] = [("", top)]
    while stack:
        path, group = stack.pop()
        if path.count("/") >= MAX_DEPTH:
            top = "/".join(path.split("/")[:3])
            raise Refused(
                f"{walk.subject}: /{top}/... lies {MAX_DEPTH} groups deep or deeper, at most "
                f"{MAX_DEPTH - 1} are read; move what is in it to a group further up"
            )
        names = _describe_group(path, group, walk)
        inner = []
        for name in names:
            walk.at = child = f"{path}/{name}" if path else name
            info = group.links.get_info(name.encode())
            if info.type != h5l.TYPE_HARD:
                walk.links[child] = _target(group, name, info.type)
                continue
            if info.u in walk.seen:
                walk.links[child] = f"hard:/{walk.seen[info.u]}"
                continue
            walk.seen[info.u] = child
            family = _family_of(walk, child)
            if family is not None and _describe_plain(child, info.u, family, walk):
                continue
            opened = h5o.open(group, name.encode())
            if isinstance(opened, h5g.GroupID):
                if family is None:
                    inner.append((child, opened))
                else:
                    _describe_member(child, opened, family, walk)
            elif isinstance(opened, h5d.DatasetID):
                _describe_dataset(child, opened, walk)
            else:
                walk.links[child] = "type:"
        stack.extend(reversed(inner))


def _target(group: Any, name: str, kind: int) -> str:
    value = group.links.get_val(name.encode())
    if kind == h5l.TYPE_SOFT:
        return f"soft:{value.decode(errors='replace')}"
    if kind == h5l.TYPE_EXTERNAL:
        return "external:" + ":".join(part.decode(errors="replace") for part in value)
    return "user-defined:"


def _describe_group(path: str, group: Any, walk: _Walk) -> list[str]:
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


def _keep_attrs(path: str, loc: Any, walk: _Walk, order: int) -> None:
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


def _family_of(walk: _Walk, path: str) -> Family | None:
    for family in walk.families:
        if family.pattern.fullmatch(path):
            return family
    return None


def _describe_plain(path: str, address: int, family: Family, walk: _Walk) -> bool:
    """Describe one group of a family from its bytes; False where only HDF5 can."""
    if walk.view is None or walk.heap_base < 0:
        return False
    found = headers.group(walk.view, walk.heap_base, address, family.members.__contains__)
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


def _describe_member(path: str, group: Any, family: Family, walk: _Walk) -> None:
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
            walk.links[f"{path}/{name}"] = _target(group, name, info.type)
            continue
        _describe_contiguous(f"{path}/{name}", h5d.open(group, raw), walk)


_PLAIN_GROUP = GroupForm()


def _describe_contiguous(path: str, dataset: Any, walk: _Walk) -> None:
    """Describe a dataset that is expected to be contiguous, without its creation properties."""
    offset = dataset.get_offset()
    if offset is None:
        _describe_dataset(path, dataset, walk)
        return
    kind = dataset.get_type().encode()
    dtype = walk.types.get(kind)
    if dtype is None:
        if not is_plain(dataset.get_type()):
            _describe_dataset(path, dataset, walk)
            return
        dtype = walk.types[kind] = dtype_name(dataset.get_type())
    form = ArrayForm(dtype=dtype, type=kind, maxshape=(AS_SHAPE,) * dataset.rank)
    walk.add(path, dataset.shape, form, offset)


def _describe_dataset(path: str, dataset: Any, walk: _Walk) -> None:
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
        walk.mean_nbytes[path] = mean_nbytes(walk.view, place)
    _keep_attrs(path, dataset, walk, form.attr_order)
