"""Which variables of a Dataset a section is about: by dims, types and labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

FEWEST = 4
"""Values that a vector has at least."""
LOGITS = "logits"
"""How the name of a variable ends that holds logits along its last dim."""
RANKED = "neighbor"
"""The dim along which distances ascend."""
_NO_VECTORS = (RANKED, "sample", "quantile", "top", "token")
"""Dims along which values lie side by side that are no vector."""
SCENARIO = "scenario"
"""The coord by which rows are told apart."""


def vectors_of(ds: xr.Dataset) -> dict[Hashable, xr.DataArray]:
    """Return the variables of vectors, which lie along the last dim: floats and 8-bit integers.

    Examples
    --------
    >>> shapes = {"x": ("row", "feature"), "distances": ("query", "neighbor"), "y": ("row",)}
    >>> list(vectors_of(xr.Dataset({k: (d, np.zeros((5,) * len(d))) for k, d in shapes.items()})))
    ['x']
    """
    logits = logits_of(ds)
    return {
        name: one
        for name, one in _wide(ds)
        if (one.dtype.kind == "f" or (one.dtype.kind in "iu" and one.dtype.itemsize == 1))
        and one.shape[-1] >= FEWEST
        and one.dims[-1] not in _NO_VECTORS
        and name not in logits
    }


def logits_of(ds: xr.Dataset) -> dict[Hashable, xr.DataArray]:
    """Return the variables of logits, whose last dim is that of what they choose among."""
    return {
        name: one
        for name, one in _wide(ds)
        if str(name).endswith(LOGITS) and one.dtype.kind == "f" and one.dtype.itemsize <= 8
    }


def distances_of(ds: xr.Dataset) -> dict[Hashable, xr.DataArray]:
    """Return the variables of floats that ascend along the dim `neighbor`."""
    return {
        name: one for name, one in _wide(ds) if one.dims[-1] == RANKED and one.dtype.kind == "f"
    }


def scenarios_of(ds: xr.Dataset, dim: Hashable) -> tuple[NDArray[np.int32] | None, Sequence[str]]:
    """Return the scenario of each row, -1 where it is missing, and what they are called.

    Without labels in memory there is one, called "", and None stands for the rows.
    """
    label = ds.coords.get(SCENARIO)
    if label is None or label.dims != (dim,) or label.chunks is not None:
        return None, [""]
    codes, names = pd.factorize(np.asarray(label.values, object))
    return codes.astype(np.int32), [str(name) for name in names]


def layers_of(x: xr.DataArray) -> list[str]:
    """Return what the layers of (row, layer, ...) are called; "" alone where there are none."""
    if x.ndim != 3:
        return [""]
    coord = x.coords.get(x.dims[1])
    is_held = coord is not None and coord.ndim == 1 and coord.chunks is None
    labels = coord.values if coord is not None and is_held else np.arange(x.shape[1])
    return [str(label) for label in labels]


def _wide(ds: xr.Dataset) -> Iterator[tuple[Hashable, xr.DataArray]]:
    """Yield the variables that hold more than one thing a row, and anything at all."""
    yield from ((n, one) for n, one in ds.data_vars.items() if one.ndim > 1 and one.size)
