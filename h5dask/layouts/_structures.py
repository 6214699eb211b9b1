"""Structures as labels of sequences: numbers, axes and grids of samples, noise and temperature."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from h5dask.check.attributes import int_of, is_true, text_of
from h5dask.contents import Attr, Contents
from h5dask.errors import LayoutError
from h5dask.groups import Groups, Shape
from h5dask.layout import Labels
from h5dask.layouts import _rows
from h5dask.layouts._rows import Ints
from h5dask.pattern import parse

AXES = ("sample", "noise", "temperature")
STEM = "structure_"
GROUP = f"{STEM}{{structure:d}}"
SEQUENCES = f"{GROUP}/sequences"
FLAT = "sequences"
"""Where the oldest form keeps all structures in one array; its group has the key ""."""
_BY_RANK = {2: AXES[:1], 3: AXES[:2], 4: AXES}


def path_of(key: str) -> str:
    """Return the path of a structure's group; the root for the flat form."""
    return f"structure_{key}" if key else ""


def axes_of(
    key: str, rank: int, attrs: Mapping[str, Any], schema_version: str | None
) -> tuple[str, ...]:
    """Return what the leading axes of a group's `sequences` are.

    Rank 3 is (sample, noise, length), or (sample, temperature, length) in files whose encodings
    were averaged over noise and which count temperatures.
    """
    if not key:
        return ("structure", *_BY_RANK[rank][:-1])
    if rank == 3 and "num_temperatures" in attrs:
        averaged = schema_version == "sampling_averaged_v1"
        if averaged or is_true(attrs.get("averaged_encodings")):
            return AXES[0], AXES[2]
    return _BY_RANK[rank]


@dataclass(frozen=True, slots=True)
class Table:
    """The structures of a file, one row each, as columns."""

    key: tuple[str, ...]
    """Key of the group that holds it; "" for each structure of the flat form."""
    axes: tuple[tuple[str, ...], ...]
    """Leading axes of its group's `sequences`."""
    name: tuple[str | None, ...]
    """Its `structure_id`, where it has one."""
    number: Ints
    """By which it is labelled."""
    sizes: Mapping[str, Ints]
    """Size of its grid along each of `AXES`."""
    length: Ints
    """Residues of each of its sequences."""


def table(keys: Sequence[str], shapes: Sequence[Shape], found: Contents | None) -> Table:
    """Return the structures that groups of these shapes of `sequences` hold."""
    _refuse_many(shapes, found)
    version = text_of(found.attr("", "schema_version")) if found is not None else None
    told = {name: found.attr_column(name) if found is not None else {} for name in _TOLD}
    paths = [path_of(key) for key in keys]
    plain = not any(told[name] for name in ("num_temperatures", "averaged_encodings"))
    axes = [
        _BY_RANK[len(shape)]
        if plain and key
        else axes_of(key, len(shape), _attrs_of(told, path), version)
        for key, path, shape in zip(keys, paths, shapes, strict=True)
    ]
    repeats = np.array(
        [
            shape[0] if held[0] == "structure" else 1
            for held, shape in zip(axes, shapes, strict=True)
        ],
        np.int64,
    )
    sizes, length = _sizes(axes, shapes)
    rows = np.repeat(np.arange(len(keys)), repeats).tolist()
    names = [text_of(told["structure_id"].get(path)) for path in paths]
    indices = [told["structure_index"].get(path) for path in paths]
    return Table(
        key=tuple(keys[row] for row in rows),
        axes=tuple(axes[row] for row in rows),
        name=tuple(names[row] for row in rows),
        number=_numbers([keys[row] for row in rows], [indices[row] for row in rows]),
        sizes={axis: np.repeat(column, repeats) for axis, column in sizes.items()},
        length=np.repeat(length, repeats),
    )


_TOLD = ("structure_index", "structure_id", "num_temperatures", "averaged_encodings")
"""Attributes of a structure that say how its labels are made."""


