"""Rows that own parts of a second dim: the index that says so, and the names that go with it."""

from __future__ import annotations

import xarray as xr

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex

SEQUENCE, RESIDUE, POSITION = "sequence", "residue", "position"
LENGTHS, MASK, ROW_SIZE = "lengths", "mask", "row_size"


def is_blocked(variable: xr.Variable) -> bool:
    """Whether a variable's values are a dask array."""
    return variable.chunks is not None


def ragged_of(ds: xr.Dataset) -> RaggedIndex:
    """Return the one index by which rows own parts of a second dim.

    Raises
    ------
    Refused
        There is none, there are several, or its sizes don't add up to what there is.
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
