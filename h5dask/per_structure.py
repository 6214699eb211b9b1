"""Profiles as a person reads them: a line a structure, noise level and temperature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

LABELS = ("structure", "structure_id", "noise", "temperature")
_POSITIONS = ("entropy", "frequency_entropy")
_SEQUENCES = ("score", "perplexity", "pseudo_perplexity", "recovery")
_PROFILES = ("diversity", "consensus_recovery")


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
        "sequence": found.in_profile.values,
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
    return pd.DataFrame(columns)


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
