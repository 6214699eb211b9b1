"""Which rows belong to which group: the labels of a coordinate -> codes, run by run."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import Labels, RaggedIndex
from h5dask.ops.moments import Runs

GROUP = "group"
"""The dim of groups that several coords label together."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Labelling:
    """The groups of the rows along one dim."""

    dim: Hashable
    """The dim of the rows."""
    ends: NDArray[np.int64]
    """Row after the last of each run of rows of one group."""
    codes: NDArray[np.int64]
    """Which group each run is of; -1 where a label is missing."""
    coords: xr.Coordinates
    """What labels the groups, along a dim of their own."""
    group_dim: str
    """That dim."""

    @property
    def n_groups(self) -> int:
        """Different labels, or combinations of them."""
        return int(self.coords.sizes[self.group_dim])

    @property
    def has_empty(self) -> bool:
        """Whether a group has no rows, as one of a structure without residues."""
        lengths = np.diff(self.ends, prepend=0)
        return len(set(self.codes[lengths > 0].tolist()) - {-1}) < self.n_groups

    def runs(self, start: int, stop: int) -> Runs:
        """Return the runs of rows from start to stop: their lengths, and their groups."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = int(np.searchsorted(self.ends, stop, side="left")) + 1
        lengths = np.diff(np.minimum(self.ends[first:last], stop), prepend=start)
        return lengths, self.codes[first:last]


By: TypeAlias = str | xr.DataArray | Sequence[str | xr.DataArray] | Labelling
"""What rows are grouped by: a name, labels themselves, several of either, or groups made before."""


def labelling(x: xr.Dataset | xr.DataArray, by: By, dims: Iterable[Hashable]) -> Labelling:
    """Return the groups of rows that carry the same labels.

    Parameters
    ----------
    x : Dataset or DataArray
        Whose variables may be named.
    by : str, DataArray, several of them, or Labelling
        Labels along one of `dims`, row by row; or of rows that own parts of one of them, as a
        structure's sequences do residues. Lazy labels are loaded. Rows with a missing label are
        left out.
    dims : iterable of hashable
        Dims that are reduced.

    Returns
    -------
    Labelling
        Groups in the order of their labels. Of one coord they lie along a dim of its name, of
        several along "group". Memory: 16 bytes a run of rows of one group.

    Raises
    ------
    Refused
        There is no such variable, or it doesn't label rows along the dims.

    Examples
    --------
    >>> x = xr.DataArray([1, 2, 3], dims="row", coords={"kind": ("row", ["b", "a", "a"])})
    >>> found = labelling(x, "kind", ["row"])
    >>> found.coords["kind"].values.tolist(), found.runs(0, 3)[1].tolist()
    (['a', 'b'], [1, 0])
    """
    if isinstance(by, Labelling):
        return by
    several = not isinstance(by, (str, xr.DataArray))
    wanted: Sequence[Any] = list(by) if several else [by]
    dims = list(dims)
    if not wanted:
        raise Refused("by: found no coordinate; name one, or leave it out")
    found = [_labels(x, one, dims) for one in wanted]
    faults = [f"by: {one}" for one in found if isinstance(one, str)]
    if faults:
        raise Refused("\n".join(faults))
    labels = [one for one in found if isinstance(one, xr.DataArray)]
    owners = {one.dims[0] for one in labels}
    if len(owners) > 1:
        told = ", ".join(f"{one.name} along {one.dims[0]}" for one in labels)
        raise Refused(f"by: found {told}; all must be along one dim")
    names = [str(one.name) for one in labels]
    if len(set(names)) < len(names):
        raise Refused(f"by: found {', '.join(names)}; name each once")
    (owner,) = owners
    dim, ends = _ends(x, owner, dims)
    codes, table = _coded(labels)
    group_dim = GROUP if len(labels) > 1 else names[0]
    changes = np.flatnonzero(np.diff(codes)) + 1
    last = np.concatenate([changes, [len(codes)]]) - 1 if len(codes) else np.zeros(0, np.int64)
    return Labelling(
        dim=dim,
        ends=ends[last],
        codes=codes[last],
        coords=_coords(table, names, group_dim),
        group_dim=group_dim,
    )


def loaded(x: xr.Dataset | xr.DataArray, by: By) -> By:
    """Return what rows are grouped by, lazy labels computed, so that none is read twice."""
    if isinstance(by, Labelling):
        return by
    if isinstance(by, xr.DataArray):
        return by.compute()
    if isinstance(by, str):
        there = x.variables if isinstance(x, xr.Dataset) else x.coords
        return x[by].compute() if by in there else by
    return [loaded(x, one) for one in by]  # type: ignore[misc] # one of several is none itself


def _labels(x: xr.Dataset | xr.DataArray, one: Any, dims: Sequence[Hashable]) -> xr.DataArray | str:
    """Return what labels the rows, or what is wrong with it."""
    there = x.variables if isinstance(x, xr.Dataset) else x.coords
    fit = [str(name) for name in there if _suits(x, there[name].dims, dims)]
    label = one if isinstance(one, xr.DataArray) else None
    if label is None:
        if one not in there:
            way_out = (
                "" if isinstance(x, xr.Dataset) else "; pass ds where the coordinate lies there"
            )
            return f"found {one!r}; expected one of {', '.join(fit) or 'none here'}{way_out}"
        label = x[one]
    if label.name is None:
        return "found labels without a name; rename() them"
    if not _suits(x, label.dims, dims):
        return (
            f"{str(label.name)!r} is along {list(map(str, label.dims))!r}, which labels no rows "
            f"along {list(map(str, dims))!r}; expected one of {', '.join(fit) or 'none'}"
        )
    owner = label.dims[0]
    index = None if owner in dims else _owning(x, owner, dims)
    size = x.sizes[owner] if index is None else index.table.n_rows
    if label.size != size:
        return (
            f"{str(label.name)!r} has {label.size} labels; expected {size}, the length of {owner}"
        )
    return label


def _suits(x: xr.Dataset | xr.DataArray, own: Sequence[Hashable], dims: Sequence[Hashable]) -> bool:
    """Whether a variable of these dims labels rows along one of those that are reduced."""
    return len(own) == 1 and (own[0] in dims or _owning(x, own[0], dims) is not None)


def _owning(
    x: xr.Dataset | xr.DataArray, owner: Hashable, dims: Sequence[Hashable]
) -> RaggedIndex | None:
    """Return the index by which rows own parts of one of the dims."""
    for index in x.xindexes.values():
        if isinstance(index, RaggedIndex) and index.dim == owner and index.ragged_dim in dims:
            return index
    return None


def _ends(
    x: xr.Dataset | xr.DataArray, owner: Hashable, dims: Sequence[Hashable]
) -> tuple[Hashable, NDArray[np.int64]]:
    """Return the reduced dim, and where in it each label's rows end."""
    if owner in dims:
        return owner, np.arange(1, x.sizes[owner] + 1)
    index = _owning(x, owner, dims)
    if index is None:
        raise Refused(f"by: found labels along {owner!r}; expected one of {list(map(str, dims))!r}")
    index.refuse_cut(x.sizes[index.ragged_dim])
    return index.ragged_dim, index.offsets[1:]


def _coded(labels: Sequence[xr.DataArray]) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Return each row's group, and the labels of the groups in their order."""
    native = [one.values.astype(one.dtype.newbyteorder("="), copy=False) for one in labels]
    table = pd.DataFrame({str(one.name): had for one, had in zip(labels, native, strict=True)})
    names = list(table)
    groups = table.groupby(names, sort=True, dropna=True, observed=True)
    codes = groups.ngroup().fillna(-1).to_numpy(np.int64)
    kept = codes >= 0
    first = np.unique(codes[kept], return_index=True)[1]
    return codes, table[kept].iloc[first].reset_index(drop=True)


def _coords(table: pd.DataFrame, names: Sequence[str], dim: str) -> xr.Coordinates:
    if len(names) == 1:
        return xr.Coordinates({dim: (dim, table[names[0]].to_numpy())})
    return xr.Coordinates.from_xindex(Labels(dim, {name: table[name].to_numpy() for name in names}))
