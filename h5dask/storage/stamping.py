"""Many plain groups of one kind, put into an empty file as bytes: records, places, and links.

HDF5's library makes each group and dataset by itself, which takes longer than writing what is in
them. What a record holds is `records`' matter; any other form is left to the library.

HDF5 File Format Specification 3.0: II.A (superblock).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from h5dask.chunkindex import ChunkIndex
from h5dask.contents import ArrayForm, Attr, GroupForm
from h5dask.storage.forms import takes_bytes
from h5dask.storage.headers import INT64
from h5dask.storage.planned import Plan, PlannedArray
from h5dask.storage.records import MOST_MEMBERS, WORD, Kind, Member, Record
from h5dask.storage.space import Reservation
from h5dask.storage.symboltable import table

Ints = NDArray[np.int64]

FEWEST = 32
"""Groups of one kind that are worth a record; fewer are left to the library."""
_SUPERBLOCK = b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08\0\x04\0\x10\0"
"""How a file begins that has tables of symbols, and nodes of the library's own choice of size."""
_END_AT, _ROOT_AT = 40, 80
"""Where it says where it ends, and where the root's tree and heap lie."""
_AT_ONCE = 16 << 20
"""Bytes of records that are made at once."""
_ZERO, _ONE, _NO_MASK = np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1, np.uint32)
for _column in (_ZERO, _ONE, _NO_MASK):
    _column.flags.writeable = False
_PLAIN = GroupForm()

_Group = tuple[str, list[PlannedArray], list[ArrayForm], tuple[Attr, ...]]
"""Path of a group, its datasets, their forms (one object for equal ones), its attributes."""


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """Groups of one kind, which lie in the root."""

    kind: Kind
    paths: tuple[str, ...]
    shapes: tuple[Ints, ...]
    """Shape of each member, (group, dim)."""
    numbers: Ints
    """Values of the attributes, (group, attribute)."""


def alike(plan: Plan, image: bytes) -> list[Alike]:
    """Return those of the root's groups that records can make.

    Parameters
    ----------
    plan : Plan
        What the file holds.
    image : bytes
        How it begins.
    """
    if not image.startswith(_SUPERBLOCK) or plan.groups.get("", _PLAIN) != _PLAIN:
        return []
    found: dict[tuple[object, ...], list[_Group]] = {}
    for group in _plain_groups(plan):
        path, arrays, forms, attrs = group
        named = [array.path[len(path) :] for array in arrays]
        ranks = [len(array.shape) for array in arrays]
        key = (*named, *ranks, *map(id, forms), *[attr.name for attr in attrs])
        found.setdefault(key, []).append(group)
    return [_alike(groups) for groups in found.values() if len(groups) >= FEWEST]


def _plain_groups(plan: Plan) -> Iterator[_Group]:
    """Yield the root's groups that hold plain datasets and whole numbers, and nothing else."""
    equal: dict[ArrayForm, ArrayForm] = {}
    plain: dict[int, ArrayForm | None] = {}
    deep = [path for path in (*plan.groups, *plan.attrs) if "/" in path]
    apart = {path.partition("/")[0] for path in (*deep, *(path for _, path in plan.copies))}
    held: dict[str, tuple[list[PlannedArray], list[ArrayForm]]] = {}
    for array in plan.arrays:
        top, _, name = array.path.partition("/")
        form = array.form
        if id(form) not in plain:
            plain[id(form)] = equal.setdefault(form, form) if _is_plain(form) else None
        shared = plain[id(form)]
        # The library turns to other tables where a name isn't ASCII.
        fits = name and "/" not in name and array.path.isascii()
        if shared is None or not fits or array.attrs or not (array.shape and array.follows):
            apart.add(top)
            continue
        arrays, forms = held.setdefault(top, ([], []))
        arrays.append(array)
        forms.append(shared)
    for top, (arrays, forms) in held.items():
        attrs = plan.attrs.get(top, ())
        alone = top not in apart and plan.groups.get(top, _PLAIN) == _PLAIN
        if alone and len(arrays) <= MOST_MEMBERS and all(map(_is_number, attrs)):
            yield top, arrays, forms, attrs


def _is_plain(form: ArrayForm) -> bool:
    """Whether a dataset says nothing of itself but its type, and when its space is filled."""
    made = ArrayForm(
        dtype=form.dtype,
        type=form.type,
        maxshape=form.maxshape,
        alloc_time=form.alloc_time,
        fill_time=form.fill_time,
    )
    return form == made and takes_bytes(form)


def _is_number(attr: Attr) -> bool:
    whole = type(attr.value) is int and attr.shape == () and attr.type == INT64
    return whole and -(2**63) <= attr.value < 2**63


