"""Labels of sequences <-> a grid of structures, samples, noise levels and temperatures.

What the sequences hold lies elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.indexes import Labels, RaggedIndex
from h5dask.ops.runs import Ints

STRUCTURE = "structure"
AXES = ("sample", "noise", "temperature")
"""What tells a structure's sequences apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """How some sequences lie: structures of equal samples, or one after the other."""

    dims: tuple[Hashable, ...]
    """(structure, sample, noise[, temperature]), or that of the sequences."""
    shape: tuple[int, ...]
    """Sizes of the dims."""
    labels: Mapping[str, NDArray[Any]]
    """Of each of the dims but the sequences' own; of a temperature that all share, no dims."""
    order: Ints | None
    """The sequences in C order of the dims, where they lie in another one."""

    @property
    def size(self) -> int:
        """Sequences of a structure, or 1."""
        return math.prod(self.shape[1:])

    def coords(self, ds: xr.Dataset, index: RaggedIndex) -> xr.Coordinates:
        """Return the coords of the sequences along these dims; their sizes are left out.

        Parameters
        ----------
        ds : Dataset
            In this grid's order.
        index : RaggedIndex
            Its own.
        """
        along = {
            name: one for name, one in ds.coords.items()
            if one.dims == (index.dim,) and name != index.row_size
        }  # fmt: skip
        if len(self.dims) == 1:
            names = [name for name in index.table.names if name != index.row_size]
            columns = {name: index.table.columns[name] for name in names}
            rest = {name: one.variable for name, one in along.items() if name not in columns}
            labelled = xr.Coordinates.from_xindex(Labels(index.dim, columns))
            return labelled.assign(rest)
        found: dict[Any, Any] = {
            name: ((name,) if name in self.dims else (), values)
            for name, values in self.labels.items()
        }
        for name, one in along.items():
            if name not in found:
                table = one.values.reshape(self.shape[0], -1)
                same = bool((table == table[:, :1]).all())
                values = table[:, 0] if same else table.reshape(self.shape)
                found[name] = (self.dims[:1] if same else self.dims, values, one.attrs)
        return xr.Dataset(coords=found).coords


def grid_of(index: RaggedIndex) -> Grid:
    """Return how sequences lie, by their labels alone.

    Structures make a grid where all have the same samples, noise levels and temperatures, each
    once, and all sequences of a structure have its length.

    Examples
    --------
    >>> labels = {"structure": [4, 4, 9, 9], "sample": [1, 0, 0, 1], "row_size": [5, 5, 3, 3]}
    >>> found = grid_of(RaggedIndex("sequence", "residue", 16, labels))
    >>> found.dims, found.shape, found.order
    (('structure', 'sample'), (2, 2), array([1, 0, 2, 3]))
    """
    held = {str(name): index.table[name].values for name in index.table.names}
    n_rows = index.table.n_rows
    alone = Grid(dims=(index.dim,), shape=(n_rows,), labels={}, order=None)
    if STRUCTURE not in held or not n_rows:
        return alone
    codes, structures = pd.factorize(held[STRUCTURE])
    axes = {name: held[name] for name in AXES if name in held}
    order = np.lexsort((*list(axes.values())[::-1], codes))
    n = len(structures)
    if n_rows % n or (np.bincount(codes) != n_rows // n).any():
        return alone
    tables = [one[order].reshape(n, -1) for one in axes.values()]
    alike = all((table == table[:1]).all() for table in tables)
    lengths = held[str(index.row_size)][order].reshape(n, -1)
    if not alike or (lengths != lengths[:, :1]).any():
        return alone
    labels = {name: np.unique(table[0]) for name, table in zip(axes, tables, strict=True)}
    each = np.stack([table[0] for table in tables]) if tables else np.zeros((1, n_rows // n))
    sizes = [len(one) for one in labels.values()]
    if math.prod(sizes) != n_rows // n or len(np.unique(each, axis=1).T) != n_rows // n:
        return alone
    dims = [name for name, size in zip(labels, sizes, strict=True) if name != AXES[2] or size > 1]
    scalars = {name: one[0] for name, one in labels.items() if name not in dims}
    return Grid(
        dims=(STRUCTURE, *dims),
        shape=(n, *(len(labels[name]) for name in dims)),
        labels={STRUCTURE: structures, **{name: labels[name] for name in dims}, **scalars},
        order=None if np.array_equal(order, np.arange(n_rows)) else order,
    )


def rows_of(padded: xr.Dataset, dims: tuple[Hashable, ...], dim: str) -> dict[str, NDArray[Any]]:
    """Return the labels of each sequence, along one dim, of arrays that have these dims of rows.

    What isn't labelled is counted from 0; what they lack altogether is 0.

    Parameters
    ----------
    padded : Dataset
        Whose coords are taken.
    dims : tuple of hashable
        Those of rows: (structure, sample, noise[, temperature]), or (sequence,).
    dim : str
        The dim of the sequences.
    """
    shape = tuple(padded.sizes[one] for one in dims)
    found: dict[str, NDArray[Any]] = {}
    for axis, one in enumerate(dims):
        if one != dim and one not in padded.coords:
            found[str(one)] = _along(np.arange(shape[axis], dtype=np.int32), (axis,), shape)
    for name, coord in padded.coords.items():
        if set(coord.dims) <= set(dims):
            axes = tuple(dims.index(one) for one in coord.dims)
            found[str(name)] = _along(coord.values, axes, shape)
    for name in (STRUCTURE, *AXES):
        missing = np.arange(shape[0]) if name == STRUCTURE else np.zeros(shape[0])
        found.setdefault(name, _along(missing.astype(np.int32), (0,), shape))
    return {name: found[name] for name in dict.fromkeys((STRUCTURE, *AXES, *found))}


def _along(values: NDArray[Any], axes: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return values of some of the axes for each place of all of them, in C order."""
    ordered = np.transpose(values, np.argsort(axes))
    kept = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
    return np.broadcast_to(ordered.reshape(kept), shape).reshape(-1)
