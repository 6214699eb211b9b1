"""Sequences of any length, end to end -> arrays of one length, with a mask; block by block.

Which sequences make a grid is told in `grids`; what is in them isn't known here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.kernels.segments import spread
from h5dask.ops.folding import blocked
from h5dask.ops.grids import STRUCTURE, Grid, grid_of
from h5dask.ops.ragged import LENGTHS, MASK, POSITION, is_blocked, ragged_of
from h5dask.ops.runs import Ints, in_runs
from h5dask.positions import elements_of

_NAMED = 5
"""Sequences that a message names."""


def pad(ds: xr.Dataset, *, max_length: int | None = None, truncate: bool = False) -> xr.Dataset:
    """Return sequences of any length as arrays of one length, zeros behind the shorter ones.

    Parameters
    ----------
    ds : Dataset
        Of sequences end to end, with the index that `open_dataset` gives them.
    max_length : int, optional
        Length of all; that of the longest without it.
    truncate : bool, default False
        Whether what exceeds `max_length` is cut off.

    Returns
    -------
    Dataset
        Lazy where ds is. Of (structure, sample, noise[, temperature], position[, aa]) where
        structures agree in all but length, temperature only where there are several; else of
        (sequence, position[, aa]):

        - each variable of residues in its own dtype, with zeros where there is none (a zero may
          be an amino acid too: use the mask);
        - `mask`, bool, of the shape of `sequences`: where there is a residue;
        - `lengths` (structure) or (sequence) int64, in the order of all else.

        Variables and coords of sequences come along. Memory per task: a block of 16 MiB and what
        it is made of; a structure whose padded sequences are larger is a block of its own.

    Raises
    ------
    Refused
        A sequence is longer than `max_length`; the index is gone or its sizes don't add up.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> padded = pad(example("proteins"))
    >>> dict(padded.sequences.sizes)
    {'structure': 2, 'sample': 2, 'noise': 2, 'position': 6}
    >>> padded.lengths.values
    array([5, 6])
    """
    index = ragged_of(ds)
    width = _width(index, max_length, truncate=truncate)
    grid = grid_of(index)
    if grid.order is not None:
        ds, index = _ordered(ds, index, grid.order)
    lengths = np.diff(index.offsets)
    owned = {name: one for name, one in ds.variables.items() if index.ragged_dim in one.dims}
    sizes = _sizes(lengths, grid, width, owned.values())
    made: dict[Hashable, xr.Variable] = {}
    for name, one in owned.items():
        ordered = one.transpose(index.ragged_dim, ...)
        dims = (*grid.dims, POSITION, *ordered.dims[1:])
        values = _padded(blocked(ordered), lengths, sizes, grid, width)
        made[name] = xr.Variable(dims, values, one.attrs)
    mask = _masked(sizes, grid, width)
    made[MASK] = xr.Variable((*grid.dims, POSITION), mask, {"long_name": "has a residue"})
    each = np.minimum(lengths[:: grid.size], width)
    made[LENGTHS] = xr.Variable(grid.dims[:1], each, {"long_name": "number of residues"})
    for name, other in ds.data_vars.items():
        if name not in owned:
            made[name] = _reshaped(other.variable, index.dim, sizes, grid)
    result = xr.Dataset(made, grid.coords(ds, index), ds.attrs)
    both = {index.dim, index.ragged_dim}
    rest = {n: one.variable for n, one in ds.coords.items() if not both & set(one.dims)}
    result = result.set_coords([name for name in owned if name in ds.coords]).assign_coords(rest)
    return result if any(is_blocked(one) for one in owned.values()) else result.compute()


def _ordered(ds: xr.Dataset, index: RaggedIndex, order: Ints) -> tuple[xr.Dataset, RaggedIndex]:
    """Return sequences in another order, with what they own, and their index."""
    taken = {index.dim: order, index.ragged_dim: elements_of(index.offsets, order)}
    columns = index.table.take(order).columns
    moved = RaggedIndex(index.dim, index.ragged_dim, None, columns, index.row_size)
    cut = ds.drop_vars(index.table.names).isel(taken)
    return cut.assign_coords(xr.Coordinates.from_xindex(moved)), moved


def _width(index: RaggedIndex, most: int | None, *, truncate: bool) -> int:
    """Return the length of all sequences; Refused where some would be cut off unasked."""
    lengths = np.diff(index.offsets)
    longest = int(lengths.max(initial=0))
    if most is None:
        return longest
    try:
        is_length = operator.index(most) > 0
    except TypeError:
        is_length = False
    if not is_length:
        raise Refused(f"max_length: found {most!r}; expected a whole number, 1 or more")
    if most < longest and not truncate:
        long = np.flatnonzero(lengths > most)
        names = index.table[STRUCTURE].values if STRUCTURE in index.table.names else None
        owners = long if names is None else np.unique(names[long])
        what = index.dim if names is None else STRUCTURE
        told = ", ".join(map(str, owners[:_NAMED].tolist()))
        more = f" and {len(owners) - _NAMED} more" if len(owners) > _NAMED else ""
        raise Refused(
            f"max_length: found {most!r}, but {what} {told}{more} has up to {longest!r} residues; "
            f"give {longest!r} or more, or truncate=True to cut off what exceeds it"
        )
    return most


def _sizes(lengths: Ints, grid: Grid, width: int, owned: Iterable[xr.Variable]) -> da.Array:
    """Return the lengths of sequences in blocks of which each becomes one of the result."""
    inner = (math.prod(one.shape) // max(1, _length(one)) * one.dtype.itemsize for one in owned)
    nbytes = grid.size * width * max(inner, default=1)
    rows = grid.size * max(1, BLOCK_SIZE // max(1, nbytes))
    sizes: da.Array = da.from_array(lengths, chunks=rows)
    return sizes


def _length(variable: xr.Variable) -> int:
    return variable.shape[0]


def _padded(values: da.Array, lengths: Ints, sizes: da.Array, grid: Grid, width: int) -> da.Array:
    """Return elements (element, ...) as (row, ..., width, ...), a block each of `sizes`."""
    n_grid, inner = len(grid.shape), range(1, values.ndim)
    held = in_runs(values.rechunk(dict.fromkeys(inner, -1)), np.cumsum(lengths), _ends(sizes))
    axes = tuple(n_grid + axis for axis in inner)
    made: da.Array = da.blockwise(
        partial(_spread_block, width=width, shape=grid.shape[1:]),
        (*range(n_grid), n_grid, *axes),
        held,
        (0, *axes),
        sizes,
        (0,),
        new_axes={**dict(enumerate(grid.shape[1:], 1)), n_grid: width},
        adjust_chunks={0: _rows(sizes, grid)},
        align_arrays=False,
        dtype=values.dtype,
        meta=np.empty((0,) * (n_grid + values.ndim), values.dtype),
        token="pad",
    )
    return made


def _spread_block(
    values: NDArray[Any], sizes: Ints, *, width: int, shape: tuple[int, ...]
) -> NDArray[Any]:
    rows = spread(values, sizes, width)
    return rows.reshape(len(sizes) // math.prod(shape), *shape, *rows.shape[1:])


def _masked(sizes: da.Array, grid: Grid, width: int) -> da.Array:
    n_grid = len(grid.shape)
    made: da.Array = da.blockwise(
        partial(_mask_block, width=width, shape=grid.shape[1:]),
        (*range(n_grid), n_grid),
        sizes,
        (0,),
        new_axes={**dict(enumerate(grid.shape[1:], 1)), n_grid: width},
        adjust_chunks={0: _rows(sizes, grid)},
        dtype=np.bool_,
        meta=np.empty((0,) * (n_grid + 1), np.bool_),
        token="mask",
    )
    return made


def _mask_block(sizes: Ints, *, width: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.arange(width) < sizes[:, np.newaxis]
    return found.reshape(len(sizes) // math.prod(shape), *shape, width)


def _reshaped(variable: xr.Variable, dim: Hashable, sizes: da.Array, grid: Grid) -> xr.Variable:
    """Return a variable of sequences along the grid's dims; any other as it is."""
    if dim not in variable.dims or len(grid.dims) == 1:
        return variable
    ordered = variable.transpose(dim, ...)
    values = ordered.data
    if is_blocked(variable):
        values = values.rechunk({0: sizes.chunks[0]})
    made = values.reshape(*grid.shape, *ordered.shape[1:])
    return xr.Variable((*grid.dims, *ordered.dims[1:]), made, variable.attrs)


def _rows(sizes: da.Array, grid: Grid) -> tuple[int, ...]:
    return tuple(n // grid.size for n in sizes.chunks[0])


def _ends(sizes: da.Array) -> Ints:
    return np.cumsum(sizes.chunks[0])
