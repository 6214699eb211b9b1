"""A Dataset without its bad rows: which rows go together, and all variables cut alike.

What makes a row bad lies in `scanning`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.findings import table
from h5dask.ops.scanning import row_dims, scan
from h5dask.positions import positions_of

ACROSS = ("branch", "noise", "temperature")
"""Labels that differ between rows of one sample, which stay or go together."""

Rows: TypeAlias = Mapping[Hashable, NDArray[np.bool_]]
"""Whether each row is meant, by the dim that rows are along."""


def drop_bad_rows(
    ds: xr.Dataset, found: xr.Dataset | None = None, *, across: Iterable[str] = ACROSS
) -> xr.Dataset:
    """Return a Dataset without the rows in which `scan` finds something bad.

    Each dim of rows is cut for all variables at once. Other dims, such as layers or features, stay
    as they are. Values that say where a row is, such as neighbors, aren't renumbered: where rows
    that they point at may have gone, make them anew.

    Parameters
    ----------
    ds : Dataset
        Stays lazy.
    found : Dataset, optional
        What `scan` gives of it, computed or not; its masks are computed here. Without it ds is
        scanned for everything.
    across : iterable of str, default ("branch", "noise", "temperature")
        Labels that differ between rows of one sample: rows that agree in all other labels of
        their index are dropped together. () drops bad rows alone.

    Returns
    -------
    Dataset
        With the attributes and the form of ds. A dim may be left without rows. Of ragged rows
        those go that own anything bad, and what a dropped row owns goes with it.

    Raises
    ------
    Refused
        `found` isn't of this Dataset, or ragged rows don't add up to what they own.

    Examples
    --------
    >>> x = [[1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]]
    >>> ds = xr.Dataset({"x": (("row", "col"), x), "name": ("row", ["a", "b", "c"])})
    >>> drop_bad_rows(ds).name.values.tolist()
    ['a']
    """
    dropped = rows_to_drop(ds, scan(ds) if found is None else found, across=across)
    kept = {dim: positions_of(~rows) for dim, rows in dropped.items() if rows.any()}
    cut = ds.isel(kept)
    for index in _ragged(ds):
        if index.dim in kept:
            # xarray shows an index the dims of its coords alone, so this one gave itself up.
            labels = index.table.take(kept[index.dim])
            left = RaggedIndex(index.dim, index.ragged_dim, None, labels.columns, index.row_size)
            coords = left.create_variables({name: ds.variables[name] for name in labels.names})
            indexes = dict.fromkeys(labels.names, left)
            cut = cut.assign_coords(xr.Coordinates(coords, indexes))
    return cut


def rows_to_drop(
    ds: xr.Dataset, found: xr.Dataset, *, across: Iterable[str] = ACROSS
) -> dict[Hashable, NDArray[np.bool_]]:
    """Return which rows are bad or go with one that is, by dim; computes the masks of `found`.

    Parameters
    ----------
    ds, found, across
        As for `drop_bad_rows`.

    Returns
    -------
    dict of hashable to (row,) bool
        For each dim of rows.

    Examples
    --------
    >>> from h5dask.indexes import Labels
    >>> index = Labels("record", {"branch": ["a", "b", "a"], "sample": [0, 0, 1]})
    >>> x = ("record", [np.nan, 1.0, 2.0])
    >>> ds = xr.Dataset({"x": x}, xr.Coordinates.from_xindex(index))
    >>> rows_to_drop(ds, scan(ds))["record"].tolist()
    [True, True, False]
    """
    rows = _bad(ds, found)
    for index in _ragged(ds):
        if index.ragged_dim in rows:
            owners = np.searchsorted(index.offsets, np.flatnonzero(rows[index.ragged_dim]), "right")
            rows.setdefault(index.dim, np.zeros(ds.sizes[index.dim], bool))[owners - 1] = True
    for dim in rows:
        if rows[dim].any():
            rows[dim] = _widened(ds, dim, rows[dim], set(across))
    for index in _ragged(ds):
        if index.ragged_dim in ds.dims:
            rows[index.ragged_dim] = np.repeat(rows[index.dim], np.diff(index.offsets))
    return rows


def _bad(ds: xr.Dataset, found: xr.Dataset) -> dict[Hashable, NDArray[np.bool_]]:
    """Return the masks of bad rows, by dim."""
    names = {dim: f"bad_{dim}" for dim in row_dims(ds)}
    sizes = {name: found[name].shape if name in found else () for name in names.values()}
    unfit = [name for dim, name in names.items() if sizes[name] != (ds.sizes[dim],)]
    if unfit:
        raise Refused(
            f"found: found {', '.join(f'{name} of shape {sizes[name]!r}' for name in unfit)}; "
            f"expected one mask for each of { ({dim: ds.sizes[dim] for dim in names})!r}; give "
            "what scan finds in this very Dataset"
        )
    masks = found[list(names.values())].compute()
    return {dim: masks[name].values.copy() for dim, name in names.items()}


def _ragged(ds: xr.Dataset) -> list[RaggedIndex]:
    """Return the indexes by which rows own parts of a dim of ds."""
    found = [index for index in ds.xindexes.get_unique() if isinstance(index, RaggedIndex)]
    for index in found:
        index.refuse_cut(ds.sizes.get(index.ragged_dim, index.size))
    return found


def _widened(
    ds: xr.Dataset, dim: Hashable, rows: NDArray[np.bool_], across: set[str]
) -> NDArray[np.bool_]:
    """Return the rows, and those that agree with one of them in all labels but some."""
    for index, coords in ds.xindexes.group_by_index():
        size = index.row_size if isinstance(index, RaggedIndex) else None
        names = [name for name, one in coords.items() if one.dims == (dim,) and name != size]
        same = [i for i, name in enumerate(names) if name not in across]
        if 0 < len(same) < len(names):
            labels = table([coords[name].values for name in names])
            # Where a row is there twice, the second goes with the second of the other branch.
            turn = labels.groupby(list(labels), dropna=False).cumcount()
            codes = labels.groupby([*same, turn], dropna=False).ngroup().to_numpy()
            rows = np.isin(codes, codes[rows])
    return rows
