"""Which Datasets hold sampled sequences, or profiles of them, and the labels of what owns them."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from h5dask.indexes import RaggedIndex
from h5dask.ops.ragged import POSITION, ROW_SIZE

SEQUENCES, LOGITS = "sequences", "logits"
STRUCTURE, PROFILE = "structure", "profile"
ENTROPIES = {"entropy": "PSSM", "frequency_entropy": "frequencies"}
"""Entropies along positions, in bits, and what they are of; the first one there is shown."""
_LABELS = (STRUCTURE, "sample", "noise", "temperature", "structure_id", ROW_SIZE)


def sampled(ds: xr.Dataset) -> RaggedIndex | None:
    """Return the index by which sequences own residues; None where a Dataset has none.

    Examples
    --------
    >>> import h5dask
    >>> from h5dask.testing import example_file
    >>> sampled(h5dask.open_dataset(example_file("proteins"))).ragged_dim
    'residue'
    >>> sampled(h5dask.open_dataset(example_file("ann"))) is None
    True
    """
    values = ds.get(SEQUENCES)
    if values is None or values.dtype.kind not in "iu":
        return None
    for index in ds.xindexes.get_unique():
        if isinstance(index, RaggedIndex) and values.dims == (index.ragged_dim,):
            is_whole = index.size == values.size and index.table.n_rows > 0
            return index if is_whole and STRUCTURE in index.table.names else None
    return None


def is_profiled(ds: xr.Dataset) -> bool:
    """Whether a Dataset is what `profile` gives, as it was made or opened again."""
    along = (STRUCTURE, ROW_SIZE, "n_samples")
    return (
        all(name in ds.variables and ds[name].dims == (PROFILE,) for name in along)
        and any(name in ds and ds[name].dims == (POSITION,) for name in ENTROPIES)
        and ds.sizes[PROFILE] > 0
    )


def labels_of(ds: xr.Dataset) -> pd.DataFrame:
    """Return the labels of sequences, or of profiles: a row each.

    Those of a result that was opened again are read, a few bytes a row.
    """
    index = sampled(ds)
    dim = PROFILE if index is None else index.dim
    names = (*_LABELS, "n_samples")
    held = [name for name in names if name in ds.variables and ds[name].dims == (dim,)]
    return pd.DataFrame({name: ds[name].values for name in held})
