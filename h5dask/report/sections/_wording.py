"""Text found by blocks: how much there is, how long it is, and whether it repeats."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.report.sections import _spread
from h5dask.report.sections._blocks import pieces
from h5dask.report.sections._spread import Spread

MOST_DISTINCT = 10_000
"""Beyond so many, values are no longer told apart."""
_PIECE = 2**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What is known of some values of unequal length when each was seen once."""

    lengths: Spread
    """Characters of texts, bytes of pictures; NaN where there is neither."""
    n_text: int
    """Values that are text."""
    nbytes: int
    """Of all values; of text in UTF-8."""
    marks: frozenset[bytes] | None
    """A digest of each distinct value, None beyond `MOST_DISTINCT` of them."""


def wording(block: NDArray[Any]) -> Wording:
    """Return what is known of a block of text or pictures.

    Examples
    --------
    >>> found = wording(np.array(["a", "tea", "a"], object))
    >>> found.lengths.most, found.n_text, len(found.marks)
    (3.0, 3, 2)
    """
    parts = [_of_piece(piece) for piece in pieces(block, _PIECE)]
    return merge(parts or [_of_piece(np.zeros(0, object))])


def merge(parts: list[Wording]) -> Wording:
    """Return what is known of all that several were made of."""
    marks: frozenset[bytes] | None = frozenset()
    for part in parts:
        marks = _few(None if marks is None or part.marks is None else marks | part.marks)
    return Wording(
        lengths=_spread.merge([part.lengths for part in parts]),
        n_text=sum(part.n_text for part in parts),
        nbytes=sum(part.nbytes for part in parts),
        marks=marks,
    )


def _of_piece(piece: NDArray[Any]) -> Wording:
    values = piece.tolist()
    lengths = np.array([_length(value) for value in values], np.float64)
    held = [_encoded(value) for value in values]
    marks = frozenset(blake2b(one, digest_size=8).digest() for one in held)
    return Wording(
        lengths=_spread.spread(lengths),
        n_text=sum(isinstance(value, str) for value in values),
        nbytes=sum(map(len, held)),
        marks=_few(marks),
    )


def _few(marks: frozenset[bytes] | None) -> frozenset[bytes] | None:
    return None if marks is None or len(marks) > MOST_DISTINCT else marks


def _length(value: Any) -> float:
    if isinstance(value, np.ndarray):
        return float(value.nbytes)
    return float(len(value)) if isinstance(value, (str, bytes)) else np.nan


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).tobytes()
    return value if isinstance(value, bytes) else b""
