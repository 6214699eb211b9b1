"""Computing, and telling what was lost: workers over a block that is named, or the scheduler."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute as compute_all
from dask.base import optimize

from h5dask.chunkindex import ChunkIndex
from h5dask.errors import Unreachable, WorkersLost
from h5dask.landing import landing
from h5dask.storage.array import StoredArray
from h5dask.storage.selection import per_axis, select
from h5dask.threads import one_blas_thread

if TYPE_CHECKING:
    from distributed import KilledWorker

_MOST_NAMED = 3
Read = tuple[StoredArray, tuple[Any, ...]]
"""A stored array, and which part of it."""


def compute(*collections: Any) -> tuple[Any, ...]:
    """Compute dask collections together, as `dask.compute` does, fit for whatever scheduler.

    BLAS has one thread meanwhile: the tasks are what is parallel. On threads the blocks of large
    results are put in their place at once: such a result takes its own memory, and no more.

    Parameters
    ----------
    *collections : dask collections
        What is computed, blocks that they share once.

    Raises
    ------
    WorkersLost
        Every worker that was given a certain block died; its file, path and chunks are named.
    Unreachable
        The scheduler ended, or was cut off, before all was computed.

    Examples
    --------
    >>> import dask.array as da
    >>> compute(da.arange(4, chunks=2).sum(), 7)
    (np.int64(6), 7)
    """
    try:
        with one_blas_thread():
            landed = landing(collections)
            return landed.results(compute_all(*chain(*landed.parts)))
    except _losses() as error:
        raise explained(error, collections) from None
    except _endings() as error:
        told = str(error).partition("\n")[0]
        raise Unreachable(
            f"the scheduler ended, or was cut off, while it computed ({told}); start it and the "
            "workers again, and run this again"
        ) from None


def _endings() -> tuple[type[Exception], ...]:
    """Return the errors by which dask tells that the scheduler ended; nobody here cancels."""
    if "distributed" not in sys.modules:
        return (CancelledError,)
    from distributed.comm.core import CommClosedError

    return CancelledError, CommClosedError


def _losses() -> tuple[type[KilledWorker], ...]:
    """Return the error by which a cluster tells of lost workers, if there can be one at all."""
    if "distributed" not in sys.modules:
        return ()
    from distributed import KilledWorker

    return (KilledWorker,)


def explained(error: KilledWorker, collections: Iterable[Any]) -> WorkersLost:
    """Return dask's error with the block that all those workers had been given.

    Where they all had several, any of which may have been at fault, each is named.

    Parameters
    ----------
    error : distributed.KilledWorker
        It knows the name of one task only.
    collections : iterable of dask collections
        What was computed; the task is one of theirs.
    """
    graph: dict[Any, Any] = {}
    for collection in optimize(*collections):
        if hasattr(collection, "__dask_graph__"):
            graph.update(collection.__dask_graph__() or {})
    suspects = _suspects(error)
    reads = (read for task in suspects for read in _reads(graph, task))
    blocks = list(dict.fromkeys(text for array, key in reads for text in _places(array, key)))
    named = "; ".join(blocks[:_MOST_NAMED]) or f"task {error.task!r}"
    if len(blocks) > _MOST_NAMED:
        named += f"; and {len(blocks) - _MOST_NAMED:,} more"
    over = "one of these blocks" if len(blocks) > 1 else "this block"
    return WorkersLost(
        f"{named}: {error.allowed_failures + 1} workers died one after the other over {over}, "
        f"the last one {error.last_worker.address}; "
        "give workers more memory, open the file in smaller blocks, or find out from their logs "
        "what ended them"
    )


def _suspects(error: KilledWorker) -> list[Any]:
    """Return the tasks that were with each of the lost workers; dask blames any one of them."""
    from distributed import Client

    with suppress(OSError, TimeoutError, ValueError):
        removed = [
            event["processing-tasks"]
            for _, event in Client.current().get_events("all")
            if event.get("action") == "remove-worker" and not event["expected"]
        ]
        lost_with = [set(tasks) for tasks in removed if error.task in tasks]
        return sorted(set.intersection(*lost_with), key=str) if lost_with else [error.task]
    return [error.task]


def _reads(graph: Mapping[Any, Any], task: Any) -> list[Read]:
    """Return which parts of which stored arrays a task needs: itself, or by way of others."""
    found: list[Read] = []
    seen, ahead = set(), [task] if task in graph else list(graph)
    while ahead:
        key = ahead.pop()
        if key in seen or key not in graph:
            continue
        seen.add(key)
        mine = list(_pairs(graph, key))
        found += mine
        ahead += [] if mine else graph[key].dependencies
    return found


def _pairs(graph: Mapping[Any, Any], task: Any) -> Iterator[Read]:
    """Yield each stored array that a task needs with each index in it that fits the array.

    Fused tasks keep them in no order; several arrays read in one share the index of their rows.
    """
    needed = [graph[key] for key in graph[task].dependencies if key in graph]
    arrays = [one.value for one in needed if isinstance(getattr(one, "value", None), StoredArray)]
    parts = list(_parts(graph[task]))
    indexes = [part for part in parts if isinstance(part, tuple)]
    for array in (*arrays, *(part for part in parts if isinstance(part, StoredArray))):
        yield from ((array, index) for index in indexes if _fits(index, array.shape))


def _fits(index: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    return len(index) == len(shape) and all(
        (one.stop or 0) <= size if isinstance(one, slice) else one < size
        for one, size in zip(index, shape, strict=True)
    )


def _parts(node: Any) -> Iterator[StoredArray | tuple[Any, ...]]:
    """Yield the stored arrays and the indexes in a task, or in those that are fused in it."""
    if isinstance(node, StoredArray) or (isinstance(node, tuple) and _is_index(node)):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _parts(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _parts(value)
    elif hasattr(node, "args"):
        yield from _parts(node.args)
    elif hasattr(node, "value"):
        yield from _parts(node.value)


def _is_index(node: tuple[Any, ...]) -> bool:
    kinds = {type(one) for one in node}
    return slice in kinds and kinds <= {slice, int}


def _places(array: StoredArray, key: tuple[Any, ...]) -> Iterator[str]:
    """Yield where a part of a stored array lies, once a dataset: file, path, rows, chunks."""
    keys = per_axis(key, array.shape)
    segments, rows = array.segments, select(keys[0], array.shape[0]).cover
    axis = array.lane_axis
    lanes = [0] if axis is None else select(keys[axis], array.shape[axis]).wanted().tolist()
    low = int(np.searchsorted(segments.starts, rows.start, side="right")) - 1
    high = int(np.searchsorted(segments.starts, rows.stop, side="left"))
    for at in range(low, high):
        start, stop = segments.starts[at : at + 2].tolist()
        first, last = max(rows.start, start) - start, min(rows.stop, stop) - start - 1
        for lane in lanes if last >= first else ():
            path = segments.paths[lane][at]
            if path is not None:
                url = array.sources[int(segments.sources[at])].url
                told = f"{url}: /{path}, rows {first:,} to {last:,}"
                yield told + _chunks(segments.indexes.get((lane, at)), array, first, last)


def _chunks(index: ChunkIndex | None, array: StoredArray, first: int, last: int) -> str:
    """Return which chunks along the rows hold some of them; leading axes lie end to end."""
    if index is None:
        return ""
    n_lead = len(index.shape) - len(array.trailing)
    lead, sizes = index.shape[:n_lead], index.chunks[:n_lead]
    corners = [
        ", ".join(
            str(int(at) // size)
            for at, size in zip(np.unravel_index(row, lead), sizes, strict=True)
        )
        for row in (first, last)
    ]
    told = " to ".join(dict.fromkeys(corners))
    return f" (chunks {told})" if corners[0] != corners[1] else f" (chunk {told})"