def _attrs_of(told: Mapping[str, Mapping[str, Any]], path: str) -> dict[str, Any]:
    return {name: values[path] for name, values in told.items() if path and path in values}


def _sizes(
    axes: Sequence[tuple[str, ...]], shapes: Sequence[Shape]
) -> tuple[dict[str, Ints], Ints]:
    """Return the size of each group's grid along each of `AXES`, and its sequences' length."""
    sizes = {axis: np.ones(len(axes), np.int64) for axis in AXES}
    length = np.zeros(len(axes), np.int64)
    for form in dict.fromkeys(axes):
        rows = [row for row, held in enumerate(axes) if held == form]
        table = np.array([shapes[row] for row in rows], np.int64).reshape(len(rows), -1)
        length[rows] = table[:, -1]
        for column, axis in enumerate(form):
            if axis in sizes:
                sizes[axis][rows] = table[:, column]
    return sizes, length


def _refuse_many(shapes: Sequence[Shape], found: Contents | None) -> None:
    """Refuse what a file may declare but nobody can hold labels for."""
    n_sequences = sum(math.prod(shape[:-1]) for shape in shapes)
    largest = max((max(shape) for shape in shapes), default=0)
    if max(n_sequences, largest) > _rows.MAX_ROWS:
        raise LayoutError(
            f"{_rows.subject_of(found)}: found {n_sequences!r} sequences, and axes of up to "
            f"{largest!r}; labels are held for at most {_rows.MAX_ROWS!r} of each"
        )


def _numbers(keys: Sequence[str], said: Sequence[Any]) -> Ints:
    """Return the number of each structure: `structure_index`, else that of its group's name.

    Where these aren't distinct the names decide, and where those aren't either, the order.
    """
    named = [int(key) if key else i for i, key in enumerate(keys)]
    indices = (int_of(index) for index in said)
    wanted = [
        name if index is None or not 0 <= index < 2**63 else index
        for index, name in zip(indices, named, strict=True)
    ]
    for numbers in (wanted, named):
        if len(set(numbers)) == len(numbers):
            return np.array(numbers, np.int64)
    return np.arange(len(keys))


def unlike_shapes(groups: Groups) -> Iterator[tuple[str, str, Shape, Shape]]:
    """Yield each dataset whose shape isn't that of its group's `sequences`: what it should be."""
    sequences = groups.shapes.get("sequences", ())
    for name, cut in (("logits", None), ("pseudo_perplexity", -1)):
        for (key,), shape, model in zip(
            groups.keys, groups.shapes.get(name, ()), sequences, strict=False
        ):
            if shape is None or model is None:
                continue
            wanted = model[:cut] if cut else (*model, shape[-1])
            if shape != wanted:
                yield key, name, shape, wanted


