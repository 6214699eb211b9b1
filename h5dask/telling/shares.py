"""What `recall` found, in a sentence."""

from __future__ import annotations

import xarray as xr


def sentence(shares: xr.Dataset) -> str:
    """Return which share of the true neighbors was found, of all queries and of the worst.

    Parameters
    ----------
    shares : Dataset
        A result of `recall`, in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from h5dask.truth.recalling import recall
    >>> sentence(recall(np.array([[4, 2], [0, 7]]), np.array([[4, 2], [0, 1]])))
    'recall@2 0.7500 of 2 queries, least 0.50'
    """
    n = int(shares.sizes[shares["by_id"].dims[0]])
    of = f" of {n:,} {'query' if n == 1 else 'queries'}"
    told = f"recall@{shares.attrs['k']} {_shares(shares['by_id'], of)}"
    if "by_distance" in shares:
        told += f"; by distance {_shares(shares['by_distance'])}"
    return told


def _shares(found: xr.DataArray, of: str = "") -> str:
    """Return the mean of all queries, and the least of any."""
    return f"{float(found.mean()):.4f}{of}, least {float(found.min()):.2f}"
