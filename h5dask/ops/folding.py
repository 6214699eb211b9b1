"""Blocks of a lazy array -> one small record: read and looked at in one task, merged by a tree.

A task takes a run of blocks, one after the other, so that a large array costs few tasks; no block
is held longer than it takes to look at it, whatever else is computed along with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise, product
from operator import attrgetter
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import Alias, DataNode, List, Task, TaskRef  # see docs.dask.org/en/stable/spec
from dask.base import optimize, tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from h5dask.blocks import BLOCK_SIZE
from h5dask.garbage import unsearched

FAN_IN = 16
"""Records that are merged at once where they are small."""
TASKS = 64
"""Tasks that there are before one takes several blocks: processors need work."""
_MOST = 16
"""Blocks that one task takes at most."""

Index = tuple[int, ...]
Look = Callable[..., Any]
"""Takes a block and what `extras` gives for it; gives its record."""
Merge = Callable[[list[Any]], Any]
"""Takes records in the order of their blocks; gives the record of all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """The record of all blocks along some axes; one for each block of the axes that are kept."""

    name: str
    """Begins the keys of the records."""
    graph: Mapping[Any, Any]
    """Tasks that give them, by key."""
    numblocks: Index
    """Blocks of the axes that are kept."""

    def array(
        self,
        label: str,
        get: Callable[[Any], NDArray[Any]],
        chunks: tuple[tuple[int, ...], ...],
        dtype: Any,
        *,
        new: int = 0,
        last: int = 0,
    ) -> da.Array:
        """Return part of each record as a lazy array.

        Parameters
        ----------
        label : str
            Tells it apart from other parts of the same records.
        get : callable
            Takes a record; gives an array of the dtype.
        chunks : tuple of tuple of int
            Lengths of the blocks: of the new axes, which have one each, and of those kept.
        dtype : dtype
            Of all blocks.
        new, last : int, default 0
            Axes that a record adds in front, and behind.
        """
        name = f"{label}-{self.name}"
        made = {}
        for at in np.ndindex(*self.numblocks):
            key = (name, *(0,) * new, *at, *(0,) * last)
            made[key] = Task(key, get, TaskRef((self.name, *at)))
        layers = {self.name: dict(self.graph), name: made}
        graph = HighLevelGraph(layers, {self.name: set(), name: {self.name}})
        return da.Array(graph, name, chunks, dtype=dtype)

    def then(self, label: str, change: Callable[[Any], Any]) -> Folded:
        """Return what a function makes of each record, in one more task each."""
        name = f"{label}-{self.name}"
        made = {
            (name, *at): Task((name, *at), change, TaskRef((self.name, *at)))
            for at in np.ndindex(*self.numblocks)
        }
        return Folded(name, {**self.graph, **made}, self.numblocks)

    def joined(self, other: Folded, merge: Merge) -> Folded:
        """Return these records merged with those of another one, in one more task each."""
        name = f"{self.name}-{tokenize(other.name)}"
        made = {
            (name, *at): Task(
                (name, *at), merge, List(TaskRef((self.name, *at)), TaskRef((other.name, *at)))
            )
            for at in np.ndindex(*self.numblocks)
        }
        return Folded(name, {**self.graph, **other.graph, **made}, self.numblocks)


