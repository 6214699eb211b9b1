"""Large results computed in this process: each block is put in its place in one array at once.

Dask itself keeps all blocks of a result and lays them end to end when the last one is there, in
one thread and with twice the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any
from uuid import uuid4

import dask.array as da
import dask.local
import dask.threaded
import numpy as np
import xarray as xr
from dask.base import get_scheduler
from numpy.typing import NDArray

_NAME = "values of a DataArray"
LARGE = 64 * 2**20
"""Bytes of a result below which it doesn't matter."""


@dataclass(frozen=True, slots=True)
class Landing:
    """What is computed, and what is made of it then."""

    parts: list[list[Any]]
    """Of each collection: it itself, or all lazy arrays in it, of which the large ones fill their
    place and are next to nothing themselves."""
    joined: list[Callable[[Sequence[Any]], Any]]
    """Takes these computed; gives the collection computed."""

    def results(self, computed: Sequence[Any]) -> tuple[Any, ...]:
        """Return the collections from all their parts, computed."""
        edges = [*accumulate(map(len, self.parts), initial=0)]
        each = zip(self.joined, pairwise(edges), strict=True)
        return tuple(join(computed[first:last]) for join, (first, last) in each)


def landing(collections: Iterable[Any]) -> Landing:
    """Return what to compute so that large results lie in one array when it is done.

    Parameters
    ----------
    collections : iterable
        What is asked for: Datasets, DataArrays, dask arrays, or anything else, which stays. So does
        all where tasks run elsewhere than in threads of this process.
    """
    here = get_scheduler() in (None, dask.threaded.get, dask.local.get_sync)
    found = [_landing(one) if here else ([one], _only) for one in collections]
    return Landing([parts for parts, _ in found], [join for _, join in found])


def _landing(given: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    if isinstance(given, da.Array) and _is_large(given):
        part, target = _placed(given)
        return [part], partial(_filled, target=target)
    if isinstance(given, xr.DataArray) and _is_large(given.data):
        parts, join = _landing(given.to_dataset(name=_NAME))
        return parts, partial(_taken, join, given.name)
    lazy = (
        {name: one for name, one in given.variables.items() if one.chunks is not None}
        if isinstance(given, xr.Dataset)
        else {}
    )
    if not any(_is_large(one.data) for one in lazy.values()):
        return [given], _only
    placed = {name: _placed(one.data) for name, one in lazy.items() if _is_large(one.data)}
    parts = [placed[name][0] if name in placed else one.data for name, one in lazy.items()]
    return parts, partial(_assigned, given, list(lazy), {n: t for n, (_, t) in placed.items()})


def _only(computed: Sequence[Any]) -> Any:
    (one,) = computed
    return one


def _filled(_: Sequence[Any], *, target: NDArray[Any]) -> NDArray[Any]:
    return target


def _taken(
    join: Callable[[Sequence[Any]], xr.Dataset], name: Hashable, computed: Sequence[Any]
) -> xr.DataArray:
    return join(computed)[_NAME].rename(name)


def _assigned(
    ds: xr.Dataset,
    names: Sequence[Hashable],
    targets: Mapping[Hashable, NDArray[Any]],
    computed: Sequence[Any],
) -> xr.Dataset:
    values = dict(zip(names, computed, strict=True)) | dict(targets)
    made = {name: ds.variables[name].copy(data=one) for name, one in values.items()}
    coords = {name: one for name, one in made.items() if name in ds.coords}
    return ds.assign({n: o for n, o in made.items() if n not in coords}).assign_coords(coords)


def _is_large(values: Any) -> bool:
    return (
        isinstance(values, da.Array)
        and isinstance(values._meta, np.ndarray)  # noqa: SLF001 - no public name tells it
        and not isinstance(values._meta, np.ma.MaskedArray)  # noqa: SLF001
        and values.dtype.kind in "biufc"
        and values.npartitions > 1
        and not math.isnan(values.size)
        and values.nbytes >= LARGE
    )


class _Target:
    """An array that is filled, and where each block begins; a name stands for it in graphs."""

    def __init__(self, values: da.Array) -> None:
        self.array: NDArray[Any] = np.empty(values.shape, values.dtype)
        self.edges = [tuple(accumulate(lengths, initial=0)) for lengths in values.chunks]
        self.name = uuid4().hex

    def __dask_tokenize__(self) -> str:
        return self.name


def _placed(values: da.Array) -> tuple[da.Array, NDArray[Any]]:
    """Return what fills an array, and the array."""
    target = _Target(values)
    part: da.Array = da.map_blocks(
        _place,
        values,
        target,
        chunks=tuple((1,) * n for n in values.numblocks),
        dtype=np.bool_,
        meta=np.empty((0,) * values.ndim, np.bool_),
        token="place",
    )
    return part, target.array


def _place(
    block: NDArray[Any], target: _Target, block_id: tuple[int, ...] = ()
) -> NDArray[np.bool_]:
    place = tuple(
        slice(edges[at], edges[at + 1]) for edges, at in zip(target.edges, block_id, strict=True)
    )
    target.array[place] = block
    return np.ones((1,) * block.ndim, np.bool_)
