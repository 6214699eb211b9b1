"""What is wrong with values when each was seen once, row by row, and how it is merged.

The record of `scan`; how numbers are looked at lies in `kernels/screening`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from h5dask.kernels.screening import screen

KINDS = ("nan", "posinf", "neginf", "zero_rows", "duplicates", "empty", "not_utf8")
"""What is looked for; those that the kernel marks come first, in the order of its bits."""
BIT = {kind: 1 << i for i, kind in enumerate(KINDS)}
"""The bit of each in a mark."""
_N_SCREENED = 4
_TEXT = "OSUT"
_TIMES = "mM"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Place:
    """Where a block lies in its variable."""

    start: int
    """Its first row."""
    beyond: tuple[int, ...] | None = None
    """Where vectors are cut: lengths of the dims between rows and vectors, else None."""
    within: tuple[slice, ...] = ()
    """Then what the block has of these dims."""
    absent: NDArray[np.bool_] | None = None
    """Rows of which there is nothing, so that nothing is wrong with them: (row,)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Findings:
    """What was found in consecutive rows."""

    start: int
    """The first of them."""
    marks: NDArray[np.uint8]
    """Bits of what each row holds: (row,)."""
    counts: NDArray[np.int64]
    """How much of each kind there is: (kind,)."""
    zero: NDArray[np.bool_] | None = None
    """Where vectors are cut: which are zero as far as they were seen, (row, ...)."""
    ids: NDArray[Any] | None = None
    """Values none of which may be there twice: (row,)."""


