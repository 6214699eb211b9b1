"""Rows of one layer as blocks that are read where they are looked at; what becomes of them isn't.

Which rows are meant lies in `pairing`, how blocks are put together in `folding`.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import Alias, DataNode  # the classes of docs.dask.org/en/stable/spec
from dask.base import optimize
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.ops.folding import Index


def panels(values: da.Array, rows: NDArray[np.int64], lane: Index) -> da.Array:
    """Return some rows of one layer in blocks of about 16 MiB: (row, column).

    Parameters
    ----------
    values : dask array
        (row, column), or (row, layer, column).
    rows : (row,) int64
        Which, at least one, in any order.
    lane : tuple of int
        The layer, or nothing where there are none.

    Examples
    --------
    >>> values = da.from_array(np.arange(24).reshape(4, 3, 2), chunks=2)
    >>> panels(values, np.array([3, 1]), (2,)).compute()
    array([[22, 23],
           [10, 11]])
    """
    first, stop = int(rows.min()), int(rows.max()) + 1
    # One indexing of all axes, so that dask hands it down to what reads.
    found = values[(slice(first, stop), *lane)]
    if not np.array_equal(rows, np.arange(first, stop)):
        found = found[rows - first]
    row = max(1, found.shape[1] * found.dtype.itemsize)
    made: da.Array = found.rechunk((max(1, BLOCK_SIZE // row), -1))
    return made


def own(array: da.Array, *labels: str) -> list[da.Array]:
    """Return the same array several times, each by tasks that nothing else shares.

    Passes over the same blocks would otherwise hold all of them from the first to the second.

    Parameters
    ----------
    array : dask array
        Whose tasks are renamed; what they read from isn't.
    *labels : str
        Each begins the names of one.

    Examples
    --------
    >>> array = da.ones(4, chunks=2)
    >>> see, judge = own(array, "see", "judge")
    >>> judge.name == f"judge-{array.name}", judge.compute()
    (True, array([1., 1., 1., 1.]))
    """
    (fused,) = optimize(array)
    graph = dict(fused.__dask_graph__())
    tasks = {
        key: task
        for key, task in graph.items()
        if not isinstance(task, Alias) or key[0] == array.name
    }

    def named(label: str, key: Any) -> Any:
        # Behind an alias a block would be read by a task of its own, before what looks at it.
        while key not in tasks:
            key = graph[key].target
        if isinstance(tasks[key], DataNode) and key[0] != array.name:
            return key
        return (f"{label}-{key[0]}", *key[1:]) if isinstance(key, tuple) else f"{label}-{key}"

    made = []
    for label in labels:
        names = {key: named(label, key) for key in graph}
        own = {names[key]: task.substitute(names, key=names[key]) for key, task in tasks.items()}
        made.append(da.Array(own, f"{label}-{array.name}", array.chunks, dtype=array.dtype))
    return made
