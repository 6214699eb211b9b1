"""Rows that own parts of a second dim: the index that says so, and the names that go with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex

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
            "isel along its dim drops it: select rows by label (sel)"
        )
    (index,) = found
    index.refuse_cut(ds.sizes.get(index.ragged_dim, index.size))
    return index
