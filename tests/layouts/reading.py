"""Files read whole by h5py, as the plain arrays and Datasets that layouts are judged by."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from h5dask import check
from h5dask.check.structure import place_in, problems
from h5dask.contents import Contents
from h5dask.grouping import Arranged, Arrangement, arrange
from h5dask.groups import Groups
from h5dask.layout import Layout
from h5dask.problem import Problem
from h5dask.storage.describe import describe


def contents(path: Path) -> Contents:
    """Describe a file under its bare name."""
    return describe(str(path), subject=path.name, fingerprint="")[0]


def taken(groups: Groups, dim: str) -> list[list[int]]:
    """Return which rows of a Dataset each group takes, consecutive ones one by one too."""
    every = np.arange(1 + sum(groups.counts[dim].tolist()) * 99)
    return [every[rows].tolist() for rows in groups.rows[dim]]


def structure(layout: Layout, path: Path) -> tuple[Problem, ...]:
    """Return what a file's structure says."""
    return problems(layout, contents(path), nbytes=path.stat().st_size)


def dataset(layout: Layout, path: Path) -> xr.Dataset:
    """Return all variables of a file, groups end to end, as numpy arrays."""
    arrangement = arrange(layout, contents(path))
    with h5py.File(path) as f:
        attrs = dict(f.attrs)
        variables = {
            v.name: (v.spec.dims, values(f, v, arrangement)) for v in arrangement.variables
        }
    return xr.Dataset(variables, attrs=attrs)


def values(f: h5py.File, variable: Arranged, arrangement: Arrangement) -> np.ndarray[Any, Any]:
    """Return one variable's values; stacked dims come second, as in every layout."""
    counts = arrangement.groups.counts.get(variable.spec.ragged or "", [1])
    lanes = []
    for paths in variable.paths:
        parts = [f[path][()] for path, n in zip(paths, counts, strict=True) if path and n]
        width = len(variable.trailing)
        lanes.append(np.concatenate([x.reshape(-1, *x.shape[x.ndim - width :]) for x in parts]))
    return np.stack(lanes, axis=1) if variable.spec.stacked else lanes[0]


def value_problems(layout: Layout, path: Path) -> Iterator[Problem]:
    """Yield what the checks say of blocks of a few rows, and what the relations say."""
    found = contents(path)
    arrangement, ds = arrange(layout, found), dataset(layout, path)
    setting = check.Setting(sizes=dict(ds.sizes), attrs=ds.attrs)
    for name, array in ds.variables.items():
        block = array.values
        rows = max(3, len(block) // 50)
        parts = [
            check.find(layout.checks, str(name), block[i : i + rows], i, setting)
            for i in range(0, len(block), rows)
        ]
        place = place_in(found, arrangement, str(name))
        yield from check.tell(layout.checks, path.name, str(name), check.merge(parts), place)
    for relation in layout.relations:
        yield from relation(ds, path.name)
