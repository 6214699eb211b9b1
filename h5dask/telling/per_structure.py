"""Profiles as a person reads them, a line a structure, noise level and temperature; and doubts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.indexes import RaggedIndex
from h5dask.kernels.profiles import LETTERS
from h5dask.losses import compute
from h5dask.ops.folding import blocked
from h5dask.ops.structures import OF, few

LABELS = ("structure", "structure_id", "noise", "temperature")
_APART = ("structure", "noise", "temperature")
_POSITIONS = ("entropy", "frequency_entropy")
_SEQUENCES = ("score", "perplexity", "pseudo_perplexity", "recovery")
_PROFILES = ("diversity", "consensus_recovery")
_NAMED = 5
"""Structures that a message names."""


def frame(found: xr.Dataset) -> pd.DataFrame:
    """Return what profiles say of each structure, means of its positions and samples.

    Parameters
    ----------
    found : Dataset
        As `profile` returns it, in memory.

    Examples
    --------
    >>> from h5dask.ops.residues import profile
    >>> from h5dask.testing import example
    >>> frame(profile(example("proteins")))[["structure", "noise", "length", "samples"]]
       structure  noise  length  samples
    0          3      0       5        2
    1          3      1       5        2
    2          7      0       6        2
    3          7      1       6        2
    """
    n = found.sizes["profile"]
    owners = {
        "position": np.repeat(np.arange(n), found.row_size.values),
        "sequence": _profiles_of_sequences(found),
    }
    columns: dict[str, NDArray[Any]] = {
        name: found[name].values for name in LABELS if name in found.coords
    }
    columns |= {"length": found.row_size.values, "samples": found.n_samples.values}
    for dim, names in (("position", _POSITIONS), ("sequence", _SEQUENCES)):
        for name in names:
            if name in found:
                columns[name] = _means(found[name].values, owners[dim], n)
    columns |= {name: found[name].values for name in _PROFILES if name in found}
    if "n_bad" in found:
        bad = np.bincount(owners["sequence"], found.n_bad.values, n)
        columns["n_bad"] = bad.astype(np.int64)
    return pd.DataFrame(columns)


def _profiles_of_sequences(found: xr.Dataset) -> NDArray[Any]:
    """Return which profile each sequence is of: (sequence,)."""
    own = pd.MultiIndex.from_arrays([found[name].values for name in _APART])
    of = pd.MultiIndex.from_arrays([found[OF + name].values for name in _APART])
    at: NDArray[Any] = own.get_indexer(of)
    return at


def say_outside(ds: xr.Dataset) -> None:
    """Warn once of indices that stand for no amino acid, by structure and file; reads sequences.

    Parameters
    ----------
    ds : Dataset
        Any; without sequences and labels of structures there is nothing to say.
    """
    index = next((one for one in ds.xindexes.get_unique() if isinstance(one, RaggedIndex)), None)
    if index is None or "sequences" not in ds or "structure" not in index.table.names:
        return
    values = blocked(ds["sequences"].variable)
    (at,) = compute(da.flatnonzero((values < 0) | (values >= LETTERS)))
    if len(at):
        owners = np.unique(np.searchsorted(index.offsets, at, "right") - 1)
        warnings.warn(
            f"sequences: found {len(at):,} indices that stand for no amino acid, in "
            f"{len(owners):,} sequences of {_where(ds, owners)}; expected 0 to {LETTERS - 1}; they "
            "stay as they are; drop those samples, or write the index of X",
            UserWarning,
            stacklevel=3,
        )


def renumbered(ds: xr.Dataset) -> Iterator[str]:
    """Yield a line for each file whose structures have other numbers in a Dataset than there.

    Parameters
    ----------
    ds : Dataset
        Any; what is of one file, or has no structures, has the numbers of its file.

    Examples
    --------
    >>> labels = {"source": ["tuesday.h5"] * 3, "source_structure": [0, 0, 1]}
    >>> ds = xr.Dataset(coords={name: ("sequence", one) for name, one in labels.items()})
    >>> list(renumbered(ds.assign_coords(structure=("sequence", [3, 3, 4]))))
    ['tuesday.h5: structures 0, 1 are 3, 4 now']
    """
    if not {"source", "source_structure"} <= set(ds.coords):
        return
    now, before = ds["structure"].values, ds["source_structure"].values
    moved = pd.DataFrame({"file": ds["source"].values, "now": now, "before": before})
    for file, one in moved[now != before].drop_duplicates().groupby("file", sort=False):
        what, are = ("structure", "is") if len(one) == 1 else ("structures", "are")
        told = few(one["before"].to_numpy()), few(one["now"].to_numpy())
        yield f"{file}: {what} {told[0]} {are} {told[1]} now"


def _where(ds: xr.Dataset, rows: NDArray[Any]) -> str:
    """Return of which structures, by their numbers there, and files some sequences are."""
    files = np.full(len(rows), ds.encoding.get("source", "the Dataset"), object)
    if "source" in ds.coords:
        files = ds["source"].values[rows]
    numbers = ds["source_structure" if "source_structure" in ds.coords else "structure"]
    pairs = zip(numbers.values[rows].tolist(), files.tolist(), strict=True)
    told = [f"structure {number} of {file}" for number, file in dict.fromkeys(pairs)]
    more = f" and {len(told) - _NAMED:,} more" if len(told) > _NAMED else ""
    return ", ".join(told[:_NAMED]) + more


def say_bad_logits(found: xr.Dataset, ds: xr.Dataset) -> None:
    """Warn once of residues whose logits give no probabilities, by structure and file.

    Parameters
    ----------
    found : Dataset
        As `profile` returns it, in memory.
    ds : Dataset
        Whose profiles they are.
    """
    if "n_bad" not in found or not found.n_bad.values.any():
        return
    bad = np.flatnonzero(found.n_bad.values)
    warnings.warn(
        f"logits: found {int(found.n_bad.values.sum()):,} residues without probabilities (NaN or "
        f"infinite), in {len(bad):,} sequences of {_where(ds, bad)}; the score of "
        "those sequences is NaN; drop them (drop_bad_rows), or compute their logits again",
        UserWarning,
        stacklevel=3,
    )


def _means(values: NDArray[Any], owners: NDArray[Any], n: int) -> NDArray[Any]:
    """Return the mean of each owner's values; NaN where it has none."""
    with np.errstate(invalid="ignore"):
        means: NDArray[Any] = np.bincount(owners, values, n) / np.bincount(owners, minlength=n)
    return means


def as_json(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return lines as JSON holds them: null for what is no number.

    Examples
    --------
    >>> as_json(pd.DataFrame({"structure": [3], "score": [math.nan]}))
    [{'structure': 3, 'score': None}]
    """
    return [
        {
            name: None if isinstance(one, float) and math.isnan(one) else one
            for name, one in row.items()
        }
        for row in rows.to_dict("records")
    ]
