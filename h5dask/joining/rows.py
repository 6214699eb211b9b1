"""The rows of Datasets end to end: their values, their labels, and what is beside these.

What parts must share lies in `joining`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.groups import Groups
from h5dask.layout import Layout
from h5dask.ops.ragged import presence

_NAMED = 5
"""Groups that a message names."""


def names_of(parts: Sequence[xr.Dataset]) -> list[str]:
    """Return the file of each Dataset, or which it is."""
    return [str(part.encoding.get("source", f"Dataset {i}")) for i, part in enumerate(parts)]


def beside_labels(layout: Layout) -> set[str]:
    """Return the coords of rows that aren't labels of theirs: where from, and what there is."""
    return {"source", *(presence(spec.name) for spec in layout.arrays if spec.may_be_absent)}


def row_coords(part: xr.Dataset, layout: Layout) -> dict[str, Any]:
    """Return the in-memory labels of a Dataset's rows, without what is beside them."""
    beside = beside_labels(layout)
    return {
        str(name): coord.values
        for name, coord in part.coords.items()
        if coord.dims == (layout.along,) and name not in beside and layout.labels is not None
    }


def present(layout: Layout, parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, xr.Variable]:
    """Return for each variable that some rows lack which have it: (row) bool.

    Parameters
    ----------
    layout : Layout
        What the parts are read as.
    parts : sequence of mapping
        For each part: whether each row has a variable, by the variable's name; one that it
        doesn't name isn't there at all. The key "" is of all rows.
    """
    found = {}
    for name in [spec.name for spec in layout.arrays if spec.may_be_absent]:
        rows = np.concatenate([part.get(name, np.zeros_like(part[""])) for part in parts])
        if rows.any() and not rows.all():
            words = {"long_name": f"whether there are {name}"}
            found[presence(name)] = xr.Variable(layout.along, rows, words)
    return found


def joined_rows(
    layout: Layout,
    parts: Sequence[xr.Dataset],
    labels: Sequence[Mapping[str, Any]],
    distinct: Sequence[Mapping[str, Any]],
) -> xr.Dataset:
    """Return the variables of Datasets end to end, with their coords.

    Parameters
    ----------
    layout : Layout
        Of all of them.
    parts : sequence of Dataset
        In order.
    labels, distinct : sequence of mapping
        The labels of each one's rows, as they were and as they are distinct.
    """
    along = str(layout.along)
    sizes = [dict(part.sizes) for part in parts]
    names = list(dict.fromkeys(str(n) for part in parts for n in part.variables))
    row_labels, beside = {str(name) for part in labels for name in part}, beside_labels(layout)
    variables = {}
    for name in names:
        if name in row_labels | beside:
            continue
        model = next(part.variables[name] for part in parts if name in part.variables)
        rows = next((dim for dim in model.dims if dim in {*layout.ragged_dims, along}), None)
        if rows is None:
            variables[name] = model
            continue
        model = model.transpose(rows, ...)
        pieces = [
            part.variables[name].transpose(*model.dims).data
            if name in part.variables
            else _nan(model, size)
            for part, size in zip(parts, sizes, strict=True)
        ]
        lazy = any(isinstance(piece, da.Array) for piece in pieces)
        values = da.concatenate([*map(_lazy, pieces)]) if lazy else np.concatenate(pieces)
        variables[name] = xr.Variable(model.dims, values, model.attrs)
    kept = {str(name) for part in parts for name in part.coords}
    result = xr.Dataset(
        {n: v for n, v in variables.items() if n not in kept},
        coords={n: v for n, v in variables.items() if n in kept},
    )
    if layout.labels is not None and layout.index is not None:
        keys = [key for key in distinct[0] if all(key in part for part in distinct)]
        joined = {key: np.concatenate([part[key] for part in distinct]) for key in keys}
        index = layout.index(joined, {str(d): n for d, n in result.sizes.items()})
        result = result.assign_coords(xr.Coordinates.from_xindex(index))
    there = present(layout, [_present_in(part, along) for part in parts])
    source = (along, np.concatenate(_sources(parts, along)))
    return result.assign_coords({"source": source, **there})


def _present_in(part: xr.Dataset, along: str) -> dict[str, NDArray[Any]]:
    """Return whether each row has a variable, as `present` takes it."""
    every = np.ones(part.sizes[along], np.bool_)
    names = [str(name) for name in part.variables]
    said = {name: part.coords.get(presence(name)) for name in names}
    return {"": every} | {n: every if one is None else one.values for n, one in said.items()}


def _lazy(values: Any) -> da.Array:
    """Return values as a dask array; in memory in blocks: dask has none for text."""
    if isinstance(values, da.Array):
        return values
    rows = max(1, BLOCK_SIZE // max(1, values[:1].nbytes))
    cut: da.Array = da.from_array(values, chunks=(rows, *values.shape[1:]))
    return cut


def _sources(parts: Sequence[xr.Dataset], along: str) -> list[Any]:
    found = []
    for part, name in zip(parts, names_of(parts), strict=True):
        if "source" in part.coords and part["source"].dims == (along,):
            found.append(part["source"].values.astype(object))
        else:
            found.append(np.full(part.sizes[along], name, object))
    return found


def _nan(model: xr.Variable, sizes: Mapping[Any, int]) -> da.Array:
    shape = tuple(sizes.get(d, n) for d, n in zip(model.dims, model.shape, strict=True))
    absent: da.Array = da.full(shape, np.nan, dtype=model.dtype)
    return absent


def say_empty(layout: Layout, file: str, groups: Groups) -> None:
    """Warn of a file's groups that have no rows, where these then are nowhere in the Dataset."""
    counts = groups.counts.get(str(layout.along))
    if layout.keep_empty or counts is None:
        return
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        paths = [f"/{layout.folder_of(groups.keyed(group))}" for group in empty[:_NAMED]]
        more = f" and {len(empty) - _NAMED:,} more" if len(empty) > _NAMED else ""
        warnings.warn(
            f"{file}: {', '.join(paths)}{more}: found no rows along {layout.along}; left out of "
            "the Dataset",
            UserWarning,
            stacklevel=4,
        )
