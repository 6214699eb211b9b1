"""Statistics of every value in one pass: counts, extremes, moments, by group; nothing is loaded.

What becomes of one block lies in `moments`, how blocks are put together in `folding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.binning import edges
from h5dask.ops.choosing import (
    Dims,
    dims_of,
    is_lazy,
    kept_coords,
    name_of,
    numbers_along,
    refuse_other_than_numbers,
)
from h5dask.ops.folding import Index, blocked, edges_of, fold
from h5dask.ops.histograms import (
    MOST_CELLS,
    QUANTILES,
    RELATIVE_ERROR,
    added,
    histograms,
    quantiles,
)
from h5dask.ops.labelling import By, Labelling, labelling, loaded
from h5dask.ops.moments import Moments, Runs, merge, moments, spread

STATISTICS = ("count", "nonfinite", "nan", "posinf", "neginf", "mean", "std", "min", "max", "rms")
"""What `summarize` gives, in this order."""
MORE = ("histogram", "quantiles")
"""What it gives when asked."""
_COUNTS = STATISTICS[:5]
_FLOAT = np.dtype(np.float64)
_LAST = {
    "histogram": (("bin", edges()[:-1]),),
    "quantiles": (("quantile", np.array(QUANTILES)),),
}
"""Dims that they end with, and the labels along those."""

Seen: TypeAlias = tuple[Moments, NDArray[np.int64] | None]
"""What values are summarized by: their moments, and their histograms where they are asked for."""


def summarize(
    x: xr.Dataset | xr.DataArray, dim: Dims, *, by: By | None = None, more: Iterable[str] = ()
) -> xr.Dataset:
    """Return counts, extremes and moments over some dims, in one pass over the values.

    Sums are taken in float64 of differences from a value amid the others, so neither float16's
    range nor an offset costs digits. What isn't finite is counted, and left out of all else.

    Parameters
    ----------
    x : DataArray or Dataset
        Of numbers. Of a Dataset, the variables of numbers that have all of `dim`.
    dim : str, iterable of them, or ...
        What is reduced; `...` for all dims.
    by : str, DataArray, or several of either, optional
        Labels of the rows along a reduced dim, or of what owns its parts. Any number of groups
        costs one pass. Rows with a missing label are left out.
    more : iterable of str, default none
        "histogram": how many finite values are in each bin, the same bins for all data, 1.6 to 3
        percent of their values wide; a bin holds its border nearer to zero. "quantiles": estimates
        from it, off by at most 1.6 percent of the value of that rank (attribute
        `relative_error`) where that is within 2**-126 and 2**128.

    Returns
    -------
    Dataset
        Lazy where x is: `count` (of finite values), `nonfinite` = `nan` + `posinf` + `neginf`,
        all int64; `mean`, `std` (of the population), `rms`, float64; `min`, `max` of x's own
        dtype, or float64 where x is of integers and something is empty. Of a Dataset, each as
        "{name}_{statistic}". Dims: the groups', then those kept. NaN where nothing is finite.
        Counts and extremes are the same for any blocks, moments to 1e-13. Computing any or all of
        it reads each block once; memory per task: a block, and for each group in it 100 bytes a
        value along kept dims.

    Raises
    ------
    Refused
        Nothing there is of numbers, a dim is missing, `by` labels no reduced dim, `more` names
        something else, or there would be more than 256 histograms.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
       Sample Variances" (1979).

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> ds = h5dask.open_dataset(example_file("activations"))
    >>> found = h5dask.summarize(ds.activations, ["record", "hidden"], by="scenario")
    >>> found["mean"].dims, found["count"].values[0]
    (('scenario', 'layer'), array([48, 48]))
    """
    dim = dim if isinstance(dim, (str, EllipsisType)) else tuple(dim)
    variables = {"": x} if isinstance(x, xr.DataArray) else numbers_along(x, dim)
    wanted = (more,) if isinstance(more, str) else tuple(more)
    by = None if by is None else loaded(x, by)
    if unknown := [one for one in wanted if one not in MORE]:
        raise Refused(f"more: found {', '.join(map(repr, unknown))}; expected of {MORE}")
    made: dict[str, xr.Variable] = {}
    groups: Labelling | None = None
    for name, variable in variables.items():
        refuse_other_than_numbers(variable)
        dims = dims_of(variable, dim)
        groups = None if by is None else labelling(x, by, dims)
        if groups is not None and groups.group_dim in set(variable.dims) - set(dims):
            raise Refused(
                f"by: found labels called {groups.group_dim!r}, as a dim of {name_of(variable)} "
                "that is kept; rename() them"
            )
        found = _summary(variable, dims, groups, wanted)
        made |= {f"{name}_{what}" if name else what: one for what, one in found.items()}
    dims_kept = {one for variable in variables.values() for one in variable.dims}
    dims_kept &= {one for variable in made.values() for one in variable.dims}
    dims_kept -= {one for variable in variables.values() for one in dims_of(variable, dim)}
    coords = kept_coords(x, dims_kept).drop_vars(list(made), errors="ignore")
    if groups is not None:
        coords = coords.assign_coords(groups.coords)
    labels = dict(label for one in wanted for label in _LAST[one])
    made_of = coords.assign(made).assign_coords(labels)
    return made_of if any(map(is_lazy, variables.values())) else made_of.compute()


def _summary(
    x: xr.DataArray, dims: tuple[Hashable, ...], groups: Labelling | None, more: tuple[str, ...]
) -> dict[str, xr.Variable]:
    """Return one variable's statistics by name."""
    array = blocked(x.variable)
    axes = tuple(x.get_axis_num(dims))
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    along = (axes or (0,))[0] if groups is None else x.get_axis_num(groups.dim)
    n_groups = None if groups is None else groups.n_groups
    if more:
        _refuse_many(x, kept, n_groups)
    folded = fold(
        array,
        axes,
        partial(
            _seen,
            axes=axes,
            along=along,
            n_groups=1 if n_groups is None else n_groups,
            binned=bool(more),
        ),
        _merged,
        name=f"summarize-{name_of(x)}",
        extras=None if groups is None else partial(_runs, groups, edges_of(array, along), along),
    )
    grouped, of_groups = ((), ()) if groups is None else (((n_groups,),), (groups.group_dim,))
    chunks = (*grouped, *(array.chunks[axis] for axis in kept))
    out = (*of_groups, *(x.dims[axis] for axis in kept))
    # Only floats can say that there is no value.
    is_known = all(x.shape) and not (groups is not None and groups.has_empty)
    extreme = x.dtype.newbyteorder("=") if x.dtype.kind == "f" or is_known else _FLOAT
    made = {}
    for name in (*STATISTICS, *more):
        dtype = _dtype(name, extreme)
        last = _LAST.get(name, ())
        values = folded.array(
            name,
            partial(_statistic, name, n_groups, dtype),
            (*chunks, *((len(labels),) for _, labels in last)),
            dtype,
            new=len(grouped),
            last=len(last),
        )
        attrs: dict[str, Any] = {"long_name": f"{_WORDS[name]} of {name_of(x)} over {_and(dims)}"}
        if name == "quantiles":
            attrs["relative_error"] = RELATIVE_ERROR
        made[name] = xr.Variable((*out, *(dim for dim, _ in last)), values, attrs)
    return made


