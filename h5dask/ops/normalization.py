"""Values brought to a common scale: fitted on some, applied to these or others, block by block.

What becomes of one block lies in `scales`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute as dask_compute
from numpy.typing import NDArray

from h5dask.columns import listed
from h5dask.errors import Refused
from h5dask.ops.choosing import Dims, dims_of, is_lazy, name_of, refuse_other_than_numbers
from h5dask.ops.components import pca
from h5dask.ops.scales import rotated, scaled, unit, warn_of
from h5dask.ops.statistics import summarize

Compute = Callable[..., tuple[Any, ...]]
_FLAT = 1e-12
"""Of a direction's variance in the largest one's: rounding alone leaves so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """One way to normalise."""

    needs: tuple[str, ...]
    """Statistics that are fitted."""
    scale: Callable[[xr.Dataset], tuple[Any, Any]]
    """Takes them; gives what is subtracted, and what the rest is divided by: 0 leaves it as it is,
    infinity makes it 0."""


def _axes(of: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the mean, and the deviation along each axis: infinite where there is no variance."""
    variance = of["explained_variance"]
    rounding = _FLAT * np.fmax.reduce(variance.values, initial=0.0)
    return of["mean"], variance.where(~(variance <= rounding), np.inf) ** 0.5


HOW: Mapping[str, How] = {
    "l2": How(needs=(), scale=lambda _: (0.0, 1.0)),
    "zscore": How(needs=("mean", "std"), scale=lambda of: (of["mean"], of["std"])),
    "center": How(needs=("mean",), scale=lambda of: (of["mean"], 1.0)),
    "minmax": How(needs=("min", "max"), scale=lambda of: (of["min"], of["max"] - of["min"])),
    "whiten": How(needs=("mean", "components", "explained_variance"), scale=_axes),
}
"""Ways to normalise, by name."""


def way_of(how: str) -> How:
    """Return a way to normalise; Refused where there is none of that name."""
    if how not in HOW:
        raise Refused(f"how: found {how!r}; expected one of {', '.join(map(repr, HOW))}")
    return HOW[how]


def fit(x: xr.DataArray, how: str, *, dim: Dims, compute: Compute = dask_compute) -> xr.Dataset:
    """Return the statistics by which values are normalised; all of them are read once, here.

    Parameters
    ----------
    x : DataArray
        Of numbers.
    how : {"l2", "zscore", "center", "minmax", "whiten"}
        As for `normalize`. "l2" needs no statistics.
    dim : str, iterable of str, or ...
        What the statistics are taken over, usually the rows. Of "whiten", all but one dim.
    compute : callable, default dask.compute
        What computes dask collections.

    Returns
    -------
    Dataset
        In memory: `mean` and `std`, `mean`, `min` and `max`, or `mean`, `components` and
        `explained_variance`, in float64 along the dims that are kept. Attributes `how` and `dim`
        say what it is for; it can be written by `to_netcdf` and serve other files.

    Warns
    -----
    Loss
        Places are constant, so that there is nothing to divide by; or nothing is finite.

    Raises
    ------
    Refused
        Not numbers, no such way, or no such dim.

    Examples
    --------
    >>> x = xr.DataArray([[1.0, 10.0], [3.0, 30.0]], dims=("row", "feature"))
    >>> found = fit(x, "zscore", dim="row")
    >>> found["mean"].values, found["std"].values
    (array([ 2., 20.]), array([ 1., 10.]))
    """
    way = way_of(how)
    _refuse_other_than_one(x)
    refuse_other_than_numbers(x)
    dims = dims_of(x, dim)
    if how == "whiten":
        columns = math.prod(size for one, size in x.sizes.items() if one not in dims)
        found = pca(x, columns, dim=dims)
    else:
        found = summarize(x, dims) if way.needs else xr.Dataset()
    fitted: xr.Dataset = compute(found[list(way.needs)])[0].astype(np.float64)
    fitted.attrs = {"how": how, "dim": ",".join(map(str, dims))}
    _warn_of_places(name_of(x), how, fitted)
    return fitted


def normalize(
    x: xr.DataArray, how: str = "l2", *, dim: Dims | None = None, fitted: xr.Dataset | None = None
) -> xr.DataArray:
    """Return values on a common scale, lazily, in their own dtype.

    Parameters
    ----------
    x : DataArray
        Of numbers.
    how : {"l2", "zscore", "center", "minmax", "whiten"}, default "l2"
        "l2": vectors along `dim` get the length 1. "zscore": (x - mean) / std. "center":
        x - mean. "minmax": (x - min) / (max - min). "whiten": (x - mean) along the principal
        axes, the largest first, each divided by its standard deviation.
    dim : str, iterable of str, or ...
        Of "l2", along what the vectors lie. Of all others, over what statistics are taken; with
        `fitted` it isn't needed.
    fitted : Dataset, optional
        What `fit` gave, for this or another array. Without it, `fit` reads all of x first.

    Returns
    -------
    DataArray
        Lazy where x is, with its labels; float32 where x is of integers, else of x's dtype. Work
        is done in float64 and rounded once; by the same statistics the result is the same for any
        blocks, of "whiten" but for the last digits. Zero vectors stay zero, and vectors of "l2"
        and "whiten" with anything that isn't finite become NaN; constant places are only shifted,
        and directions without variance become 0. Memory per task: two blocks and 8 MiB.

    Warns
    -----
    Loss
        While a block is computed: how many of its vectors are zero or not finite, and how many of
        its finite values the dtype can't hold, which become infinite.

    Raises
    ------
    Refused
        Not numbers; no such way or dim; `fitted` is for another way, of another size, or of other
        labels.

    Examples
    --------
    >>> x = xr.DataArray([[3.0, 4.0], [0.0, 2.0]], dims=("row", "feature"))
    >>> normalize(x, dim="feature").values
    array([[0.6, 0.8],
           [0. , 1. ]])
    """
    way = way_of(how)
    _refuse_other_than_one(x)
    refuse_other_than_numbers(x)
    if fitted is None:
        if dim is None:
            raise Refused(_dims_wanted(x, how))
        dim = dims_of(x, dim)
        fitted = fit(x, how, dim=dim)
    _refuse_unfit(x, how, fitted)
    # What labels the statistics is theirs: the result keeps the labels of x.
    shift, scale = way.scale(fitted.drop_vars(list(fitted.coords)).compute())
    if how == "l2":
        dims = dims_of(x, fitted.attrs["dim"].split(",") if dim is None else dim)
        return _applied(partial(unit, n_axes=len(dims)), x, dims)
    if how == "whiten":
        columns = tuple(one for one in x.dims if one in shift.dims)
        axes = fitted["components"].variable, ("component", *columns)
        return _applied(rotated, x, columns, (shift, columns), axes, (scale, ("component",)))
    return _applied(scaled, x, (), (shift, ()), (scale, ()))


def _refuse_other_than_one(x: Any) -> None:
    """Refuse what isn't one variable, such as all of them."""
    if not isinstance(x, xr.DataArray):
        names = [name for name, one in x.items() if one.ndim > 1] if hasattr(x, "data_vars") else []
        such = f", such as ds.{names[0]}" if names else ", as a DataArray"
        raise Refused(f"x: found a {type(x).__name__}, expected one variable{such}")


def _dims_wanted(x: xr.DataArray, how: str) -> str:
    """Return what is said where no dims are named, with those that are usual for a way."""
    dims = list(map(str, x.dims))
    usual = dims[-1:] if how == "l2" else dims[:-1] if how == "whiten" else dims[:1]
    such = f'"{usual[0]}"' if len(usual) == 1 else repr(tuple(usual))
    return f"dim: found None, expected the dims to normalise over, such as dim={such}, or fitted="


def dtype_of(x: xr.DataArray) -> np.dtype[Any]:
    """Return the dtype of values on a common scale: their own, or float32 of integers."""
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)


