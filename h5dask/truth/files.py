"""What ground truth is made of, and written as: files, by their endings."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import CorruptInput, LayoutError
from h5dask.reading.reader import open_dataset
from h5dask.storage.remote import UrlPath, expand
from h5dask.storage.vectors import FORMATS
from h5dask.vectors import ending_of, open_vectors
from h5dask.vectors.bigann import ENDINGS, write_truth
from h5dask.writing.writer import write_dataset

_BARE = (*FORMATS, ".parquet", ".zarr")
"""Endings of files that hold vectors and no more."""


def open_base(
    urlpath: UrlPath, *, variable: str | None = None, select: Mapping[str, Any] | None = None
) -> xr.DataArray | xr.Dataset:
    """Return the vectors of any file, or a benchmark whole.

    Parameters
    ----------
    urlpath : str or path
        As `open_vectors` takes it.
    variable, select
        As of `open_vectors`; with either, vectors alone are what is meant.

    Examples
    --------
    >>> from h5dask.testing import example_file
    >>> open_base(example_file("ann")).sizes["query"], open_base(example_file("episodes")).ndim
    (5, 2)
    """
    if ending_of(urlpath) not in _BARE and not variable and not select:
        ds = open_dataset(urlpath)
        if {"train", "test"} <= set(ds.data_vars):
            return ds
    return open_vectors(urlpath, variable=variable, select=select)


def open_labels(
    urlpath: UrlPath, *, storage_options: Mapping[str, Any] | None = None
) -> NDArray[Any]:
    """Return the labels that a file of numpy's (.npy) holds, one a vector.

    Raises
    ------
    CorruptInput
        It can't be read; nothing in it is unpickled.
    LayoutError
        It holds something else.
    """
    (source,) = expand(urlpath, storage_options)
    try:
        found = np.load(io.BytesIO(source.read()), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CorruptInput(f"{source.url}: {error}; expected labels in a .npy") from None
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iuU":
        what = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "more"
        raise LayoutError(f"{source.url}: found {what}; expected whole numbers or text, one a row")
    return found


def write_made(ds: xr.Dataset, url: str, *, overwrite: bool = False) -> None:
    """Write a benchmark whole; or, under .bin and .ivecs, its neighbors as big-ann has them."""
    if os.path.splitext(url)[1].lower() in ENDINGS:
        whole = ds["train"].dtype.kind in "iu"
        write_truth(ds, url, str(ds.attrs["distance"]), integers=whole, overwrite=overwrite)
    else:
        write_dataset(ds, url, overwrite=overwrite)
