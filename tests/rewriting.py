"""Files of tests opened, and Datasets written to files that must be in order."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

import h5dask
from tests.files import LAYOUTS, ann


def files(folder: Path, layout: str, *names: str) -> list[str]:
    """Write variants of a layout, each under its own name."""
    paths = []
    for i, name in enumerate(names):
        path = folder / f"{i}_{name}.h5"
        LAYOUTS[layout].VARIANTS[name].write(path)
        paths.append(str(path))
    return paths


def opened(path: Path, layout: str, name: str, **options: Any) -> xr.Dataset:
    """Write a variant of a layout at a path, and open it."""
    LAYOUTS[layout].VARIANTS[name].write(path)
    return h5dask.open_dataset(path, **options)


def written(ds: xr.Dataset, path: Path, **options: Any) -> xr.Dataset:
    """Write a Dataset, which must make a file in order, and open it."""
    h5dask.write_dataset(ds, path, **options)
    assert h5dask.validate(path) == ()
    return h5dask.open_dataset(path)


WIDE = np.arange(6000, dtype="f4").reshape(1000, 6)


def with_base(path: Path, values: Any, **storage: Any) -> Path:
    """Write a benchmark whose base has these values."""
    ann.VARIANTS["float_euclidean"].write(path)
    with h5py.File(path, "a") as f:
        del f["train"], f["test"]
        f.create_dataset("train", data=values, **storage)
        f.create_dataset("test", data=values[: len(f["neighbors"])])
    return path
