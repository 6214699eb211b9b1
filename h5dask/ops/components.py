"""Covariance and principal components, out of core: blocked products in float64."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.ops.choosing import (
    Dims,
    dims_of,
    is_lazy,
    kept_coords,
    name_of,
    refuse_other_than_numbers,
)
from h5dask.ops.folding import TASKS, Folded, blocked, fold

_PIECE = 2**19
"""Values that are made float64 at once."""
_STRIP = 256
"""Columns whose products with all others are added at once."""
_COUNTS = ("count", "skipped")
"""What is whole numbers."""
_AT_ONCE = 2**30
"""Bytes of matrices that tasks may hold before they are merged."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scatter:
    """Sums of products of what rows have in two columns."""

    count: int
    """Rows without anything that isn't finite ..."""
    skipped: int
    """... and the others, which are left out."""
    mean: NDArray[np.float64]
    """Of each column: (column,)."""
    products: NDArray[np.float64]
    """Of deviations from the mean: (column, column)."""


def scatter(block: NDArray[Any], *, kept: int) -> Scatter:
    """Return the products of a block's columns, which are along the axis `kept`."""
    rows = np.moveaxis(block, kept, -1).reshape(-1, block.shape[kept])
    n_columns = rows.shape[1]
    products = np.zeros((n_columns, n_columns))
    sums, shift, count = np.zeros(n_columns), None, 0
    step = max(1, _PIECE // max(n_columns, 1))
    for first in range(0, len(rows), step):
        piece = rows[first : first + step].astype(np.float64)
        piece = piece[np.isfinite(piece).all(axis=1)]
        if not len(piece):
            continue
        # An offset costs no digits: what is multiplied are differences from one amid the rows.
        shift = piece.mean(axis=0) if shift is None else shift
        piece -= shift
        sums += piece.sum(axis=0)
        count += len(piece)
        add_products(products, piece)
    off = sums / max(count, 1)
    _subtract(products, off, float(count))
    mean = off if shift is None else shift + off
    return Scatter(count=count, skipped=len(rows) - count, mean=mean, products=products)


def merge(parts: list[Scatter]) -> Scatter:
    """Return the products of all rows that several were made of (Chan, Golub and LeVeque 1979)."""
    first, *others = parts
    if not others:
        return first
    count, mean, products = first.count, first.mean, first.products.copy()
    for part in others:
        total = count + part.count
        if part.count:
            gap = part.mean - mean
            products += part.products
            _subtract(products, gap, -count * part.count / total)
            mean = mean + gap * (part.count / total)
        count = total
    skipped = sum(part.skipped for part in parts)
    return Scatter(count=count, skipped=skipped, mean=mean, products=products)


def add_products(products: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
    """Add the products of rows' columns, a strip at a time: no second matrix is held."""
    for at in range(0, len(products), _STRIP):
        products[at : at + _STRIP] += rows[:, at : at + _STRIP].T @ rows


def _subtract(products: NDArray[np.float64], off: NDArray[np.float64], times: float) -> None:
    """Subtract a multiple of a vector's products with itself, a strip at a time."""
    for at in range(0, len(off), _STRIP):
        products[at : at + _STRIP] -= times * off[at : at + _STRIP, np.newaxis] * off


def covariance(x: xr.DataArray, dim: Dims) -> xr.DataArray:
    """Return the covariance of the columns of a matrix of any length.

    Parameters
    ----------
    x : DataArray
        Of numbers, with one dim beside `dim`, the columns'.
    dim : str or iterable of str
        What is reduced: the rows. Rows with anything that isn't finite are left out.

    Returns
    -------
    DataArray
        (column, other_column) float64, of the population, lazy where x is. Each block is read
        once; memory per task: a block, 24 bytes for each pair of columns, 8 MiB.

    Raises
    ------
    Refused
        Not numbers, or other than one dim beside `dim`.

    Examples
    --------
    >>> x = xr.DataArray([[0.0, 1.0], [2.0, 5.0]], dims=("row", "feature"))
    >>> covariance(x, "row").values
    array([[1., 2.],
           [2., 4.]])
    """
    column, folded = _scattered(x, dim)
    width = x.sizes[column]
    chunks = ((width,), (width,))
    values = folded.array("covariance", _covariance, chunks, np.dtype(np.float64), new=2)
    other = f"other_{column}"
    coords = kept_coords(x, [column]).coords
    found = xr.DataArray(values, dims=(column, other), coords=coords, name="covariance")
    if column in x.coords:
        found = found.assign_coords({other: (other, x[column].values)})
    return found if is_lazy(x) else found.compute()


def pca(x: xr.DataArray, n: int, *, dim: Dims) -> xr.Dataset:
    """Return the principal components of the columns of a matrix of any length.

    Parameters
    ----------
    x : DataArray
        Of numbers, with one dim beside `dim`, the columns'.
    n : int
        Components, the largest first; at most as many as there are columns.
    dim : str or iterable of str
        What is reduced: the rows. Rows with anything that isn't finite are left out.

    Returns
    -------
    Dataset
        Lazy where x is, in float64: `mean` (column), `components` (component, column) of length 1
        and orthogonal, whose largest entry is positive; `explained_variance` (component) of the
        population, `explained_variance_ratio` (component) of the sum over all columns; `count` and
        `skipped` rows. Memory per task as of `covariance`; the last one takes twice as much.

    Raises
    ------
    Refused
        Not numbers, other than one dim beside `dim`, or another `n`.

    Examples
    --------
    >>> x = xr.DataArray([[0.0, 1.0], [2.0, 5.0]], dims=("row", "feature"))
    >>> found = pca(x, 1, dim="row")
    >>> found.explained_variance.values, (found.components.values**2).round(3)
    (array([5.]), array([[0.2, 0.8]]))
    """
    column, folded = _scattered(x, dim)
    width = x.sizes[column]
    if not 1 <= n <= width:
        raise Refused(f"n: found {n!r}; expected 1 to {width}, the length of {column}")
    if column == "component":
        raise Refused(f"{name_of(x)}: found columns called {column!r}, as what is found; rename()")
    whole = folded.then("components", partial(_components, n=n))
    made = variables_of(
        whole,
        {
            "mean": {column: width},
            "components": {"component": n, column: width},
            "explained_variance": {"component": n},
            "explained_variance_ratio": {"component": n},
            "count": {},
            "skipped": {},
        },
    )
    found = kept_coords(x, [column]).drop_vars(list(made), errors="ignore").assign(made)
    return found if is_lazy(x) else found.compute()


def variables_of(
    record: Folded, sizes: Mapping[str, Mapping[Hashable, int]]
) -> dict[str, xr.Variable]:
    """Return the arrays of one record, by name with their dims, as lazy variables."""
    made = {}
    for name, dims in sizes.items():
        dtype = np.dtype(np.int64 if name in _COUNTS else np.float64)
        chunks = tuple((size,) for size in dims.values())
        values = record.array(name, itemgetter(name), chunks, dtype, new=len(dims))
        made[name] = xr.Variable(tuple(dims), values)
    return made


def _scattered(x: xr.DataArray, dim: Dims) -> tuple[Hashable, Folded]:
    """Return the dim of the columns, and the record of all rows' products."""
    refuse_other_than_numbers(x)
    dims = dims_of(x, dim)
    columns = [one for one in x.dims if one not in dims]
    if len(columns) != 1:
        raise Refused(
            f"{name_of(x)}: found {list(map(str, columns))!r} beside {list(map(str, dims))!r}; "
            "expected one dim, of columns; select along the others, or reduce them too"
        )
    axis = x.get_axis_num(columns[0])
    array = blocked(x.variable).rechunk({axis: -1})
    held = 8 * x.sizes[columns[0]] ** 2
    folded = fold(
        array,
        range(x.ndim),
        partial(scatter, kept=axis),
        merge,
        name=f"scatter-{name_of(x)}",
        fan_in=2,
        tasks=max(8, min(TASKS, _AT_ONCE // max(held, 1))),
    )
    return columns[0], folded


def _covariance(found: Scatter) -> NDArray[np.float64]:
    count = found.count or math.nan
    return found.products / count


def _components(found: Scatter, *, n: int) -> dict[str, Any]:
    """Return the parts of `pca`, all of them NaN where no row is whole."""
    values, vectors = np.full(len(found.mean), np.nan), np.full(found.products.shape, np.nan)
    if found.count:
        values, vectors = np.linalg.eigh(_covariance(found))
    values = np.maximum(values[::-1], 0.0)  # of a flat cloud, rounding leaves less than nothing
    kept = vectors[:, ::-1][:, :n].T
    largest = np.take_along_axis(kept, np.abs(kept).argmax(axis=1)[:, np.newaxis], axis=1)
    total = values.sum()
    return {
        "mean": found.mean if found.count else np.full_like(found.mean, np.nan),
        "components": np.copysign(1.0, largest) * kept,
        "explained_variance": values[:n],
        "explained_variance_ratio": values[:n] / (total or math.nan),
        "count": np.int64(found.count),
        "skipped": np.int64(found.skipped),
    }
