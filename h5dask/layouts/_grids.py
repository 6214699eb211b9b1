"""Sequences of a Dataset -> the group of each structure, a full grid in C order. Vectorised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.groups import Groups, Rows, Shape, length, spans
from h5dask.layout import Labels
from h5dask.layouts import _rows, _structures
from h5dask.layouts._rows import Ints
from h5dask.layouts._structures import AXES, Table


@dataclass(frozen=True, slots=True)
class Grids:
    """The structures of a Dataset by number, one row each, as columns."""

    number: Ints
    """By which it is labelled, ascending."""
    sizes: Mapping[str, Ints]
    """Size of its grid along each of `AXES`."""
    length: Ints
    """Residues of each of its sequences."""
    order: Ints
    """The Dataset's sequences, structure by structure, each in C order of its grid."""
    ends: Ints
    """Where each structure's sequences end in `order`."""

    def __len__(self) -> int:
        return len(self.number)


def groups(labels: Labels, found: Contents | None) -> Groups:
    """Return which sequences and residues each structure's group takes.

    A structure stays in the group it came from, with its axes where they still fit; a new one is
    named by its number. The flat form stays where all its structures still are alike and no other
    came, else each gets a group.
    """
    grids = _grids(labels, found)
    form = _structures.form(found)
    at_form = {number: i for i, number in enumerate(form.number.tolist())}
    known = [i for i, number in enumerate(grids.number.tolist()) if number in at_form]
    if len(known) == len(grids) and _is_flat(grids, form):
        keys, axes, members = [""], form.axes[:1], [list(range(len(grids)))]
    else:
        keys, axes, members = _separate(grids, form, at_form)
    ends = grids.ends.tolist()
    parts = [grids.order[start:end] for start, end in pairwise([0, *ends])]
    sequences = [
        np.concatenate([parts[i] for i in m]) if len(m) > 1 else parts[m[0]] for m in members
    ]
    shapes = _shapes(grids, axes, members)
    lengths, numbers = grids.length.tolist(), grids.number.tolist()
    rows = spans(sequences)
    residues = _residues(rows, [lengths[m[0]] for m in members], labels)
    return Groups(
        names=("structure",),
        keys=tuple((key,) for key in keys),
        counts={
            "sequence": np.array([len(some) for some in sequences], np.int64),
            "residue": np.array([length(some) for some in residues], np.int64),
        },
        shapes={
            "sequences": shapes,
            "logits": shapes,
            "pseudo_perplexity": tuple(shape[:-1] for shape in shapes),
        },
        rows={"sequence": rows, "residue": residues},
        numbers=tuple(numbers[m[0]] for m in members),
        axes=axes,
    )


def _grids(labels: Labels, found: Contents | None) -> Grids:
    """Return the structures of a Dataset, refusing those that aren't full grids of one length."""
    n = _rows.length(labels, ("structure", "row_size"), found)
    columns = {name: _rows.numbers(labels, name, n) for name in ("structure", "row_size", *AXES)}
    number, code = np.unique(columns["structure"], return_inverse=True)
    if "sample" not in labels:
        cells = np.stack([code, columns["noise"], columns["temperature"]])
        same = np.unique(cells, axis=1, return_inverse=True)[1]
        columns["sample"] = _rows.occurrence(same.reshape(-1))
    order = np.lexsort((columns["temperature"], columns["noise"], columns["sample"], code))
    counts = np.bincount(code, minlength=len(number))
    sizes = {axis: _distinct(code, columns[axis], len(number)) for axis in AXES}
    ends = np.cumsum(counts)
    lengths = columns["row_size"][order]
    starts = ends - counts
    low = np.minimum.reduceat(lengths, starts) if n else lengths
    high = np.maximum.reduceat(lengths, starts) if n else lengths
    cell = np.stack([code[order], *(columns[axis][order] for axis in AXES)])
    twice = np.flatnonzero((np.diff(cell, axis=1) == 0).all(axis=0))
    unfull = counts != sizes["sample"] * sizes["noise"] * sizes["temperature"]
    unfull[cell[0][twice]] = True
    _refuse(found, number, unfull, low, high, sizes, counts)
    return Grids(number, sizes, low, order, ends)


def _distinct(code: Ints, values: Ints, n: int) -> Ints:
    """Return how many distinct values each code has."""
    order = np.lexsort((values, code))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(code[order]) != 0) | (np.diff(values[order]) != 0)
    return np.bincount(code[order][new], minlength=n)