def sought(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    """Return the bits of what is looked for in values of a dtype and shape.

    Vectors of zeros are looked for in floats and 8-bit integers along the last of several dims;
    other integers are labels or positions, in which nothing is wrong.

    Examples
    --------
    >>> [kind for kind in KINDS if BIT[kind] & sought(np.dtype("f2"), (9, 3))]
    ['nan', 'posinf', 'neginf', 'zero_rows']
    >>> sought(np.dtype("i4"), (9, 3))
    0
    """
    kinds: list[str] = []
    if dtype.kind in _TEXT:
        kinds = ["nan", "empty", "not_utf8"]
    elif dtype.kind in _TIMES:
        kinds = ["nan"]
    elif dtype.kind in "fc":
        kinds = ["nan", "posinf", "neginf"]
    if _is_screened(dtype) and len(shape) > 1 and shape[-1] > 1:
        kinds += ["zero_rows"]
    return sum(BIT[kind] for kind in kinds)


def _is_screened(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fc" or (dtype.kind in "iu" and dtype.itemsize == 1)


def look(block: NDArray[Any], place: Place, *, bits: int) -> Findings:
    """Return what is found in a block.

    Parameters
    ----------
    block : array
        Of any dtype, rows first, and not empty.
    place : Place
        Where it lies.
    bits : int
        What is looked for; of duplicates the values are gathered for `settled`.

    Examples
    --------
    >>> block = np.array([[0.0, 0.0], [np.nan, 1.0]])
    >>> found = look(block, Place(start=7), bits=BIT["nan"] | BIT["zero_rows"])
    >>> found.marks.tolist(), found.counts.tolist()
    ([8, 1], [1, 0, 0, 1, 0, 0, 0])
    """
    if place.absent is not None and place.absent.any():
        return _look_past(block, place, bits)
    marks, counts = _looked(block, zeros=bool(bits & BIT["zero_rows"]))
    marks &= np.uint8(bits)
    counts *= [bool(bits & bit) for bit in BIT.values()]
    zero = None
    if place.beyond is not None:
        zero = np.ones((len(block), *place.beyond), np.bool_)
        zero[:, *place.within] = (marks & BIT["zero_rows"]).reshape(block.shape[:-1])
        marks &= np.uint8(bits & ~BIT["zero_rows"])
        counts[KINDS.index("zero_rows")] = 0
    rows = np.zeros(len(block), np.uint8)
    hits = np.flatnonzero(marks)  # few, as a rule
    np.bitwise_or.at(rows, hits // (marks.size // len(block)), marks[hits])
    return Findings(
        start=place.start,
        marks=rows,
        counts=counts,
        zero=zero,
        ids=block if bits & BIT["duplicates"] else None,
    )


def _look_past(block: NDArray[Any], place: Place, bits: int) -> Findings:
    """Return what is found in a block some of whose rows there is nothing of."""
    there = ~place.absent if place.absent is not None else np.ones(len(block), np.bool_)
    marks, counts = np.zeros(len(block), np.uint8), np.zeros(len(KINDS), np.int64)
    zero = None if place.beyond is None else np.zeros((len(block), *place.beyond), np.bool_)
    if there.any():
        found = look(block[there], replace(place, absent=None), bits=bits)
        marks[there], counts = found.marks, found.counts
        if zero is not None:
            zero[there] = found.zero
    return Findings(start=place.start, marks=marks, counts=counts, zero=zero)


def _looked(block: NDArray[Any], *, zeros: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the marks of vectors or single values, in C order, and how much of each kind."""
    counts = np.zeros(len(KINDS), np.int64)
    if _is_screened(block.dtype):
        width = block.shape[-1] if block.ndim > 1 else 1
        marks, counts[:_N_SCREENED] = screen(block, width, zeros=zeros)
        return marks, counts
    marks = np.zeros(block.size, np.uint8)
    if block.dtype.kind in _TIMES:
        marks[np.isnat(block).reshape(-1)] = BIT["nan"]
    elif block.dtype.kind in _TEXT:
        marks[:] = _marked_texts(block.reshape(-1).tolist())
    counts[:] = [np.count_nonzero(marks & bit) for bit in BIT.values()]
    return marks, counts


def _marked_texts(values: list[Any]) -> NDArray[np.uint8]:
    """Return the marks of texts; what many rows share is looked at once."""
    marks = np.zeros(len(values), np.uint8)
    try:
        odd = {x: _mark(x) for x in set(values) if not (type(x) is str and x and x.isascii())}
    except TypeError:  # a picture among them has no hash
        return np.array([_mark(x) for x in values], np.uint8)
    if odd:
        at = [i for i, x in enumerate(values) if x in odd]
        marks[at] = [odd[values[i]] for i in at]
    return marks


def _mark(value: Any) -> int:
    """Return what is wrong with a text; a picture among texts is nothing wrong."""
    if isinstance(value, (str, bytes)):
        if not value:
            return BIT["empty"]
        return 0 if value.isascii() or _is_utf8(value) else BIT["not_utf8"]
    return 0 if isinstance(value, np.ndarray) or pd.isna(value) is not True else BIT["nan"]


def _is_utf8(value: str | bytes) -> bool:
    try:
        value.encode() if isinstance(value, str) else value.decode()
    except UnicodeError:
        return False
    return True


def merge(parts: Sequence[Findings]) -> Findings:
    """Return what was found in the rows of all; blocks of the same rows may lie in several.

    Examples
    --------
    >>> blocks = np.array([[0.0, 0.0]]), np.array([[np.inf, 1.0]])
    >>> bits = sought(np.dtype(float), (2, 2))
    >>> merge([look(x, Place(start=i), bits=bits) for i, x in enumerate(blocks)]).marks.tolist()
    [8, 2]
    """
    start = parts[0].start
    n_rows = max(part.start + len(part.marks) for part in parts) - start
    marks = np.zeros(n_rows, np.uint8)
    zero = None if parts[0].zero is None else np.ones((n_rows, *parts[0].zero.shape[1:]), np.bool_)
    for part in parts:
        rows = slice(part.start - start, part.start - start + len(part.marks))
        marks[rows] |= part.marks
        if zero is not None:
            zero[rows] &= part.zero
    ids = [part.ids for part in parts if part.ids is not None]
    return Findings(
        start=start,
        marks=marks,
        counts=np.sum([part.counts for part in parts], axis=0),
        zero=zero,
        ids=np.concatenate(ids) if ids else None,
    )


def settled(found: Findings) -> Findings:
    """Return what can only be said when all rows were seen: cut vectors, and duplicates.

    Examples
    --------
    >>> ids = look(np.array(["a", "b", "a"]), Place(start=0), bits=BIT["duplicates"])
    >>> settled(ids).marks.tolist()
    [0, 0, 16]
    """
    if found.zero is not None:
        rows = np.logical_or.reduce(found.zero.reshape(len(found.zero), -1), axis=1)
        found = marked(found, "zero_rows", rows, int(np.count_nonzero(found.zero)))
    if found.ids is not None:
        found = marked(found, "duplicates", duplicated([found.ids]))
    return replace(found, zero=None, ids=None)


def marked(found: Findings, kind: str, rows: NDArray[np.bool_], n: int | None = None) -> Findings:
    """Return findings with more rows of a kind, of which there are n, or one a row."""
    marks = found.marks | rows * np.uint8(BIT[kind])
    counts = found.counts.copy()
    counts[KINDS.index(kind)] = np.count_nonzero(marks & BIT[kind]) if n is None else n
    return replace(found, marks=marks, counts=counts)


def duplicated(columns: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Return which rows are as an earlier one in all columns; a missing value is as another.

    Examples
    --------
    >>> duplicated([np.array(["a", "a", "a"]), np.array([1, 2, 1])])
    array([False, False,  True])
    """
    found: NDArray[np.bool_] = table(columns).duplicated().to_numpy(bool)
    return found


def table(columns: Sequence[NDArray[Any]]) -> pd.DataFrame:
    """Return labels as pandas takes them: any text, and numbers in this machine's order."""
    return pd.DataFrame({i: _series(column) for i, column in enumerate(columns)})


def _series(column: NDArray[Any]) -> pd.Series:
    kind = column.dtype
    dtype = object if kind.kind in _TEXT else kind.newbyteorder("=")
    return pd.Series(column.astype(dtype, copy=False), dtype=dtype)
