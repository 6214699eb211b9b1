"""Lazy variables that are computed run by run and kept in files, so that a killed run goes on.

What is recorded between runs, and where the files lie, is the caller's matter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from h5dask.errors import Refused
from h5dask.losses import compute
from h5dask.storage.publishing import sync
from h5dask.storage.region import Region
from h5dask.storage.remote import expand
from h5dask.vectors.raw import lazily
from h5dask.writing.staging import Steps


def keep(ds: xr.Dataset, name: str, part: Callable[[str], str], steps: Steps) -> xr.Dataset:
    """Compute a Dataset's lazy variables a run of rows at a time, and return it read from files.

    Parameters
    ----------
    ds : Dataset
        Its lazy variables are of numbers and lie along one first dim, in the same blocks of rows.
    name : str
        Tells it apart from others that the same caller keeps.
    part : callable
        Takes a name; gives the local path of a file.
    steps : Steps
        Remembers which runs are done. A run counts as done once its bytes are on disk.

    Returns
    -------
    Dataset
        The same, lazily from those files; small ones too, so that nothing is held. Memory: one
        run's results, and what computing them takes.

    Raises
    ------
    Refused
        The lazy variables don't lie along one dim in the same blocks.
    """
    lazy = {str(key): one for key, one in ds.variables.items() if one.chunks is not None}
    rows = {(one.dims[:1], one.chunksizes[one.dims[0]]) for one in lazy.values() if one.dims}
    if len(rows) != 1 or not all(one.dims for one in lazy.values()):
        raise Refused(
            f"{name}: found {len(rows)} different blocks of rows; expected lazy variables along "
            "one dim in the same blocks"
        )
    (((dim,), lengths),) = rows
    edges = np.cumsum([0, *lengths])
    paths = {key: part(f"{name}.{key}") for key in lazy}
    begun, runs = f"begin {name}", f"keep {name}"
    mark = json.dumps([list(map(int, lengths)), *((k, str(v.dtype)) for k, v in lazy.items())])
    there = all(os.path.exists(path) for path in paths.values())
    if not (there and steps.done(begun) == mark):
        steps.forget(begun, runs)
        for key, one in lazy.items():
            with open(paths[key], "wb") as file:
                file.truncate(one.nbytes)
            sync(paths[key])
        steps.once(begun, lambda: mark)
    do = partial(_run, ds[list(lazy)], dim, edges, paths)
    steps.panels(runs, len(lengths), do)
    return ds.assign({key: one.copy(data=_kept(paths[key], one)) for key, one in lazy.items()})


def _run(
    ds: xr.Dataset, dim: Any, edges: Any, paths: Mapping[str, str], start: int, stop: int
) -> None:
    """Compute some blocks of rows, and bring them to disk."""
    first, last = int(edges[start]), int(edges[stop])
    (some,) = compute(ds.isel({dim: slice(first, last)}))
    for key, path in paths.items():
        values = np.ascontiguousarray(some[key].values)
        with open(path, "r+b") as file:
            file.seek(first * values.itemsize * int(np.prod(values.shape[1:])))
            file.write(memoryview(values.reshape(-1).view(np.uint8)))
        sync(path)


def _kept(path: str, variable: xr.Variable) -> Any:
    """Return the values of one file, lazily."""
    (source,) = expand(path)
    region = Region(offset=0, shape=variable.shape, dtype=variable.dtype.str)
    chunks: Any = variable.chunks
    return lazily(source, region.array(source, os.path.basename(path)), chunks)
