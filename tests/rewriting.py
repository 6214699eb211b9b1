"""Files of tests opened, and Datasets written to files that must be in order."""

from pathlib import Path
from typing import Any

import xarray as xr

import h5dask
from tests.files import LAYOUTS


def opened(path: Path, layout: str, name: str, **options: Any) -> xr.Dataset:
    """Write a variant of a layout at a path, and open it."""
    LAYOUTS[layout].VARIANTS[name].write(path)
    return h5dask.open_dataset(path, **options)


def written(ds: xr.Dataset, path: Path, **options: Any) -> xr.Dataset:
    """Write a Dataset, which must make a file in order, and open it."""
    h5dask.write_dataset(ds, path, **options)
    assert h5dask.validate(path) == ()
    return h5dask.open_dataset(path)
