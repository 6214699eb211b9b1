"""How often each value is there, as long as the different ones are few."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h5dask.report.sections._blocks import pieces

MOST = 200
"""Different values beyond which a tally says nothing."""
LONGEST = 100
"""Characters of a label; what is longer is text to be read."""

Tally = Counter[str | int | bool] | None


def tally(block: NDArray[Any]) -> Tally:
    """Return how often each value of a block of text, int or bool is there.

    None where the values are too many or too long to be labels.

    Examples
    --------
    >>> tally(np.array(["a", "b", "a"], object)).most_common()
    [('a', 2), ('b', 1)]
    """
    found: Counter[str | int | bool] = Counter()
    for piece in pieces(block):
        if piece.dtype.kind == "O":
            words = piece.tolist()
            if not all(isinstance(word, str) and len(word) <= LONGEST for word in words):
                return None
            found.update(words)
        else:
            values, counts = np.unique(piece, return_counts=True)
            if len(values) > MOST:
                return None
            found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if len(found) > MOST:
            return None
    return found


def merge(parts: list[Tally]) -> Tally:
    """Return the tally of all that several were made of."""
    found: Counter[str | int | bool] = Counter()
    for part in parts:
        if part is None:
            return None
        found.update(part)
    return found if len(found) <= MOST else None
