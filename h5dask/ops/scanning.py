"""What is wrong with a Dataset's values, in one pass over them.

What is found in one block lies in `findings`, how blocks are put together in `folding`, and what
becomes of bad rows in `dropping`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import numpy as np
import xarray as xr
from dask._task_spec import List, Task, TaskRef  # the classes of docs.dask.org/en/stable/spec
from dask.base import tokenize
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops import findings
from h5dask.ops.cost import Cost, Forms, reading
from h5dask.ops.findings import BIT, KINDS, Findings, Place, duplicated, look, marked, settled
from h5dask.ops.folding import Folded, Index, blocked, fold
from h5dask.ops.ragged import absent_rows

HARMLESS = ("empty",)
"""What is counted, but makes no row bad: it is common that an instruction is left empty."""
_NONFINITE = KINDS[:3]
_IDS = "_ids"
"""How names of variables end whose values may each be there once."""
_TEXTS = 2**16
"""Texts in memory that are looked at as one block."""
_WORDS = {
    "nan": "NaN, and None among text",
    "posinf": "infinity",
    "neginf": "minus infinity",
    "zero_rows": "vectors of zeros",
    "duplicates": "rows labelled as an earlier one",
    "empty": "empty text",
    "not_utf8": "text that isn't UTF-8",
}

Wanted = Mapping[Hashable, int]
"""What is looked for in each variable, as bits."""


def scan(
    ds: xr.Dataset, *, ignore: Iterable[str] = (), ids: Iterable[Hashable] | None = None
) -> xr.Dataset:
    """Return what is wrong with the values of a Dataset: how much, where first, and which rows.

    Of numbers: NaN, infinities, and vectors of nothing but zeros along the last of several dims
    (of floats and 8-bit integers). Of text: empty, and not UTF-8. Of rows: those that carry the
    same labels as an earlier one, and repeated ids. Other integers and bools have nothing that
    could be wrong, and aren't read unless they are ids. Labels of an index lie in memory and are
    looked at right away; "" is a label like another. Rows that lack a variable altogether, as the
    coord `has_{variable}` says, aren't bad for it.

    Parameters
    ----------
    ds : Dataset
        Whose data variables and coords of any dims are looked at.
    ignore : iterable of str, optional
        Kinds that are left out: "nan", "posinf", "neginf", "zero_rows", "duplicates", "empty",
        "not_utf8".
    ids : iterable of hashable, optional
        One-dimensional variables each of whose values may be there once; without it those whose
        name ends in "_ids".

    Returns
    -------
    Dataset
        Lazy where ds is. Along `variable`, int64: `values`, one count a kind, `nonfinite`, and
        `first_{kind}`, the row along the variable's first dim where the first is, or -1. Counted
        are values, vectors, and rows for duplicates (at the first coord of an index). And
        `bad_{dim}` (dim), bool, for each dim that comes first in a variable, or is of coords
        alone: rows that hold anything but empty text. The same for any blocks. Computing any or
        all of it reads each block once; memory per task: a block, a byte a vector in it, a byte a
        row of 16 records, and all ids; in the end a byte a row of each variable, which suits up
        to 1e8 rows.

    Raises
    ------
    Refused
        A kind is unknown, ids aren't one-dimensional variables, or a dim is named "variable".

    Examples
    --------
    >>> x = [[1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]]
    >>> found = scan(xr.Dataset({"x": (("row", "col"), x)}))
    >>> found.nan.values, found.first_zero_rows.values, found.bad_row.values
    (array([1]), array([1]), array([False,  True,  True]))
    """
    kinds = _kinds(ignore)
    wanted = _wanted(ds, kinds, ids)
    scanned = _scanned(ds, wanted, kinds)
    n = len(wanted)
    counts: dict[str, tuple[str, ...]] = {kind: (kind,) for kind in kinds}
    if nonfinite := tuple(kind for kind in kinds if kind in _NONFINITE):
        counts["nonfinite"] = nonfinite
    sizes = np.array([ds.variables[name].size for name in wanted], np.int64)
    made = {"values": xr.Variable("variable", sizes, {"long_name": "values"})}
    for name, summed in counts.items():
        values = scanned.array(name, partial(_counts, summed), ((n,),), np.int64, new=1)
        words = {"long_name": " or ".join(_WORDS[kind] for kind in summed)}
        made[name] = xr.Variable("variable", values, words)
    for kind in kinds:
        values = scanned.array(f"first-{kind}", partial(_first, kind), ((n,),), np.int64, new=1)
        words = {"long_name": f"first row of {_WORDS[kind]}, or -1"}
        made[f"first_{kind}"] = xr.Variable("variable", values, words)
    for dim in row_dims(ds):
        mask = scanned.array(f"bad-{dim}", partial(_bad, dim), ((ds.sizes[dim],),), bool, new=1)
        made[f"bad_{dim}"] = xr.Variable(dim, mask, {"long_name": "whether a row is bad"})
    found = xr.Dataset(made, {"variable": np.array(list(wanted), str)})
    is_lazy = any(variable.chunks is not None for variable in ds.variables.values())
    return found if is_lazy else found.compute()


def row_dims(ds: xr.Dataset) -> list[Hashable]:
    """Return the dims of rows: the first of each data variable, and those of coords alone.

    Examples
    --------
    >>> row_dims(xr.Dataset({"x": (("row", "col"), [[1]])}, {"col": [0], "name": ("item", ["a"])}))
    ['row', 'item']
    """
    of_values = [variable.dims for variable in ds.data_vars.values()]
    known = {dim for dims in of_values for dim in dims}
    of_coords = [coord.dims for coord in ds.coords.values()]
    first = [dims[0] for dims in of_values if dims]
    return list(dict.fromkeys(first + [d[0] for d in of_coords if d and d[0] not in known]))


def scanning_cost(ds: xr.Dataset, *, stored: Forms | None = None) -> Cost:
    """Return what `scan` of a Dataset takes.

    Parameters
    ----------
    ds : Dataset
        What is scanned; variables in memory cost nothing.
    stored : mapping of str to Stored, optional
        How the variables are stored.

    Examples
    --------
    >>> x = xr.Dataset({"x": ("row", np.zeros(1000)), "n": ("row", range(1000))}).chunk(row=250)
    >>> cost = scanning_cost(x)
    >>> cost.n_blocks, cost.read, cost.memory
    (4, 8000, 4201304)
    """
    wanted = _wanted(ds, KINDS, None)
    read = [name for name in _unlabelled(ds, wanted) if ds.variables[name].chunks is not None]
    cost = reading(_only(ds, read), stage="scan", stored=stored)
    ids = [name for name in read if wanted[name] & BIT["duplicates"]]
    gathered = reading(_only(ds, ids).chunk(-1), stored=stored).memory
    marks = sum(ds.variables[name].shape[0] for name in read)
    masks = sum(ds.sizes[dim] for dim in row_dims(ds)) if read else 0
    # A record's marks are there twice while it is merged, a block's a few times while it is made.
    rows = max((max((ds.variables[name].chunks or ((0,),))[0]) for name in read), default=0)
    return replace(cost, memory=cost.memory + gathered + 2 * marks + masks + _MARKED * rows)


_MARKED = 8
"""Bytes a row of a block that its marks take meanwhile."""


def _only(ds: xr.Dataset, names: Iterable[Hashable]) -> xr.Dataset:
    """Return a Dataset of some variables beside the labels of indexes."""
    return ds.drop_vars([name for name in ds.variables if name not in (*names, *ds.xindexes)])


def _kinds(ignore: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds that aren't left out."""
    left_out = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    if unknown := [kind for kind in left_out if kind not in KINDS]:
        raise Refused(f"ignore: found {unknown!r}; expected of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind not in left_out)


def _wanted(ds: xr.Dataset, kinds: Sequence[str], ids: Iterable[Hashable] | None) -> Wanted:
    """Return what is looked for in each variable that has a dim."""
    if "variable" in ds.dims:
        raise Refused("variable: found a dim of this name, which the result has; rename it before")
    variables = {name: one for name, one in ds.variables.items() if one.dims}
    lone = [name for name, one in variables.items() if one.ndim == 1 and name not in ds.xindexes]
    named = [name for name in lone if str(name).endswith(_IDS)] if ids is None else list(ids)
    if unfit := [name for name in named if name not in lone]:
        raise Refused(
            f"ids: found {unfit!r}; expected one-dimensional variables without an index, of "
            f"{', '.join(map(str, lone)) or 'which there are none'}"
        )
    allowed = sum(BIT[kind] for kind in kinds)
    wanted = {}
    for name, variable in variables.items():
        bits = findings.sought(variable.dtype, variable.shape)
        bits |= BIT["duplicates"] if name in named else 0
        bits &= ~BIT["empty"] if name in ds.xindexes else ~0
        wanted[name] = bits & allowed
    return wanted


def _unlabelled(ds: xr.Dataset, wanted: Wanted) -> list[Hashable]:
    """Return the variables whose blocks are looked at."""
    held = _held_text(ds)
    return [
        name
        for name, bits in wanted.items()
        if bits and ds.variables[name].size and name not in (*ds.xindexes, *held)
    ]


def _held_text(ds: xr.Dataset) -> list[Hashable]:
    """Return the variables that are looked at at once: sent to workers, text takes longer."""
    if all(variable.chunks is None for variable in ds.variables.values()):
        return []  # nothing says whether it is in memory
    return [
        name
        for name, variable in ds.variables.items()
        if variable.chunks is None and variable.dtype.kind in "OT" and variable.size
    ]


def _labels(ds: xr.Dataset, wanted: Wanted, kinds: Sequence[str]) -> dict[Hashable, Findings]:
    """Return what is found in the labels of indexes, and in text beside lazy variables."""
    found: dict[Hashable, Findings] = {}
    for name in _held_text(ds):
        if (bits := wanted.get(name, 0)) and name not in ds.xindexes:
            absent = None if bits & BIT["duplicates"] else absent_rows(ds, name)
            place = Place(start=0, absent=absent)
            found[name] = settled(look(ds.variables[name].values, place, bits=bits))
    for index, coords in ds.xindexes.group_by_index():
        values = {name: coord.values for name, coord in coords.items() if coord.size}
        for name, labels in values.items():
            found[name] = look(labels, Place(start=0), bits=wanted[name])
        size = index.row_size if isinstance(index, RaggedIndex) else None
        names = [name for name, labels in values.items() if labels.ndim == 1 and name != size]
        if "duplicates" in kinds and len({coords[name].dims for name in names}) == 1:
            twice = duplicated([values[name] for name in names])
            found[names[0]] = marked(found[names[0]], "duplicates", twice)
    return {name: one for name, one in found.items() if one.counts.any()}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Scanned:
    """What was found in all variables."""

    counts: Mapping[str, NDArray[np.int64]]
    """How much there is, by kind: (variable,)."""
    first: Mapping[str, NDArray[np.int64]]
    """In which row the first is, or -1, by kind: (variable,)."""
    bad: Mapping[Hashable, NDArray[np.bool_]]
    """Which rows hold anything bad, by dim: (row,)."""


def _scanned(ds: xr.Dataset, wanted: Wanted, kinds: Sequence[str]) -> Folded:
    """Return the record of all variables, lazily."""
    labels = _labels(ds, wanted, kinds)
    folded = {name: _folded(ds, name, wanted[name]) for name in _unlabelled(ds, wanted)}
    together = partial(
        _together,
        labels=tuple(labels.values()),
        variables=tuple(list(wanted).index(name) for name in (*folded, *labels)),
        dims=tuple(ds.variables[name].dims[0] for name in (*folded, *labels)),
        n_variables=len(wanted),
        sizes={dim: ds.sizes[dim] for dim in row_dims(ds)},
    )
    names = [one.name for one in folded.values()]
    key = f"scan-{tokenize(names, together)}"
    graph = {at: task for one in folded.values() for at, task in one.graph.items()}
    graph[(key,)] = Task((key,), together, List(*(TaskRef((name,)) for name in names)))
    return Folded(key, graph, ())


def _folded(ds: xr.Dataset, name: Hashable, bits: int) -> Folded:
    """Return what is found in the blocks of a variable, lazily."""
    variable = ds.variables[name].to_base_variable()
    if variable.chunks is None and variable.dtype.kind in "OT":
        variable = variable.chunk({variable.dims[0]: _TEXTS})  # of which dask knows no size
    array = blocked(variable)
    is_cut = bits & BIT["zero_rows"] and array.numblocks[-1] > 1
    edges = [tuple(accumulate(lengths, initial=0)) for lengths in array.chunks]
    absent = None if bits & BIT["duplicates"] else absent_rows(ds, name)
    place = partial(_place, edges, array.shape[1:-1] if is_cut else None, absent)
    axes = range(array.ndim)
    return fold(
        array, axes, partial(look, bits=bits), findings.merge, name=f"scan-{name}", extras=place
    )


def _place(
    edges: Sequence[tuple[int, ...]],
    beyond: tuple[int, ...] | None,
    absent: NDArray[np.bool_] | None,
    at: Index,
) -> Place:
    """Return where the block with an index lies."""
    start, stop = edges[0][at[0] : at[0] + 2]
    gone = None if absent is None else absent[start:stop]
    if beyond is None:
        return Place(start=start, absent=gone)
    middle = zip(edges[1:-1], at[1:-1], strict=True)
    within = tuple(slice(ends[i], ends[i + 1]) for ends, i in middle)
    return Place(start=start, beyond=beyond, within=within, absent=gone)


def _together(
    seen: list[Findings],
    *,
    labels: Sequence[Findings],
    variables: Sequence[int],
    dims: Sequence[Hashable],
    n_variables: int,
    sizes: Mapping[Hashable, int],
) -> _Scanned:
    """Return what was found in all variables; of others nothing was."""
    scanned = _Scanned(
        counts={kind: np.zeros(n_variables, np.int64) for kind in KINDS},
        first={kind: np.full(n_variables, -1) for kind in KINDS},
        bad={dim: np.zeros(size, bool) for dim, size in sizes.items()},
    )
    harmless = sum(BIT[kind] for kind in HARMLESS)
    for at, dim, part in zip(variables, dims, (*map(settled, seen), *labels), strict=True):
        for kind, count in zip(KINDS, part.counts, strict=True):
            scanned.counts[kind][at] = count
            if count:
                scanned.first[kind][at] = np.argmax(part.marks & BIT[kind] != 0)
        if dim in scanned.bad:
            scanned.bad[dim][part.marks & ~np.uint8(harmless) != 0] = True
    return scanned


def _counts(kinds: Sequence[str], scanned: _Scanned) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.sum([scanned.counts[kind] for kind in kinds], axis=0)
    return total


def _first(kind: str, scanned: _Scanned) -> NDArray[np.int64]:
    return scanned.first[kind]


def _bad(dim: Hashable, scanned: _Scanned) -> NDArray[np.bool_]:
    return scanned.bad[dim]
