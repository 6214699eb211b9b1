"""What an operation is asked to work on: variables, dims, coords that stay. Nothing is computed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from types import EllipsisType
from typing import TypeAlias

import numpy as np
import xarray as xr

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.moments import KINDS

Dims: TypeAlias = str | Iterable[Hashable] | EllipsisType
"""Dims that are reduced; `...` for all."""


def name_of(x: xr.DataArray) -> str:
    """Return what errors and tasks call an array."""
    return "values" if x.name is None else str(x.name)


def numbers_along(x: xr.Dataset, dim: Dims) -> dict[str, xr.DataArray]:
    """Return the variables of numbers that have all the dims; Refused where there are none."""
    found = {
        str(name): variable
        for name, variable in x.data_vars.items()
        if variable.dtype.kind in KINDS and set(_wanted(variable, dim)) <= set(variable.dims)
    }
    if not found:
        there = (f"{name} {variable.dtype} {variable.dims}" for name, variable in x.items())
        raise Refused(
            f"dim: found no variable of numbers that has {dim!r}; expected one; there are "
            + (", ".join(there) or "none")
        )
    return found


def refuse_other_than_numbers(x: xr.DataArray) -> None:
    """Refuse text, times and complex numbers, of which there is no such statistic."""
    if x.dtype.kind not in KINDS:
        what = "text" if x.dtype.kind in "OUST" else str(x.dtype)
        raise Refused(f"{name_of(x)}: found {what}; expected numbers; name another variable")


def kept_coords(x: xr.Dataset | xr.DataArray, dims: Iterable[Hashable]) -> xr.Dataset:
    """Return a Dataset of those coords alone that lie along some dims, and no others."""
    kept = set(dims)
    for index in x.xindexes.values():
        if isinstance(index, RaggedIndex) and index.ragged_dim in kept:
            kept.add(index.dim)  # the labels of what owns parts of a kept dim
    ds = x.drop_attrs(deep=False) if isinstance(x, xr.Dataset) else x.coords.to_dataset()
    lost = [name for name, one in ds.coords.items() if not set(one.dims) <= kept]
    return ds.drop_vars([*ds.data_vars, *lost])


def dims_of(x: xr.DataArray, dim: Dims) -> tuple[Hashable, ...]:
    """Return the dims that are meant, in the order of x's; Refused where it hasn't all of them."""
    wanted = _wanted(x, dim)
    missing = [str(one) for one in wanted if one not in x.dims]
    if missing:
        raise Refused(
            f"{name_of(x)}: found no dim {', '.join(missing)}; expected of "
            f"{', '.join(map(str, x.dims))}"
        )
    return tuple(one for one in x.dims if one in wanted)


def _wanted(x: xr.DataArray, dim: Dims) -> tuple[Hashable, ...]:
    if isinstance(dim, EllipsisType):
        return x.dims
    return (dim,) if isinstance(dim, str) else tuple(dim)


def is_lazy(x: xr.DataArray) -> bool:
    """Whether values are computed only when asked for: what is made of them will be too."""
    return x.chunks is not None


def is_count(number: object) -> bool:
    """Whether something counts, as 2 does, and neither True nor 2.0."""
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)
