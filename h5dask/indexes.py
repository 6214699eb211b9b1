"""xarray indexes: coords that label one dim together, and rows that own parts of a second dim.

Labels stay in memory; no layout, file or block of values is known here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from xarray.core.indexing import IndexSelResult
from xarray.indexes import Index

from h5dask.columns import Column, Table, listed
from h5dask.errors import LayoutError, Refused
from h5dask.positions import Positions, along, elements_of, same_positions


class Labels(Index):
    """Several coords that label the rows of one dim together.

    ``ds.sel(scenario="base", sample=slice(0, 9))`` takes the rows that carry what is asked for:
    a label, any label of a list, or any from one to another, both included. A label may have any
    number of rows; rows keep their order and the dim stays. Where each label exists but no row
    carries all of them, no rows come. Rows are found in memory, with a few bytes a row.

    The coords are never chunked: xarray groups by labels in memory alone. The price is that
    ``xr.map_blocks`` wants them dropped, or freed with ``ds.drop_indexes``.

    Parameters
    ----------
    dim : hashable
        The dim whose rows are labelled.
    coords : mapping of hashable to array_like
        Names and labels (dim) of the coords, of any kind that has a hash; never chunked.

    Raises
    ------
    LayoutError
        If there are no coords, or they aren't one-dimensional and of one length.

    Examples
    --------
    >>> index = Labels("record", {"scenario": ["a", "a", "b"], "sample": [0, 1, 0]})
    >>> ds = xr.Dataset({"x": ("record", [1, 2, 3])}, xr.Coordinates.from_xindex(index))
    >>> ds.sel(scenario="a").x.values
    array([1, 2])
    >>> ds.sel(scenario=["a", "b"], sample=0).x.values
    array([1, 3])
    """

    def __init__(self, dim: Hashable, coords: Mapping[Any, npt.ArrayLike | Column]) -> None:
        self.table = Table(dim, coords)

    @classmethod
    def from_variables(
        cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]
    ) -> Self:
        """Build what ``ds.set_xindex(names, Labels)`` asks for; lazy labels are loaded."""
        if options:
            raise Refused(
                f"Labels: found options {dict(options)!r}; there are none, leave them out"
            )
        table = Table.of(variables)
        return cls(table.dim, table.columns)

    @property
    def dim(self) -> Hashable:
        """The dim whose rows are labelled."""
        return self.table.dim

    def _with(self, table: Table) -> Self:
        changed = self.copy(deep=False)
        changed.table = table
        return changed

    def create_variables(
        self, variables: Mapping[Any, xr.Variable] | None = None
    ) -> dict[Any, xr.Variable]:
        """Give the coords, with the attributes and encodings of `variables`."""
        made: dict[Any, xr.Variable] = {}
        for name, column in self.table.columns.items():
            # The one kind of variable that ds.chunk() leaves in memory.
            made[name] = xr.Variable(self.dim, column.index).to_index_variable()
            if variables is not None and name in variables:
                made[name].attrs.update(variables[name].attrs)
                made[name].encoding.update(variables[name].encoding)
        return made

    def sel(
        self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None
    ) -> IndexSelResult:
        """Find the rows that carry all that is asked for; KeyError names labels that none has."""
        self._refuse_inexact(method, tolerance)
        return IndexSelResult({self.dim: self.table.select(labels)})

    def isel(self, indexers: Mapping[Any, Any]) -> Self | None:
        """Take rows by position; None where the dim is dropped or replaced by others."""
        rows = along(self.dim, indexers)
        return None if rows is None else self._with(self.table.take(rows))

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:  # noqa: ARG002
        """Whether both are of one kind, with equal names and equal labels row by row."""
        return (
            isinstance(other, Labels)
            and type(self) is type(other)
            and self.dim == other.dim
            and not self.table.differing(other.table)
        )

    @classmethod
    def concat(
        cls,
        indexes: Sequence[Self],
        dim: Hashable,
        positions: Iterable[Iterable[int]] | None = None,
    ) -> Self:
        """Lay the rows of all indexes end to end, or at their `positions` in the result."""
        joined = indexes[0].copy(deep=False)
        if joined.dim != dim:
            raise Refused(
                f"{dim}: found labels {joined.table.names!r} along {joined.dim!r}; concatenate "
                "along that, leave these coords as they are (coords='minimal'), or drop_indexes"
            )
        joined.table = joined.table.append([index.table for index in indexes[1:]])
        if positions is not None:
            places = np.concatenate([np.asarray(rows) for rows in positions])
            joined.table = joined.table.take(np.argsort(places))
        return joined

    def roll(self, shifts: Mapping[Any, int]) -> Self | None:
        """Rotate the rows."""
        rolled = np.roll(np.arange(self.table.n_rows), shifts[self.dim])
        return self._with(self.table.take(rolled))

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Follow new names of coords and dim."""
        return self._with(self.table.rename(name_dict, dims_dict))

    def to_pandas_index(self) -> pd.MultiIndex:
        """Give the labels as a MultiIndex with one level a coord."""
        return self.table.levels()

    def join(self, other: Self, how: str = "inner") -> Self:
        """Give the rows that both have, or those that either has, in this index's order.

        Two that share no row have no inner join: rows paired by position, whose labels differ on
        purpose, would vanish without a word.
        """
        common = other.reindex_like(self)[self.dim] >= 0
        if how == "outer":
            added = other.table.take(self.reindex_like(other)[self.dim] < 0)
            return self._with(self.table.append([added]))
        if not common.any() and self.table.n_rows and other.table.n_rows:
            self.table.refuse_pairing(other.table, "share no row")
        return self._with(self.table.take(common))

    def reindex_like(
        self, other: Self, method: str | None = None, tolerance: Any = None
    ) -> dict[Hashable, Any]:
        """Find the rows of `other` in this index; -1 for those that it hasn't."""
        self._refuse_inexact(method, tolerance)
        return {self.dim: self.table.find(other.table)}

    def _refuse_inexact(self, method: str | None, tolerance: Any) -> None:
        if method is not None or tolerance is not None:
            raise Refused(
                f"{self.dim}: found method={method!r}, tolerance={tolerance!r}, but labels "
                f"{self.table.names!r} are found exactly; leave these out, or select by other "
                "coords in a sel of their own"
            )

    def _repr_inline_(self, max_width: int) -> str:
        return f"{type(self).__name__}({self.dim})"[:max_width]

    def __repr__(self) -> str:
        name, rows = type(self).__name__, self.table.n_rows
        return f"{name}({self.dim!r}, n_rows={rows}, coords={self.table.names!r})"