def labels(groups: Groups, found: Contents) -> Labels:
    """Return structure, sample, noise, temperature and length of each sequence."""
    shapes = groups.shapes.get("sequences", ())
    whole = [shape for shape in shapes if shape is not None]
    keys = groups.key_column("structure")
    unlike = [f"/{path_of(k)}/{name} has shape {s!r}" for k, name, s, _ in unlike_shapes(groups)]
    if unlike or len(whole) != len(keys):
        lacking = [path_of(k) for k, s in zip(keys, shapes, strict=False) if s is None]
        told = [*unlike, *(f"/{path} has no sequences" for path in lacking)] or ["no sequences"]
        raise LayoutError(
            f"{found.subject}: {'; '.join(told[:5])}; expected arrays of the shape of each group's "
            "sequences; open the other groups one at a time with group=..."
        )
    held = table(keys, whole, found)
    counts = np.prod(np.stack(list(held.sizes.values())), axis=0)
    _rows.total(counts, found, "sequence")
    within = _rows.within(counts)
    sizes = {axis: np.repeat(size, counts) for axis, size in held.sizes.items()}
    wide = np.int32 if held.number.max(initial=0) <= _rows.MAX_ROWS else np.int64
    columns = {
        "structure": np.repeat(held.number.astype(wide), counts),
        "sample": (within // (sizes["noise"] * sizes["temperature"])).astype(np.int32),
        "noise": (within // sizes["temperature"] % sizes["noise"]).astype(np.int32),
        "temperature": (within % sizes["temperature"]).astype(np.int32),
        "row_size": np.repeat(held.length.astype(np.int32), counts),
    }
    if any(name is not None for name in held.name):
        names = _rows.column([name or "" for name in held.name])
        columns["structure_id"] = np.repeat(names, counts)
    return columns


def form(found: Contents | None) -> Table:
    """Return the structures of the form that a Dataset came in, in the order of its labels."""
    shapes: dict[str, Shape] = {}
    for path in found.paths if found is not None else ():
        keys = {"structure": ""} if path == FLAT else parse(SEQUENCES, path)
        if keys is not None and found is not None and 2 <= len(found.shape(path)) <= 4:
            shapes[keys["structure"]] = found.shape(path)
    ordered = sorted(shapes, key=lambda key: int(key) if key else -1)
    return table(ordered, [shapes[key] for key in ordered], found)


def renumber(found: Contents, numbers: Mapping[int, int]) -> Contents:
    """Name each group by its structure's new number, and say the number in its attributes.

    Structures without a number go, and so does the flat form, which can't hold those of others.
    """
    held = form(found)
    tops = {
        path_of(key): numbers[number]
        for key, number in zip(held.key, held.number.tolist(), strict=True)
        if key and number in numbers
    }

    def moved(path: str) -> str | None:
        top, slash, rest = path.partition("/")
        if top in tops:
            return f"{path_of(str(tops[top]))}{slash}{rest}"
        stays = parse(GROUP, top) is None and path not in (FLAT, "logits")
        return path if stays else None

    def said(path: str, attrs: tuple[Attr, ...]) -> tuple[Attr, ...]:
        number = tops.get(path)
        return tuple(
            replace(attr, value=number)
            if number is not None and attr.name == "structure_index" and attr.value != number
            else attr
            for attr in attrs
        )

    part = found.only([i for i, path in enumerate(found.paths) if moved(path) is not None])
    return replace(
        part,
        paths=tuple(str(moved(path)) for path in part.paths),
        mean_nbytes={to: n for path, n in found.mean_nbytes.items() if (to := moved(path))},
        groups={
            to: group for path, group in found.groups.items() if (to := moved(path)) is not None
        },
        attrs={
            to: said(path, attrs)
            for path, attrs in found.attrs.items()
            if (to := moved(path)) is not None
        },
        links={to: link for path, link in found.links.items() if (to := moved(path))},
    )


def join(parts: Sequence[Labels]) -> Sequence[Labels]:
    """Renumber the structures where two files number them alike.

    The number in its own file stays as `source_structure`. A `structure_id` that only some files
    have is empty for the others.
    """
    numbers = [_rows.numbers(p, "structure", _rows.length(p, ("structure",), None)) for p in parts]
    distinct = [np.unique(column) for column in numbers]
    joined = [dict(part) for part in parts]
    if any("structure_id" in part for part in parts):
        for part, column in zip(joined, numbers, strict=True):
            part.setdefault("structure_id", _rows.column([""] * len(column)))
    for part, column in zip(joined, numbers, strict=True):
        part.setdefault("source_structure", column.astype(np.int32))
    if len(np.unique(np.concatenate(distinct))) == sum(map(len, distinct)) if parts else True:
        return joined
    start = 0
    for part, column in zip(joined, numbers, strict=True):
        known, first, code = np.unique(column, return_index=True, return_inverse=True)
        rank = np.empty(len(known), np.int64)
        rank[np.argsort(first)] = np.arange(len(known))
        part["structure"] = (rank[code] + start).astype(np.int32)
        start += len(known)
    return joined
