"""Rows that own parts of a second dim: the index that says so, rows taken with what they own."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.runs import Ints

SEQUENCE, RESIDUE, POSITION = "sequence", "residue", "position"
LENGTHS, MASK, ROW_SIZE = "lengths", "mask", "row_size"


def is_blocked(variable: xr.Variable) -> bool:
    """Whether a variable's values are a dask array."""
    return variable.chunks is not None


def presence(name: Any) -> str:
    """Return the name of the coord that says which rows have a variable that others lack."""
    return f"has_{name}"


def absent_rows(ds: xr.Dataset, name: Any) -> NDArray[np.bool_] | None:
    """Return which rows of a variable there is nothing of, which read as NaN; None for none.

    Parameters
    ----------
    ds : Dataset
        With the coord `has_{name}` of rows, where some lack the variable.
    name : hashable
        The variable.
    """
    there, dim = ds.coords.get(presence(name)), ds.variables[name].dims[0]
    if there is None or there.ndim != 1 or there.dtype != np.bool_ or there.values.all():
        return None
    absent: NDArray[np.bool_] = ~there.values
    if there.dims == (dim,):
        return absent
    for index in ds.xindexes.get_unique():
        if isinstance(index, RaggedIndex) and (index.dim, index.ragged_dim) == (*there.dims, dim):
            return np.repeat(absent, np.diff(index.offsets))
    return None


def ragged_of(ds: xr.Dataset) -> RaggedIndex:
    """Return the one index by which rows own parts of a second dim.

    Parameters
    ----------
    ds : Dataset
        As `open_dataset` gives it, of any selection by label.

    Returns
    -------
    RaggedIndex
        Its `offsets` (row + 1) int64 say where each row's part begins, and the last one ends.

    Raises
    ------
    Refused
        There is none, there are several, or its sizes don't add up to what there is.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> ragged_of(example("proteins")).offsets
    array([ 0,  5, 10, 15, 20, 26, 32, 38, 44])
    """
    found = [index for index in ds.xindexes.get_unique() if isinstance(index, RaggedIndex)]
    if len(found) != 1:
        there = ", ".join(f"{index.dim} over {index.ragged_dim}" for index in found) or "none"
        raise Refused(
            f"the Dataset: found {there}; expected one RaggedIndex, as open_dataset makes it; "
            "isel along its dim drops it: select rows by label (sel), or by position (take)"
        )
    (index,) = found
    index.refuse_cut(ds.sizes.get(index.ragged_dim, index.size))
    return index


def take(ds: xr.Dataset, rows: ArrayLike) -> xr.Dataset:
    """Return rows by position, in the order that is given, with all that they own.

    ``isel`` along the rows can't do that, as it leaves what they own whole.

    Parameters
    ----------
    ds : Dataset
        As `open_dataset` gives it, with one `RaggedIndex`.
    rows : array_like
        Positions of rows, those from the end negative, or a mask with a value for each row; a
        list, an array or a DataArray along the rows, such as ``score.values.argsort()[:5]`` or
        ``score < 0.8``. Loaded.

    Returns
    -------
    Dataset
        As lazy as ds; attributes, labels and encodings stay.

    Raises
    ------
    Refused
        There isn't one index, or rows are no positions of rows, or no mask of all.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> ds = example("proteins")
    >>> best = take(ds, [6, 0])
    >>> best.structure.values, best.row_size.values, best.sequences.size
    (array([7, 3], dtype=int32), array([6, 5], dtype=int32), 11)
    """
    index = ragged_of(ds)
    cut = index.cut(_positions(rows, index))
    coords = xr.Coordinates(cut.variables, cut.indexes)
    for name, variable in coords.variables.items():
        variable.attrs.update(ds[name].attrs)
        variable.encoding.update(ds[name].encoding)
    return ds.isel(cut.dim_indexers).assign_coords(coords)


def _positions(rows: ArrayLike, index: RaggedIndex) -> Ints:
    """Return positions of rows, none negative; Refused where they are something else."""
    n_rows, dims = index.table.n_rows, getattr(rows, "dims", (index.dim,))
    found = np.asarray(rows)
    if found.size == 0 and found.dtype.kind == "f":
        found = found.astype(np.int64)  # an empty list has no int dtype
    is_mask = found.dtype.kind == "b"
    fits = dims == (index.dim,) and found.ndim == 1 and found.dtype.kind in "iub"
    if fits and is_mask and len(found) == n_rows:
        return np.flatnonzero(found)
    if fits and not is_mask and ((found >= -n_rows) & (found < n_rows)).all():
        return found.astype(np.int64) % max(1, n_rows)
    told = f"{found.dtype} of shape {found.shape!r}" + (
        f" from {found.min().item()!r} to {found.max().item()!r}" if fits and not is_mask else ""
    )
    along = f" along {', '.join(map(str, dims))}" if dims != (index.dim,) else ""
    raise Refused(
        f"rows: found {told}{along}; expected positions from {-n_rows} to {n_rows - 1} along "
        f"{index.dim}, or a mask of {n_rows}; give a list, such as score.values.argsort()[:5]"
    )
