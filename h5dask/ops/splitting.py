"""Arrays of one length -> sequences as they are, end to end; the inverse of `padding`."""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.kernels.segments import gather
from h5dask.ops.folding import blocked
from h5dask.ops.grids import AXES, STRUCTURE, rows_of
from h5dask.ops.ragged import LENGTHS, MASK, POSITION, RESIDUE, ROW_SIZE, SEQUENCE, is_blocked
from h5dask.ops.runs import Ints, lengths_of

_NAMED = 5
"""Lengths that a message names."""


def split(padded: xr.Dataset) -> xr.Dataset:
    """Return sequences of one length as they are, end to end; the inverse of `pad`.

    Parameters
    ----------
    padded : Dataset
        As `pad` returns it, also read back from a file: `lengths`, and variables of
        (structure, sample, noise[, temperature], position, ...) or (sequence, position, ...).

    Returns
    -------
    Dataset
        The analysis form, lazy where padded is: each variable of (residue, ...), the labels of
        `sequence` and `row_size` in a `RaggedIndex`. Lengths are read at once. What lies behind a
        sequence's length isn't looked at. Memory per task: a block, and what becomes of it.

    Raises
    ------
    Refused
        There are no lengths, or some exceed the arrays.

    Examples
    --------
    >>> from h5dask.ops.padding import pad
    >>> from h5dask.testing import example
    >>> ds = example("proteins")
    >>> split(pad(ds)).identical(ds)
    True
    """
    dims, lengths = _rows_and_lengths(padded)
    shape = tuple(padded.sizes[dim] for dim in dims)
    n_each = math.prod(shape[1:])
    labels = rows_of(padded, dims, SEQUENCE)
    labels[ROW_SIZE] = np.repeat(lengths, n_each).astype(np.int32)
    made: dict[Hashable, xr.Variable] = {}
    for name, one in padded.variables.items():
        if POSITION in one.dims and name not in (MASK, POSITION):
            ordered = one.transpose(*dims, POSITION, ...)
            values = _gathered(blocked(ordered), labels[ROW_SIZE], n_each, len(dims))
            made[name] = xr.Variable((RESIDUE, *ordered.dims[len(dims) + 1 :]), values, one.attrs)
        elif name in padded.data_vars and name not in (LENGTHS, MASK):
            made[name] = _flattened(one, dims)
    ids = {STRUCTURE, *AXES, ROW_SIZE, f"{STRUCTURE}_id", f"source_{STRUCTURE}"}
    total = int(labels[ROW_SIZE].sum())
    index = RaggedIndex(SEQUENCE, RESIDUE, total, {n: labels[n] for n in labels if n in ids})
    result = xr.Dataset(made, xr.Coordinates.from_xindex(index), padded.attrs)
    result = result.assign_coords(
        {
            name: (SEQUENCE, values, padded[name].attrs)
            for name, values in labels.items()
            if name not in ids
        }
    )
    gone = {*dims, POSITION}
    rest = {n: one.variable for n, one in padded.coords.items() if not gone & set(one.dims)}
    result = result.assign_coords({n: one for n, one in rest.items() if n not in labels})
    lazy = any(is_blocked(one) for one in padded.variables.values() if POSITION in one.dims)
    return result if lazy else result.compute()


def _rows_and_lengths(padded: xr.Dataset) -> tuple[tuple[Hashable, ...], Ints]:
    """Return the dims of rows, and how long the sequences along the first of them are."""
    wide = [one for name, one in padded.data_vars.items() if POSITION in one.dims and name != MASK]
    if LENGTHS not in padded or not wide:
        raise Refused(
            f"the Dataset: found variables {sorted(map(str, padded.variables))!r}; expected "
            f"{LENGTHS!r} and some along {POSITION!r}, as pad() returns them"
        )
    first = wide[0].dims[: wide[0].dims.index(POSITION)]
    dims = tuple(dim for dim in (STRUCTURE, *AXES, SEQUENCE) if dim in first)
    lengths: Ints = np.asarray(padded[LENGTHS].values, np.int64)
    width = padded.sizes[POSITION]
    fits = padded[LENGTHS].dims == dims[:1] and set(dims) == set(first)
    bad = np.flatnonzero((lengths < 0) | (lengths > width))
    if not fits or len(bad):
        told = f"{lengths.ravel()[bad[:_NAMED]].tolist()!r}" if len(bad) else f"dims {first!r}"
        raise Refused(
            f"{LENGTHS}: found {told}; expected numbers from 0 to {width!r} along the first dim "
            f"of ({STRUCTURE}, {', '.join(AXES)}, {POSITION}) or ({SEQUENCE}, {POSITION})"
        )
    return dims, lengths


def _gathered(values: da.Array, sizes: Ints, n_each: int, n_rows: int) -> da.Array:
    """Return (row, ..., position, ...) as (element, ...)."""
    held = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    counts = da.from_array(sizes, chunks=(tuple(n * n_each for n in held.chunks[0]),))
    residues = lengths_of(np.cumsum(sizes), np.cumsum(counts.chunks[0]))
    inner = tuple(range(n_rows + 1, values.ndim))
    made: da.Array = da.blockwise(
        partial(_gather_block, n_rows=n_rows),
        (0, *inner),
        held,
        tuple(range(values.ndim)),
        counts,
        (0,),
        adjust_chunks={0: residues},
        align_arrays=False,
        concatenate=True,
        dtype=values.dtype,
        meta=np.empty((0,) * (1 + len(inner)), values.dtype),
        token="split",
    )
    return made


def _gather_block(values: NDArray[Any], sizes: Ints, *, n_rows: int) -> NDArray[Any]:
    return gather(values.reshape(len(sizes), *values.shape[n_rows:]), sizes.astype(np.int64))


def _flattened(variable: xr.Variable, dims: tuple[Hashable, ...]) -> xr.Variable:
    """Return a variable of rows along the sequences' dim; any other as it is."""
    if not set(dims) <= set(variable.dims):
        return variable
    ordered = variable.transpose(*dims, ...)
    rest = ordered.shape[len(dims) :]
    return xr.Variable(
        (SEQUENCE, *ordered.dims[len(dims) :]), ordered.data.reshape(-1, *rest), variable.attrs
    )
