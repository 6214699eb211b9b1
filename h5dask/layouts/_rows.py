"""Labels of rows that the layouts share: columns made from groups, and groups found in columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.layout import Labels

Ints = NDArray[np.int64]
MAX_ROWS = 2**31 - 1
"""Rows that labels are held for; as int32 counts them."""
_FREE_ROWS = 2**23
"""Rows that any file may declare, stored or not ..."""
_ROWS_A_BYTE = 64
"""... beside so many for each byte it has: labels take some 30 bytes of memory a row."""


def subject_of(found: Contents | None) -> str:
    """Return how a message names the file, or the Dataset where there is none."""
    return found.subject if found is not None else "Dataset"


def column(values: Sequence[Any]) -> NDArray[np.object_]:
    """Return text as an array of objects."""
    out = np.empty(len(values), object)
    out[:] = values
    return out


def total(counts: Ints, found: Contents, dim: str) -> int:
    """Return the number of rows, refusing more than labels can be held for."""
    rows: int = sum(counts.tolist())
    if rows > MAX_ROWS:
        raise LayoutError(
            f"{found.subject}: found {rows!r} rows along {dim}, of which labels are held for at "
            f"most {MAX_ROWS!r}; open one group at a time with group=..."
        )
    if rows > _FREE_ROWS + _ROWS_A_BYTE * found.nbytes:
        raise LayoutError(
            f"{found.subject}: declares {rows!r} rows along {dim} and has {found.nbytes!r} bytes, "
            "which can't hold them; write it again, of the shape that its values have"
        )
    return rows


def within(counts: Ints) -> Ints:
    """Return each row's place among the rows of its group."""
    starts = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) - np.repeat(starts, counts)


def length(labels: Labels, needed: Sequence[str], found: Contents | None) -> int:
    """Return the number of rows, naming all the labels that are missing."""
    missing = [name for name in needed if name not in labels]
    if missing:
        raise LayoutError(
            f"{subject_of(found)}: found labels {sorted(labels)!r}, without {missing!r}; add them "
            "as coordinates along the rows' dim"
        )
    return len(labels[needed[0]])


def texts(labels: Labels, name: str, n: int) -> list[str]:
    """Return a column of text, empty where there is no such label."""
    return [str(value) for value in labels[name]] if name in labels else [""] * n


def coded(labels: Labels, name: str, n: int) -> tuple[list[str], Ints]:
    """Return the distinct texts of a column in the order of their first rows, and each row's."""
    if name not in labels:
        return [""], np.zeros(n, np.int64)
    values = np.asarray(labels[name], object).tolist()
    order: dict[str, int] = {}
    held = {value: order.setdefault(str(value), len(order)) for value in dict.fromkeys(values)}
    return list(order), codes(values, held, n)


def numbers(labels: Labels, name: str, n: int) -> Ints:
    """Return a column of whole numbers, 0 where there is no such label."""
    if name not in labels:
        return np.zeros(n, np.int64)
    values = np.asarray(labels[name])
    if values.dtype.kind not in "iu":
        raise LayoutError(
            f"{name}: found dtype {values.dtype.name!r}; labels must be whole numbers, of int32"
        )
    return values.astype(np.int64)


def codes(keys: Iterable[Hashable], order: Mapping[Any, int], n: int) -> Ints:
    """Return each row's position in an order of keys."""
    return np.fromiter(map(order.__getitem__, keys), np.int64, n)


def split(code: Ints, n_groups: int) -> list[Ints]:
    """Return the rows of each group, in the order they have."""
    order = np.argsort(code, kind="stable")
    ends = np.cumsum(np.bincount(code, minlength=n_groups))
    return np.split(order, ends[:-1]) if n_groups else []


def occurrence(code: Ints) -> Ints:
    """Return for each row how many rows of the same code are before it."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    new = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    counts = np.diff(np.append(new, len(code)))
    out = np.empty(len(code), np.int64)
    out[order] = within(counts)
    return out