def _refuse_many(x: xr.DataArray, kept: Sequence[int], n_groups: int | None) -> None:
    n_cells = math.prod(x.shape[axis] for axis in kept) * (1 if n_groups is None else n_groups)
    if n_cells > MOST_CELLS:
        raise Refused(
            f"{name_of(x)}: found {n_cells:,} histograms to make; expected at most {MOST_CELLS}; "
            "reduce more dims, or fewer groups"
        )


def _seen(
    block: NDArray[Any], runs: Runs | None = None, *, axes: Index, along: int, n_groups: int,
    binned: bool,
) -> Seen:  # fmt: skip
    """Return what one block is summarized by."""
    found = moments(block, runs, axes=axes, along=along)
    if not binned:
        return found, None
    return found, histograms(block, runs, axes=axes, along=along, n_groups=n_groups)


def _merged(parts: list[Seen]) -> Seen:
    bins = [counts for _, counts in parts if counts is not None]
    return merge([found for found, _ in parts]), added(bins) if bins else None


_WORDS = {
    "count": "finite values",
    "nonfinite": "values not finite",
    "nan": "NaN",
    "posinf": "infinities",
    "neginf": "negative infinities",
    "mean": "mean",
    "std": "population standard deviation",
    "min": "least value",
    "max": "largest value",
    "rms": "root mean square",
    "histogram": "finite values by bin",
    "quantiles": "estimated quantiles",
}


def _and(dims: Iterable[Hashable]) -> str:
    return ", ".join(map(str, dims)) or "nothing"


def _runs(groups: Labelling, edges: Sequence[int], along: int, at: Index) -> Runs:
    """Return which rows of a block are of which group."""
    return groups.runs(edges[at[along]], edges[at[along] + 1])


def _dtype(name: str, extreme: np.dtype[Any]) -> np.dtype[Any]:
    if name in (*_COUNTS, "histogram"):
        return np.dtype(np.int64)
    return extreme if name in ("min", "max") else np.dtype(np.float64)


def _statistic(name: str, n_groups: int | None, dtype: np.dtype[Any], seen: Seen) -> NDArray[Any]:
    """Return one statistic of what was seen: (group, ...), or (...) where there are no groups."""
    found, bins = seen
    if n_groups is not None and n_groups != len(found.groups):
        found = spread(found, np.arange(n_groups))
    if bins is None or name not in MORE:
        values = _values(name, found)
    else:
        values = bins if name == "histogram" else quantiles(bins, found.low, found.high)
    typed: NDArray[Any] = values.astype(dtype, copy=False)
    return typed if n_groups is not None else np.asarray(typed[0])


def _values(name: str, found: Moments) -> NDArray[Any]:
    count, nan, posinf, neginf = found.counts
    known = np.where(count > 0, count, np.nan)
    variance = found.squares / known
    given: dict[str, Callable[[], Any]] = {
        "count": lambda: count,
        "nonfinite": lambda: nan + posinf + neginf,
        "nan": lambda: nan,
        "posinf": lambda: posinf,
        "neginf": lambda: neginf,
        "mean": lambda: found.mean + 0 * known,
        "std": lambda: np.sqrt(variance),
        "min": lambda: _known(found.low, known),
        "max": lambda: _known(found.high, known),
        "rms": lambda: np.sqrt(found.mean**2 + variance),
    }
    return np.asarray(given[name]())


def _known(extreme: NDArray[Any], known: NDArray[np.float64]) -> NDArray[Any]:
    """Return extremes, NaN where nothing is finite."""
    if extreme.dtype.kind in "iu" and not np.isnan(known).any():
        return extreme
    return np.where(np.isnan(known), np.nan, extreme)
