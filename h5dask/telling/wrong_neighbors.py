"""What `verify` found, in a sentence, in a table of the first differences, and as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from h5dask.ops.judging import FAULTS, KINDS
from h5dask.telling.tables import MOST_ROWS
from h5dask.truth.verifying import is_right

_WORDS = {
    "misplaced": "misplaced",
    "wrong": "wrong",
    "other_label": "of another label",
    "repeated": "repeated",
    "out_of_range": "out of range",
    "wrong_distances": "with a wrong distance",
    "unsorted": "unsorted",
}
"""What a person calls the kinds of neighbors."""
CONVENTION = "convention"
"""What is wrong with a pair whose distance would be right by another convention."""


def sentence(found: xr.Dataset) -> str:
    """Return what was found in one sentence.

    Parameters
    ----------
    found : Dataset
        A result of `verify`.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> from h5dask.truth.verifying import verify
    >>> ds = example("ann").load()
    >>> sentence(verify(ds))
    'All 5 queries right; distances are euclidean'
    >>> ds.neighbors[3, 0] = -1
    >>> sentence(verify(ds, sample=4))
    '1 of 4 sampled queries wrong: 1 neighbor out of range; distances are euclidean'
    """
    n, of, k = _n_queries(found), int(found.attrs["n_queries"]), found.sizes["neighbor"]
    follows, expected = found.attrs["convention"], found.attrs["expected_convention"]
    told = [f"{n:,}{' sampled' if n < of else ''} {'query' if n == 1 else 'queries'}"]
    wrong = sum(found[kind].values > 0 for kind in FAULTS)
    few = found["legal"].values < k
    n_wrong = int(((wrong > 0) | few).sum())
    if n_wrong:
        counts = {kind: int(found[kind].values.sum()) for kind in FAULTS}
        listed = [(n, _WORDS[kind]) for kind, n in counts.items() if n]
        first = [f"{_neighbors(n)} {word}" for n, word in listed[:1]]
        others = [f"{n:,} {word}" for n, word in listed[1:]]
        told = [f"{n_wrong:,} of {told[0]} wrong: {', '.join(first + others)}"]
    else:
        told = [f"All {told[0]} right" if follows == expected else f"Neighbors of {told[0]} right"]
    if few.any():
        told.append(f"{int(few.sum()):,} have fewer than {k} base vectors of their label")
    if n_tied := int(found["tied"].values.sum()):
        told.append(f"{_neighbors(n_tied)} tied within float32 rounding")
    told.append(f"distances are {follows}" + (f", not {expected}" if follows != expected else ""))
    return "; ".join(told)


def differences(found: xr.Dataset) -> pd.DataFrame:
    """Return a row for each stored neighbor that isn't right, in the order of the file.

    Parameters
    ----------
    found : Dataset
        A result of `verify`.

    Returns
    -------
    DataFrame
        Query and place (rows and columns of the file, from 0), id and distance as stored, the
        exact distance of that id, id and distance that belong there, and what is wrong; all of them
        where only the convention of the distances is. Tied neighbors are left out.

    Examples
    --------
    >>> from h5dask.testing import example
    >>> from h5dask.truth.verifying import verify
    >>> ds = example("ann").load()
    >>> ds.neighbors[3, 0] = -1
    >>> differences(verify(ds))[["query", "place", "id", "right id", "wrong"]]
       query  place  id  right id         wrong
    0      3      0  -1         5  out of range
    """
    faults = found["faults"].values & ~np.uint8(1 << KINDS.index("tied"))
    if not faults.any() and found.attrs["convention"] != found.attrs["expected_convention"]:
        rows, places = (one.ravel() for one in np.indices(faults.shape))
    else:
        rows, places = np.nonzero(faults)
    names = np.array([_named(code) for code in range(256)], object)
    columns = {
        "id": "neighbors",
        "distance": "distances",
        "exact": "exact_distances",
        "right id": "true_neighbors",
        "right distance": "true_distances",
    }
    return pd.DataFrame(
        {
            "query": found["query"].values[rows],
            "place": places,
            **{title: found[name].values[rows, places] for title, name in columns.items()},
            "wrong": names[faults[rows, places]],
        }
    )


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return differences with distances as text, of as many digits as float32 needs."""
    real = [name for name, values in frame.items() if values.dtype.kind == "f"]
    text = {name: [_digits(value) for value in frame[name]] for name in real}
    return frame.assign(**text)


def as_json(found: xr.Dataset) -> dict[str, Any]:
    """Return what was found as values that JSON can hold: counts, and the first differences."""
    first = differences(found).head(MOST_ROWS)
    keys = [str(name).replace(" ", "_") for name in first.columns]
    rows = (dict(zip(keys, row, strict=True)) for row in first.itertuples(index=False))
    return {
        "right": is_right(found),
        "told": sentence(found),
        "queries": _n_queries(found),
        "of": int(found.attrs["n_queries"]),
        "convention": found.attrs["convention"],
        "expected_convention": found.attrs["expected_convention"],
        "largest_deviation": _plain(found.attrs["largest_deviation"]),
        "neighbors": {kind: int(found[kind].values.sum()) for kind in KINDS},
        "first": [{name: _plain(value) for name, value in row.items()} for row in rows],
    }


def _neighbors(n: int) -> str:
    return f"{n:,} {'neighbor' if n == 1 else 'neighbors'}"


def _n_queries(found: xr.Dataset) -> int:
    return int(found.sizes["query"])


def _named(code: int) -> str:
    """Return what is wrong with a neighbor by the bits of its faults."""
    named = [_WORDS[kind] for bit, kind in enumerate(KINDS) if code >> bit & 1 and kind in _WORDS]
    return ", ".join(named) or CONVENTION


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"


def _plain(value: Any) -> Any:
    """Return a number or text that JSON holds, None for what is no number."""
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, (int, np.integer)) else value