@unsearched()
def fold(
    arrays: da.Array | Sequence[da.Array],
    axes: Sequence[int],
    look: Look,
    merge: Merge,
    *,
    name: str,
    extras: Callable[[Index], Any] | None = None,
    given: da.Array | Folded | None = None,
    fan_in: int = FAN_IN,
    tasks: int = TASKS,
) -> Folded:
    """Return the record of arrays' blocks along some axes, lazily.

    Parameters
    ----------
    arrays : dask array, or several
        What is read; several have the same blocks, and are looked at block by block together.
    axes : sequence of int
        Along which blocks are put together; each block of the others has a record of its own.
    look : callable
        Takes a block of each array, what `extras` gives for it, and `given`; gives its record.
    merge : callable
        Takes a list of records in the order of their blocks; gives the record of all of them.
        It must be associative.
    name : str
        What a person sees on the dashboard.
    extras : callable, optional
        Takes a block's index; gives what `look` needs to know of it beside its values.
    given : dask array or Folded, optional
        One block or one record, which each look needs whole; nothing is read before it is there.
    fan_in : int, default 16
        Records that are merged at once.
    tasks : int, default 64
        A task takes one block while there are fewer than twice as many, then more, 16 at most.

    Returns
    -------
    Folded
        Memory per task: a block, what `look` needs, and two records; for a merge `fan_in` records.
    """
    several = [arrays] if isinstance(arrays, da.Array) else list(arrays)
    first = several[0]
    token = tokenize([a.name for a in several], axes, look, merge, extras, given, fan_in, tasks)
    name = f"{name}-{token}"
    blocks, both = _Blocks.of(several), partial(_both, merge)
    known = () if given is None else (TaskRef((given.name, *(0,) * len(given.numblocks))),)
    kept = [axis for axis in range(first.ndim) if axis not in axes]
    graph: dict[Any, Any] = {}
    for at in np.ndindex(*(first.numblocks[axis] for axis in kept)):
        mine = list(_indexes(first.numblocks, dict(zip(kept, at, strict=True))))
        run = max(1, min(_MOST, len(mine) // tasks)) if blocks.is_whole else 1
        keys = []
        for i, start in enumerate(range(0, len(mine), run)):
            key = (f"run-{name}", *at, i)
            folded = None
            for index in mine[start : start + run]:
                parts = (blocks.task((one.name, *index)) for one in several)
                told = () if extras is None else (extras(index),)
                seen = Task(None, look, *parts, *told, *known)
                folded = seen if folded is None else Task(None, both, folded, seen)
            graph[key] = Task(key, _same, folded)
            keys.append(key)
        graph.update(_tree(keys, merge, name, at, fan_in))
    graph.update(blocks.needed(graph))
    if given is not None:  # as it is: optimized, it would be made apart for this alone
        graph.update(given.graph if isinstance(given, Folded) else dict(given.__dask_graph__()))
    return Folded(name, graph, tuple(first.numblocks[axis] for axis in kept))


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """What gives the blocks of some arrays, as few tasks as can be."""

    tasks: Mapping[Any, Any]
    """By key."""
    n_users: Mapping[Any, int]
    """How many tasks use each."""

    @classmethod
    def of(cls, arrays: Sequence[da.Array]) -> _Blocks:
        """Return the tasks, reading fused with what is done to it."""
        plain = [reads(one) for one in arrays]
        tasks = {key: task for reads in plain for key, task in reads.items()}
        others = [one for one, reads in zip(arrays, plain, strict=True) if not reads]
        for one in optimize(*others):
            tasks.update(one.__dask_graph__())
        n_users = Counter(key for task in tasks.values() for key in task.dependencies)
        return cls(tasks, n_users)

    @property
    def is_whole(self) -> bool:
        """Whether blocks share no work: else a run of them would keep what all of them need."""
        return not any(
            n > 1 and isinstance(self.tasks[key], Task | Alias) for key, n in self.n_users.items()
        )

    def task(self, key: Any) -> Any:
        """Return what gives a block, with all in it that no other task uses."""
        task = self.tasks[key]
        own = {
            one: self.task(one)
            for one in task.dependencies
            if self.n_users[one] == 1 and isinstance(self.tasks[one], Task | Alias)
        }
        return task.substitute(own) if own else task

    def needed(self, graph: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the tasks that some others depend on."""
        found: dict[Any, Any] = {}
        ahead = {key for task in graph.values() for key in task.dependencies if key in self.tasks}
        while ahead:
            key = ahead.pop()
            found[key] = self.tasks[key]
            ahead |= {one for one in self.tasks[key].dependencies if one not in found}
        return found


def reads(array: da.Array) -> dict[Any, Any]:
    """Return the tasks of an array that is just as `da.from_array` made it; none of any other.

    They differ in their slices alone: to make them of one takes a tenth of the time that dask
    needs to make each, and to look for what it could be fused with.
    """
    source, first = f"original-{array.name}", (array.name, *(0,) * array.ndim)
    if array.dask.layers.keys() != {source, array.name}:
        return {}
    culled = array.dask.cull({first})
    edges = (edges_of(array, axis) for axis in range(array.ndim))
    boxes = [*product(*([slice(*ends) for ends in pairwise(one)] for one in edges))]
    match culled[first]:
        case Task(args=(TaskRef(key=of), DataNode(value=box))) as model:
            if (of, box) != (source, boxes[0]):
                return {}
        case _:
            return {}
    keys = [(array.name, *at) for at in np.ndindex(*array.numblocks)]
    tasks = (
        Task(key, model.func, model.args[0], box, **model.kwargs)
        for key, box in zip(keys, boxes, strict=True)
    )
    return {source: DataNode(source, culled[source]), **dict(zip(keys, tasks, strict=True))}


def _indexes(numblocks: Index, fixed: Mapping[int, int]) -> Iterator[Index]:
    """Yield the index of each block that has the fixed ordinals, in C order."""
    ranges = [
        (fixed[axis],) if axis in fixed else range(n_blocks)
        for axis, n_blocks in enumerate(numblocks)
    ]
    yield from product(*ranges)


def _tree(
    keys: list[Any], merge: Merge, name: str, at: Index, fan_in: int
) -> Iterator[tuple[Any, Any]]:
    """Yield tasks that merge records, in order, down to the one that is asked for."""
    level = 0
    while True:
        level += 1
        runs = [keys[first : first + fan_in] for first in range(0, len(keys), fan_in)]
        last = len(runs) == 1
        keys = [(name, *at) if last else (f"merge-{name}", *at, level, i) for i in range(len(runs))]
        for key, run in zip(keys, runs, strict=True):
            yield key, Task(key, merge, List(*map(TaskRef, run)))
        if last:
            return


def _both(merge: Merge, one: Any, other: Any) -> Any:
    return merge([one, other])


def _same(record: Any) -> Any:
    return record


def edges_of(array: da.Array, axis: int) -> tuple[int, ...]:
    """Return where the blocks along an axis begin, and where the last one ends."""
    return tuple(accumulate(array.chunks[axis], initial=0))


def blocked(variable: xr.Variable) -> da.Array:
    """Return a variable's values as a dask array, in blocks of rows where it has none."""
    if variable.chunks is not None:
        return variable.data  # type: ignore[no-any-return]
    if not variable.dims:
        return views(variable, ())
    rows = max(1, BLOCK_SIZE * len(variable) // max(1, variable.nbytes))
    whole, rest = divmod(len(variable), rows)
    return views(variable, (rows,) * whole + (rest,) * (rest > 0 or not whole))


def views(variable: xr.Variable, lengths: tuple[int, ...]) -> da.Array:
    """Return values in memory in blocks of rows, none of them copied, as dask itself would."""
    name = f"values-{uuid4().hex}"  # to make one of the values, dask would read them all
    whole = tuple((n,) for n in variable.shape[1:])
    starts = [*accumulate(lengths, initial=0)][: max(1, len(lengths))]
    graph = {}
    for i, start in enumerate(starts):
        key = (name, i, *(0 for _ in whole)) if lengths else (name,)
        part = variable[start : start + lengths[i]] if lengths else variable
        graph[key] = Task(key, attrgetter("values"), part)
    chunks = (lengths, *whole) if lengths else ()
    return da.Array(graph, name, chunks, dtype=variable.dtype)
