"""Run a layout's checks on values over all blocks of a Dataset, in one parallel pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from h5dask import check
from h5dask.errors import Refused
from h5dask.layout import Layout
from h5dask.losses import compute
from h5dask.ops.ragged import absent_rows
from h5dask.problem import Problem

Places = Callable[[str], check.Place]
_FAN_IN = 16
_SPARSE_NBYTES = 2**30
"""Bytes of values that a file of any size may declare and not store ..."""
_MOST_EXPANSION = 2**14
"""... beside so many for each byte it has, which no compression of real values reaches."""


def value_problems(
    layout: Layout,
    ds: xr.Dataset,
    subject: str,
    places: Places | None = None,
    nbytes: int | None = None,
) -> tuple[Problem, ...]:
    """Return what the layout's checks find in the values, each value read once.

    Parameters
    ----------
    layout : Layout
        The layout whose checks run.
    ds : Dataset
        In the layout's analysis form; lazy variables are read block by block.
    subject : str
        The file, for messages.
    places : callable, optional
        Variable's name -> where its rows lie in the file, so that findings name its datasets.
    nbytes : int, optional
        Size of the file, which bounds what its values may take.

    Raises
    ------
    Refused
        The file declares values out of all proportion to its size.
    """
    if nbytes is not None:
        refuse_boundless(ds, subject, nbytes)
    setting = check.Setting(sizes={str(d): n for d, n in ds.sizes.items()}, attrs=dict(ds.attrs))
    names, merged = [], []
    for name, variable in ds.variables.items():
        if variable.ndim and any(one.applies(str(name)) for one in layout.checks):
            names.append(str(name))
            absent = absent_rows(ds, name)
            merged.append(_findings(layout, str(name), variable, setting, absent))
    found: list[Problem] = []
    for name, findings in zip(names, compute(*merged), strict=True):
        place = places(name) if places else None
        found += check.tell(layout.checks, subject, name, findings, place)
    for relation in layout.relations:
        found += relation(ds, subject)
    return tuple(found)


def refuse_boundless(ds: xr.Dataset, subject: str, nbytes: int) -> None:
    """Raise where a small file declares so many values that reading them would never end."""
    most = _SPARSE_NBYTES + _MOST_EXPANSION * nbytes
    for name, variable in ds.variables.items():
        declared = math.prod(variable.shape) * max(variable.dtype.itemsize, 16)
        if declared > most:
            raise Refused(
                f"{subject}: {name} of shape {variable.shape!r} takes {declared:,} bytes, the "
                f"file has {nbytes:,}; its values aren't all read: read a part of it, or look "
                "at its structure only with `h5dask info`"
            )


def _found(
    checks: Sequence[check.Check],
    name: str,
    block: NDArray[Any],
    start: int,
    setting: check.Setting,
    absent: NDArray[np.bool_] | None,
) -> tuple[check.Findings, ...]:
    """Return the findings of a block: of those rows that there is something of."""
    if absent is None or not absent.any():
        return check.find(checks, name, block, start, setting)
    edges = np.flatnonzero(np.diff(absent, prepend=True, append=True)).reshape(-1, 2)
    runs = [check.find(checks, name, block[a:b], start + a, setting) for a, b in edges.tolist()]
    return check.merge(runs) if runs else tuple(check.Findings() for _ in checks)


def _findings(
    layout: Layout,
    name: str,
    variable: xr.Variable,
    setting: check.Setting,
    absent: NDArray[np.bool_] | None,
) -> Any:
    """Return the delayed, merged findings of one variable."""
    values = variable.data
    if not isinstance(values, da.Array):
        values = da.from_array(np.asarray(values), chunks=-1)
    rows = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    starts = [0, *accumulate(rows.chunks[0])][:-1]
    look = delayed(_found, pure=True)
    parts = [
        look(
            layout.checks,
            name,
            block,
            start,
            setting,
            None if absent is None else absent[start : start + n],
            dask_key_name=f"check-{name}-{i}-{rows.name}",
        )
        for i, (block, start, n) in enumerate(
            zip(rows.to_delayed().ravel(), starts, rows.chunks[0], strict=True)
        )
    ]
    merge = delayed(check.merge, pure=True)
    while len(parts) > 1:
        parts = [merge(parts[at : at + _FAN_IN]) for at in range(0, len(parts), _FAN_IN)]
    return parts[0]