def _alike(groups: Sequence[_Group]) -> Alike:
    path, arrays, forms, attrs = groups[0]
    members = [
        Member(array.path[len(path) + 1 :], len(array.shape), form)
        for array, form in zip(arrays, forms, strict=True)
    ]
    columns = zip(*([array.shape for array in arrays] for _, arrays, *_ in groups), strict=True)
    return Alike(
        Kind(tuple(members), tuple(attr.name for attr in attrs)),
        tuple(path for path, *_ in groups),
        tuple(np.array(shapes, np.int64) for shapes in columns),
        np.array([[attr.value for attr in attrs] for *_, attrs in groups], np.int64),
    )


def without(plan: Plan, held: Sequence[Alike]) -> Plan:
    """Return what the library is left to make of a plan."""
    made = {path for one in held for path in one.paths}
    return replace(
        plan,
        groups={path: form for path, form in plan.groups.items() if path not in made},
        attrs={path: attrs for path, attrs in plan.attrs.items() if path not in made},
        arrays=tuple(a for a in plan.arrays if a.path.partition("/")[0] not in made),
    )


def stamp(
    path: str, image: bytes, held: Sequence[Alike], space: Reservation
) -> dict[str, ChunkIndex]:
    """Put groups into an empty file, and return where the bytes of their datasets belong.

    The values of one member of all groups of a kind lie together, in the order of the groups, so
    that a variable is written and read in long runs.

    Parameters
    ----------
    path : str
        The file, closed.
    image : bytes
        What it holds.
    held : sequence of Alike
        The groups. Memory: 16 MiB, and about 0.5 kB a group.
    space : Reservation
        Where room is taken before it is written.
    """
    records = [Record.of(one.kind) for one in held]
    lengths = [len(record.raw) * len(one.paths) for record, one in zip(records, held, strict=True)]
    edges = [*accumulate(lengths, initial=-(-len(image) // WORD) * WORD)]
    headers = np.concatenate(
        [
            np.arange(start, stop, len(record.raw))
            for (start, stop), record in zip(pairwise(edges), records, strict=True)
        ]
    )
    names = [name.encode() for one in held for name in one.paths]
    tree, heap = struct.unpack_from("<QQ", image, _ROOT_AT)
    added, renewed = table(names, headers, tree, heap, edges[-1])
    at = edges[-1] + len(added)
    indexes: dict[str, ChunkIndex] = {}
    space.need(at - len(image))
    with open(path, "r+b") as file:
        file.seek(edges[0])
        for record, one, start in zip(records, held, edges[:-1], strict=True):
            places, at = _placed(one, at)
            file.writelines(_filled(record, one, places, start))
            indexes.update(_indexes(one, places))
        file.write(added)
        for place, raw in (*renewed, (_END_AT, struct.pack("<Q", at))):
            file.seek(place)
            file.write(raw)
        space.need(0, at - edges[-1] - len(added))
        file.truncate(at)
    return indexes


def _placed(one: Alike, at: int) -> tuple[list[Ints], int]:
    """Return address and bytes of each member's values, (group, 2), and where they end."""
    places = []
    for member, shapes in zip(one.kind.members, one.shapes, strict=True):
        nbytes = shapes.prod(axis=1) * np.dtype(member.form.dtype).itemsize
        ends = at + np.cumsum(nbytes)
        places.append(np.stack([ends - nbytes, nbytes], axis=1))
        at = -(-int(ends[-1]) // WORD) * WORD
    return places, at


def _filled(record: Record, one: Alike, places: Sequence[Ints], at: int) -> Iterator[bytes]:
    """Yield the records of groups that lie from an address on, some at a time."""
    step = max(1, _AT_ONCE // len(record.raw))
    for first in range(0, len(one.paths), step):
        some = slice(first, first + step)
        yield record.filled(
            at + first * len(record.raw),
            one.numbers[some],
            [shapes[some] for shapes in one.shapes],
            [where[some] for where in places],
        )


def _indexes(one: Alike, places: Sequence[Ints]) -> Iterator[tuple[str, ChunkIndex]]:
    for member, shapes, where in zip(one.kind.members, one.shapes, places, strict=True):
        offsets, nbytes = np.ascontiguousarray(where.T)
        for i, (path, shape) in enumerate(zip(one.paths, map(tuple, shapes.tolist()), strict=True)):
            # There may be many thousands of these: what is the same in all of them is shared.
            mine, size = offsets[i : i + 1], nbytes[i : i + 1]
            index = ChunkIndex(shape, shape, _ZERO, _ONE, mine, size, size, _NO_MASK)
            yield f"{path}/{member.name}", index
