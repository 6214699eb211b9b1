"""Columns of labels in memory: which rows of a dim carry the labels that are asked for.

Pure numpy and pandas; what xarray wants around them is in `indexes`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from h5dask.errors import LayoutError, Refused
from h5dask.positions import Positions, positions_of

_LISTED = 20


class Column:
    """The labels of one coord, immutable, coded at the first question and then kept.

    Parameters
    ----------
    labels : array_like
        Labels of any kind that has a hash; strings of fixed width become objects.
    """

    def __init__(self, labels: npt.ArrayLike) -> None:
        found = np.asarray(labels)
        # What h5py and pandas hold too; and a fixed width would cut longer labels in concat.
        values = found.astype(object) if found.dtype.kind in "SUT" else found.view()
        values.flags.writeable = False
        self.values: npt.NDArray[Any] = values

    def __reduce__(self) -> tuple[type[Self], tuple[npt.NDArray[Any]]]:
        return type(self), (self.values,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @cached_property
    def index(self) -> pd.Index:
        """The labels of all rows for pandas, without a copy."""
        return pd.Index(self.values, dtype=self.values.dtype, copy=False)

    @cached_property
    def _coded(self) -> tuple[npt.NDArray[np.unsignedinteger[Any]], pd.Index]:
        codes, labels = pd.factorize(self.values, use_na_sentinel=False)
        if labels.dtype.kind == "i":
            # As Python's ints arrive: a lookup of another width would hash all labels each time.
            labels = labels.astype(np.int64)
        # Bytes instead of int64 where labels are few: a selection reads every code.
        codes = codes.astype(np.min_scalar_type(labels.size))
        return codes, pd.Index(labels, dtype=labels.dtype)

    @property
    def codes(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Position of each row's label in `labels`."""
        return self._coded[0]

    @property
    def labels(self) -> pd.Index:
        """The distinct labels in the order of their first rows."""
        return self._coded[1]

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each row's part begins, and the last one ends, if the labels are sizes."""
        return np.concatenate(([0], np.cumsum(self.values, dtype=np.int64)))

    def equals(self, other: Column) -> bool:
        """Whether all rows carry the same labels; NaN is equal to NaN."""
        return self.values is other.values or bool(self.index.equals(other.index))

    def matches(self, name: Hashable, query: Any) -> npt.NDArray[np.bool_]:
        """Which rows carry the label, one of the labels, or one from start to stop of a slice.

        Parameters
        ----------
        name : hashable
            What an error calls this column.
        query : label, list of labels or slice of labels
            What is asked for; both ends of a slice are included, and need not exist.

        Raises
        ------
        KeyError
            If no row carries a label that is asked for.
        Refused
            If the query has a step or several dims, or its ends have no order with the labels.
        """
        if isinstance(query, slice):
            wanted = _between(name, self.labels.to_numpy(), query)
        else:
            wanted = _among(name, self.labels, query)
        hits: npt.NDArray[np.bool_] = wanted[self.codes]
        return hits