class RaggedIndex(Labels):
    """Labels of rows of which each owns a part of a second dim, the parts end to end.

    One coord says how many elements of `ragged_dim` each row owns (a contiguous ragged array,
    CF conventions, section 9.3.3). A selection by label cuts both dims together, lazily:
    ``ds.sel(structure=17)``. A cut by position can't, as xarray shows an index only the dims of
    its coords: ``isel`` along `dim` drops the index and keeps the coords, ``isel`` along
    `ragged_dim` goes unseen. Either way the sum of the sizes no longer is the length of
    `ragged_dim`, also after further selections of consecutive rows; users of both check that.
    `h5dask.take` cuts both by the positions of rows.

    What is taken out of a Dataset without `ragged_dim` (``ds.pseudo_perplexity``) leaves the sizes
    and this index behind: select before, or give it `Labels` (``set_xindex``). After a reduction
    over `ragged_dim`, or without any variable along it, there is nothing to cut: select before.

    Parameters
    ----------
    dim : hashable
        The dim of the rows.
    ragged_dim : hashable
        The dim of which each row owns a part.
    size : int or None
        Length of `ragged_dim`; None where it isn't known, and is what the sizes add up to.
    coords : mapping of hashable to array_like
        Names and labels (dim) of the coords, the sizes among them.
    row_size : hashable, default "row_size"
        Name of the coord of sizes: integers, none negative, of sum `size`.

    Raises
    ------
    LayoutError
        If coords aren't one-dimensional and of one length, or the sizes aren't as said above.

    Examples
    --------
    >>> index = RaggedIndex("row", "item", 5, {"name": ["a", "b", "c"], "row_size": [2, 0, 3]})
    >>> ds = xr.Dataset({"x": ("item", [1, 2, 3, 4, 5])}, xr.Coordinates.from_xindex(index))
    >>> ds.sel(name="c").x.values
    array([3, 4, 5])
    """

    def __init__(
        self,
        dim: Hashable,
        ragged_dim: Hashable,
        size: int | None,
        coords: Mapping[Any, npt.ArrayLike | Column],
        row_size: Hashable = "row_size",
    ) -> None:
        super().__init__(dim, coords)
        self.ragged_dim = ragged_dim
        self.row_size = row_size
        if row_size not in self.table.names:
            raise LayoutError(
                f"{dim}: found coords {self.table.names!r}, among which {row_size!r} must be; add "
                f"how many of {ragged_dim} each row owns"
            )
        sizes = self.table[row_size].values
        if sizes.dtype.kind not in "iu" or (sizes < 0).any():
            raise LayoutError(
                f"{row_size}: found {sizes.dtype} labels {listed(sizes)}; sizes must be integers, "
                "none negative"
            )
        if size not in (None, self.size):
            raise LayoutError(
                f"{row_size}: found sizes of sum {self.size!r}, but {ragged_dim} has the length "
                f"{size!r}; select rows by label (sel), which cuts both dims together"
            )

    @classmethod
    def from_variables(
        cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]
    ) -> Self:
        """Build what ``ds.set_xindex(names, RaggedIndex, ragged_dim="residue")`` asks for."""
        if not {"ragged_dim"} <= options.keys() <= {"ragged_dim", "row_size"}:
            raise Refused(
                f"RaggedIndex: found options {dict(options)!r}; give ragged_dim, and row_size "
                "where the coord of sizes has another name"
            )
        table = Table.of(variables)
        return cls(table.dim, size=None, coords=table.columns, **options)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each row's part begins, and the last one ends: (row + 1), int64."""
        return self.table[self.row_size].offsets

    @property
    def size(self) -> int:
        """Length that `ragged_dim` must have: the sum of the sizes."""
        return int(self.offsets[-1])

    def refuse_cut(self, length: int) -> None:
        """Refuse elements that were cut by position: they no longer are what the rows own."""
        if length != self.size:
            raise Refused(
                f"{self.row_size}: found sizes of sum {self.size!r}, but {self.ragged_dim} has the "
                f"length {length!r}; select rows by label (sel), or by position (take), which cut "
                "both dims together"
            )

    def should_add_coord_to_array(
        self, name: Hashable, var: xr.Variable, dims: set[Hashable]
    ) -> bool:
        """Leave the sizes, and so this index, behind where there is nothing that rows own."""
        fits = super().should_add_coord_to_array(name, var, dims)
        return fits and (name != self.row_size or self.ragged_dim in dims)

    def sel(
        self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None
    ) -> IndexSelResult:
        """Find the rows that carry all that is asked for, and all that they own."""
        self._refuse_inexact(method, tolerance)
        return self.cut(self.table.select(labels))

    def cut(self, rows: Positions) -> IndexSelResult:
        """Give rows, in this order, and all that they own."""
        owned = elements_of(self.offsets, rows)
        if isinstance(owned, slice):
            # Counted from both ends: were the dim cut before, unseen here, the result's length
            # stays as wrong as it was, instead of becoming right around wrong values.
            owned = slice(owned.start, owned.stop - self.size or None)
        # The selection is given as an index too: xarray asks `isel` about `dim` alone.
        cut = self._with(self.table.take(rows))
        return IndexSelResult(
            {self.dim: rows, self.ragged_dim: owned},
            dict.fromkeys(cut.table.names, cut),
            cut.create_variables(),
        )

    def isel(self, indexers: Mapping[Any, Any]) -> Self | None:
        """Take rows by position if exactly what they own is taken too, else None."""
        rows, given = along(self.dim, indexers), along(self.ragged_dim, indexers)
        if rows is None or given is None:
            return None
        rows = np.arange(self.table.n_rows)[rows]
        owned = elements_of(self.offsets, rows)
        if not same_positions(owned, given, self.size):
            return None
        return self._with(self.table.take(rows))

    def roll(self, shifts: Mapping[Any, int]) -> Self | None:
        """Give no index for rows that move: what they own stays where it is."""
        return None if shifts[self.dim] % (self.table.n_rows or 1) else self

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        """Whether labels, sizes and both dims are equal."""
        return (
            isinstance(other, RaggedIndex)
            and (self.ragged_dim, self.row_size) == (other.ragged_dim, other.row_size)
            and super().equals(other, exclude=exclude)
        )

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Follow new names of coords and of both dims."""
        renamed = super().rename(name_dict, dims_dict)
        renamed.ragged_dim = dims_dict.get(self.ragged_dim, self.ragged_dim)
        renamed.row_size = name_dict.get(self.row_size, self.row_size)
        return renamed

    def reindex_like(
        self, other: Self, method: str | None = None, tolerance: Any = None
    ) -> dict[Hashable, Any]:
        """Refuse: what the rows own would have to move with them."""
        self._refuse_inexact(method, tolerance)
        self.table.refuse_pairing(other.table, "differ, and what they own can't move with them")
