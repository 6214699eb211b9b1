"""Opening a file by HDF5's own library, for reading and without locks."""

from __future__ import annotations

from typing import BinaryIO

import h5py

from h5dask.storage.held import Held


def opened(file: str | BinaryIO | Held) -> h5py.File:
    """Open a file without locking it: a reader needs none, and some filesystems have none.

    A file that this process has open already with locks is opened in the same way: HDF5 allows
    no two ways at once.
    """
    try:
        return h5py.File(file, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(file, "r")