class Table:
    """Columns of one length along one dim; each row is labelled by all of them.

    Parameters
    ----------
    dim : hashable
        The dim of the rows.
    columns : mapping of hashable to array_like
        Names and labels (dim) of the columns, at least one.

    Raises
    ------
    LayoutError
        If there are no columns, or they aren't one-dimensional and of one length.
    """

    def __init__(self, dim: Hashable, columns: Mapping[Any, npt.ArrayLike | Column]) -> None:
        self.dim = dim
        self.columns: dict[Hashable, Column] = {
            name: labels if isinstance(labels, Column) else Column(labels)
            for name, labels in columns.items()
        }
        shapes = {name: column.values.shape for name, column in self.columns.items()}
        if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
            raise LayoutError(
                f"{dim}: found labels of the shapes {shapes!r}; give at least one coord, "
                "all with one dim of one length"
            )
        self.n_rows: int = next(iter(shapes.values()))[0]

    @classmethod
    def of(cls, variables: Mapping[Any, Any]) -> Self:
        """Load the variables (what has dims and values), which must all lie along one dim."""
        dims = {name: var.dims for name, var in variables.items()}
        if len(set(dims.values())) != 1 or len(next(iter(dims.values()))) != 1:
            raise LayoutError(
                f"labels: found coords with the dims {dims!r}; give at least one, "
                "and all along one dim, the same"
            )
        (dim,) = next(iter(dims.values()))
        return cls(dim, {name: var.values for name, var in variables.items()})

    @property
    def names(self) -> list[Hashable]:
        """Names of the columns."""
        return list(self.columns)

    def __getitem__(self, name: Hashable) -> Column:
        return self.columns[name]

    def select(self, queries: Mapping[Any, Any]) -> Positions:
        """Find the rows that carry all that is asked for; see `Column.matches`."""
        hits = np.ones(self.n_rows, dtype=np.bool_)
        for name, query in queries.items():
            hits &= self[name].matches(name, query)
        return positions_of(hits)

    def take(self, rows: slice | npt.NDArray[Any]) -> Table:
        """Give the rows at these positions, or where a mask is true."""
        return Table(self.dim, {name: c.values[rows] for name, c in self.columns.items()})

    def append(self, others: Sequence[Table]) -> Table:
        """Lay the rows of others after these; Refused where dims or names differ."""
        for other in others:
            if other.dim != self.dim or set(other.names) != set(self.names):
                raise Refused(
                    f"{self.dim}: found labels {other.names!r} along {other.dim!r} to lay after "
                    f"{self.names!r} along {self.dim!r}; give all the same coords, or "
                    "drop_indexes before"
                )
        tables = (self, *others)
        joined = {name: np.concatenate([t[name].values for t in tables]) for name in self.names}
        return Table(self.dim, joined)

    def rename(self, names: Mapping[Any, Hashable], dims: Mapping[Any, Hashable]) -> Table:
        """Give the same labels with new names, along a dim of a new name."""
        columns = {names.get(name, name): column for name, column in self.columns.items()}
        return Table(dims.get(self.dim, self.dim), columns)

    def differing(self, other: Table) -> list[Hashable]:
        """Names of the columns that aren't in both with the same label in every row."""
        pairs = {
            name: (self.columns.get(name), other.columns.get(name))
            for name in (*self.columns, *other.columns)
        }
        return [n for n, (a, b) in pairs.items() if a is None or b is None or not a.equals(b)]

    def levels(self, names: Iterable[Hashable] | None = None) -> pd.MultiIndex:
        """Give the rows as a MultiIndex with one level a column, in the order of `names`."""
        columns = {name: self[name] for name in (self.names if names is None else names)}
        return pd.MultiIndex(
            levels=[column.labels for column in columns.values()],
            codes=[column.codes for column in columns.values()],
            names=list(columns),
        )

    def find(self, other: Table) -> npt.NDArray[np.int64]:
        """Where the rows of `other` are here, -1 for those that aren't; (row of other,) int64."""
        levels = self.levels()
        if not levels.is_unique:
            self.refuse_pairing(other, "differ, and some rows of one have the same labels")
        found: npt.NDArray[np.int64] = levels.get_indexer(other.levels(self.names))
        return found

    def refuse_pairing(self, other: Table, reason: str) -> NoReturn:
        """Say in which columns two tables differ, and how to go on."""
        found = "; ".join(
            f"{name}: {listed(self[name].labels)} and {listed(other[name].labels)}"
            for name in self.differing(other)
        )
        compared = ""
        scenarios = [one["scenario"].labels for one in (self, other) if "scenario" in one.names]
        if [len(names) for names in scenarios] == [1, 1] and scenarios[0][0] != scenarios[1][0]:
            pair = tuple(str(names[0]) for names in scenarios)
            compared = f", or use contrast(ds, pairs=[{pair!r}])"
        raise Refused(
            f"{self.dim}: the rows of the two objects {reason} ({found}); select the same rows of "
            f"both, or pair them by position with drop_indexes({self.names!r}) on both{compared}"
        )


def _between(
    name: Hashable, labels: npt.NDArray[Any], bounds: slice[Any, Any, Any]
) -> npt.NDArray[np.bool_]:
    if bounds.step is not None:
        raise Refused(
            f"{name}: a slice of labels has no step, found {bounds.step!r}; "
            "select without one, then thin out with isel"
        )
    wanted = np.ones(labels.shape, dtype=np.bool_)
    try:
        if bounds.start is not None:
            wanted &= labels >= _bound(bounds.start, labels.dtype)
        if bounds.stop is not None:
            wanted &= labels <= _bound(bounds.stop, labels.dtype)
    except (TypeError, ValueError) as error:
        raise Refused(
            f"{name}: {bounds.start!r} to {bounds.stop!r} has no order with labels such as "
            f"{listed(labels[:1])}; give bounds of their kind, or a list of labels"
        ) from error
    return wanted


def _bound(bound: Any, dtype: np.dtype[Any]) -> Any:
    value = bound.item() if hasattr(bound, "dims") else bound
    return dtype.type(value) if dtype.kind == "f" else value  # float32's 0.1 is meant by 0.1


def _among(name: Hashable, labels: pd.Index, query: Any) -> npt.NDArray[np.bool_]:
    asked = np.asarray(query, dtype=object if labels.dtype == object else None)
    if asked.ndim > 1 or (asked.ndim == 1 and hasattr(query, "dims")):
        raise Refused(
            f"{name}: found a {type(query).__name__} of shape {asked.shape!r}, but a label may "
            "have many rows, so no result has that shape; give a label, a list of labels or a "
            "slice (.values.ravel() selects the rows of any of them)"
        )
    asked = asked.reshape(-1)
    if asked.size == 0 or (labels.dtype.kind == "f" and asked.dtype.kind in "iuf"):
        asked = asked.astype(labels.dtype)
    codes = labels.get_indexer(pd.Index(asked, dtype=asked.dtype))
    if (codes < 0).any():
        raise KeyError(
            f"{name}: no row has the label {listed(asked[codes < 0])}; found {listed(labels)}"
        )
    wanted = np.zeros(labels.shape, dtype=np.bool_)
    wanted[codes] = True
    return wanted


def listed(labels: npt.NDArray[Any] | pd.Index) -> str:
    """Labels as an error names them: the first 20, and how many there are."""
    if labels.size == 0:
        return "no labels"
    shown = ", ".join(repr(label) for label in labels[:_LISTED].tolist())
    return f"{shown}, … ({labels.size} labels)" if labels.size > _LISTED else shown