def _refuse(
    found: Contents | None,
    number: Ints,
    unfull: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    low: Ints,
    high: Ints,
    sizes: Mapping[str, Ints],
    counts: Ints,
) -> None:
    """Refuse what no group can hold, naming the structures."""
    told = [f"structure {x}: a negative number" for x in number[number < 0].tolist()]
    told += [
        f"structure {number[i]}: sequences of {low[i]} to {high[i]} residues, expected one length; "
        "number those of other lengths as other structures"
        for i in np.flatnonzero(low != high).tolist()
    ]
    told += [
        f"structure {number[i]}: {counts[i]} sequences, expected each of (sample x noise x "
        f"temperature) {' x '.join(str(sizes[axis][i]) for axis in AXES)} once; drop or add whole "
        "samples"
        for i in np.flatnonzero(unfull).tolist()
    ]
    if told:
        more = f"; and {len(told) - 5:,} more" if len(told) > 5 else ""
        raise LayoutError(f"{_rows.subject_of(found)}: {'; '.join(told[:5])}{more}")


Placed = tuple[list[str], tuple[tuple[str, ...], ...], list[list[int]]]
"""Keys and axes of the groups, and which structures (by position) each holds."""


def _is_flat(grids: Grids, form: Table) -> bool:
    """Whether the structures are still alike in all but what the flat array's axes tell apart."""
    if not len(grids) or any(form.key):
        return False
    alike = all(len(set(x.tolist())) == 1 for x in (grids.length, *grids.sizes.values()))
    return alike and all(grids.sizes[axis][0] == 1 for axis in AXES if axis not in form.axes[0])


def _separate(grids: Grids, form: Table, at_form: Mapping[int, int]) -> Placed:
    """Give each structure a group: those of the form first, in its order."""
    numbers = grids.number.tolist()
    order = sorted(range(len(numbers)), key=lambda i: (at_form.get(numbers[i], len(at_form)), i))
    used = set(form.key)
    free = 1 + max([-1, *numbers, *(int(key) for key in form.key if key)])
    default = _default_axes(grids, form)
    keys, axes = [], []
    for i in order:
        at = at_form.get(numbers[i])
        key = form.key[at] if at is not None else ""
        came = form.axes[at] if at is not None and key else None
        if not key:
            key = str(numbers[i])
            if key in used:
                key, free = str(free), free + 1
        used.add(key)
        keys.append(key)
        axes.append(_fitting(grids, i, (came, default)))
    return keys, tuple(axes), [[i] for i in order]


def _default_axes(grids: Grids, form: Table) -> tuple[str, ...]:
    """Return the axes of new groups: the form's, else the document's, all alike in one file.

    Axes that only attributes tell apart are left to the groups that have these attributes.
    """
    plain = (AXES[:1], AXES[:2], AXES)
    came = next((axes for axes in form.axes if axes in plain), None)
    varying = {axis for axis in AXES if (grids.sizes[axis] > 1).any()}
    options = (came, AXES[:2], AXES)
    return next(axes for axes in options if axes is not None and varying <= set(axes))


def _fitting(grids: Grids, i: int, options: Sequence[tuple[str, ...] | None]) -> tuple[str, ...]:
    """Return the first axes that leave out only what the structure has one of."""
    for axes in options:
        if axes is not None and all(grids.sizes[a][i] == 1 for a in AXES if a not in axes):
            return axes
    return AXES


def _shapes(
    grids: Grids, axes: Sequence[tuple[str, ...]], members: Sequence[Sequence[int]]
) -> tuple[Shape, ...]:
    """Return the shape of each group's `sequences`."""
    columns = {axis: size.tolist() for axis, size in grids.sizes.items()}
    lengths = grids.length.tolist()
    return tuple(
        (*(len(m) if a == "structure" else columns[a][m[0]] for a in named), lengths[m[0]])
        for named, m in zip(axes, members, strict=True)
    )


def _residues(
    sequences: Sequence[Rows], lengths: Sequence[int], labels: Labels
) -> tuple[Rows, ...]:
    """Return the residues that each group's sequences own, consecutive ones as a slice."""
    ends = np.append(0, np.cumsum(np.asarray(labels["row_size"], np.int64)))
    edges = ends.tolist()
    taken: list[Rows] = []
    for rows, n in zip(sequences, lengths, strict=True):
        if isinstance(rows, slice):
            taken.append(slice(edges[rows.start], edges[rows.stop]))
        else:
            taken.append((ends[rows][:, None] + np.arange(n)).reshape(-1))
    return tuple(taken)
