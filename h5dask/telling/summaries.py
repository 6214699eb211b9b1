"""Statistics of whatever a file holds, as one Dataset and as one table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from h5dask.errors import NotFound, Refused
from h5dask.ops.labelling import labelling, loaded
from h5dask.ops.moments import KINDS
from h5dask.ops.statistics import STATISTICS, summarize
from h5dask.telling.tables import frame_of


def numbers_in(ds: xr.Dataset, variables: Sequence[str] = ()) -> xr.Dataset:
    """Return the variables of numbers, or those that are named.

    Raises
    ------
    NotFound, Refused
        A name isn't there, or isn't of numbers; or nothing there is.
    """
    names = [str(name) for name in ds.data_vars]
    if missing := [name for name in variables if name not in names]:
        raise NotFound(
            f"variable: found {', '.join(map(repr, missing))}; expected of {', '.join(names)}"
        )
    found = [name for name in variables or names if ds[name].dtype.kind in KINDS]
    if lost := [name for name in variables if name not in found]:
        raise Refused(f"{', '.join(lost)}: found text; expected numbers; name another variable")
    if not found:
        raise Refused(f"found no variable of numbers among {', '.join(names) or 'none'}")
    return ds[found]


def summaries(
    ds: xr.Dataset,
    *,
    variables: Sequence[str] = (),
    keep: Sequence[str] = (),
    by: Sequence[str] = (),
    more: Sequence[str] = (),
) -> xr.Dataset:
    """Return the statistics of variables over all dims but some, lazily: see `summarize`.

    Parameters
    ----------
    ds : Dataset
        Of any layout.
    variables : sequence of str, optional
        Which; all of numbers without it, of which those are left out that `by` doesn't label.
    keep : sequence of str, optional
        Dims that are kept, by the variables that have them.
    by : sequence of str, optional
        Coords, or variables along one dim, that label groups.
    more : sequence of str, optional
        "histogram", "quantiles".

    Examples
    --------
    >>> ds = xr.Dataset({"x": ("row", [1.0, 3.0]), "y": (("row", "column"), [[1, 2], [3, 6]])})
    >>> found = summaries(ds, keep=["column"])
    >>> float(found.x_mean), found.y_mean.values
    (2.0, array([2., 4.]))
    """
    dims = {str(dim) for dim in ds.dims}
    if missing := [dim for dim in keep if dim not in dims]:
        raise NotFound(
            f"keep: found {', '.join(map(repr, missing))}; expected of {', '.join(sorted(dims))}"
        )
    made, refusals = [], []
    labels = None if not by else loaded(ds, list(by))
    for name in numbers_in(ds, variables).data_vars:
        over = [dim for dim in ds[name].dims if dim not in keep]
        try:
            groups = None if labels is None else labelling(ds, labels, over)
            made.append(summarize(ds[[name]], over, by=groups, more=more))
        except Refused as refusal:
            if variables or not by:
                raise
            refusals.append(refusal)
    if not made:
        raise refusals[0]
    return xr.merge(made, join="exact", compat="override", combine_attrs="drop")


def frame(found: xr.Dataset) -> pd.DataFrame:
    """Return statistics in memory as a table: a row a variable, group and place kept."""
    parts = []
    names = [name.removesuffix("_count") for name in map(str, found) if name.endswith("_count")]
    for name in names:
        columns = [f"{name}_{statistic}" for statistic in STATISTICS]
        part = frame_of(found, columns).rename(columns=dict(zip(columns, STATISTICS, strict=True)))
        part.insert(0, "variable", name)
        parts.append(part)
    whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
    labels = [name for name in whole if name not in ("variable", *STATISTICS)]
    whole[labels] = whole[labels].astype(object).where(whole[labels].notna(), "")
    return whole[["variable", *labels, *STATISTICS]]