def _refuse_unfit(x: xr.DataArray, how: str, fitted: xr.Dataset) -> None:
    """Refuse statistics that can't be applied, and say all that is wrong."""
    faults = []
    if fitted.attrs.get("how") != how:
        faults.append(f"fitted: found what was fitted for {fitted.attrs.get('how')!r}, not {how!r}")
    if lacking := [name for name in HOW[how].needs if name not in fitted]:
        faults.append(f"fitted: found no {', '.join(lacking)}; expected what fit() gave")
    for one, size in fitted.sizes.items():
        if one != "component" and x.sizes.get(one) != size:
            faults.append(
                f"fitted: found {one} of size {size}, {name_of(x)} has "
                f"{x.sizes.get(one, 'no such dim')}; fit on values of the same width"
            )
    for name in (name for name in fitted.coords if name in x.xindexes):
        own, other = (pd.Index(one[name].values) for one in (x, fitted))
        if own.size == other.size and not own.equals(other):
            faults.append(
                f"fitted: found {name} {listed(other)}, {name_of(x)} has {listed(own)}; select the "
                "same of both"
            )
    if faults:
        raise Refused("\n".join(faults))


def _applied(
    function: Callable[..., NDArray[Any]],
    x: xr.DataArray,
    whole: tuple[Hashable, ...],
    *others: tuple[Any, tuple[Hashable, ...]],
) -> xr.DataArray:
    """Apply a function to blocks that are whole along some dims, which come last, and to others."""
    dtype = dtype_of(x)
    if not x.size:
        return x.astype(dtype)
    values = x.chunk(dict.fromkeys(whole, -1)) if is_lazy(x) else x
    made = xr.apply_ufunc(
        partial(function, name=name_of(x), dtype=dtype),
        values,
        *(other for other, _ in others),
        input_core_dims=[whole, *(dims for _, dims in others)],
        output_core_dims=[whole],
        dask="parallelized",
        output_dtypes=[dtype],
        keep_attrs=True,
    ).transpose(*x.dims)
    made.name = x.name
    return cast(xr.DataArray, made)


def _warn_of_places(name: str, how: str, fitted: xr.Dataset) -> None:
    """Warn of places at which there is nothing to divide by, or nothing at all."""
    shift, scale = (np.asarray(one) for one in HOW[how].scale(fitted))
    flat = ((scale == 0) | np.isinf(scale)).sum()
    empty = np.isnan(shift).sum()
    if how == "whiten":
        warn_of(name, flat, scale.size, "directions have no variance, and become 0")
        warn_of(name, empty, shift.size, "columns have no whole vector, and become NaN")
    else:
        warn_of(name, flat, scale.size, "places are constant, and are only shifted")
        warn_of(name, empty, shift.size, "places have no finite value, and become NaN")
