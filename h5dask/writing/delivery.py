"""A planned file's values -> its skeleton, under whatever scheduler dask has.

Uncompressed datasets take one task a source block, fused with what computes it, from any thread,
process or machine that shares the file. How compressed ones get there is `encoding`'s matter.
Workers that don't share the file send their blocks here instead.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask._task_spec import DataNode, List, Task, TaskRef  # see docs.dask.org/en/stable/spec
from dask.base import compute as compute_all
from dask.base import tokenize
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from h5dask import layouts
from h5dask.chunkindex import ChunkIndex
from h5dask.clients import current_client
from h5dask.contents import Contents
from h5dask.deadlines import within
from h5dask.errors import CorruptInput, H5daskError, Unreachable
from h5dask.garbage import unsearched
from h5dask.ops.folding import blocked
from h5dask.storage.describe import describe
from h5dask.storage.families import families
from h5dask.storage.parts import PROBE
from h5dask.writing.drafting import Transfer
from h5dask.writing.encoding import (
    IN_FLIGHT,
    Encoded,
    chained,
    corners_of,
    encode_block,
    encoded_of,
    place_block,
)
from h5dask.writing.placing import Target, Written, check_block, write_block
from h5dask.writing.planning import FilePlan

_CHECKED_AT_ONCE = 16
"""Blocks that one task reads back."""
_ASKED = 30
"""How often workers are asked whether they share the file's folder, a second apart ..."""
_ANSWER_SECONDS = 60.0
"""... and how long they may take to answer."""

Ordinal = tuple[int, ...]
"""Which block of a variable, along each dim."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """The tasks that write every value into a skeleton."""

    writes: list[Delayed] = field(default_factory=list)
    """One for each block that is written as bytes; gives a `Written`."""
    blocks: list[tuple[Target, Ordinal]] = field(default_factory=list)
    """Where each of them belongs."""
    places: list[Delayed] = field(default_factory=list)
    """One for each block of compressed datasets, in the order in which they run."""

    def checks(self, written: Sequence[Any], *, barrier: bool = False) -> list[Delayed]:
        """Return tasks that read back what was written, or is by tasks; after all with a barrier.

        They are one layer of a graph, made at once: to call a task for each would search all of
        the writes as often.
        """
        name = f"checks-{tokenize(self.blocks[0][0].file)}" if self.blocks else ""
        given = [TaskRef(one.key) if isinstance(one, Delayed) else one for one in written]
        made: dict[Any, Any] = {}
        after = None
        if barrier:
            made["written-" + name] = Task("written-" + name, _wait, List(*given))
            after = TaskRef("written-" + name)
        keys = []
        jobs = zip(self.blocks, given, strict=True)
        for _, some in groupby(jobs, key=lambda job: id(job[0][0])):
            mine = list(some)
            target = mine[0][0][0]
            shared = f"target-{target.variable}-{name}"
            made[shared] = DataNode(shared, target)
            for first in range(0, len(mine), _CHECKED_AT_ONCE):
                part = mine[first : first + _CHECKED_AT_ONCE]
                key = f"check-{target.variable}-{tokenize(target.file, part[0][0][1])}"
                ordinals, what = [at for (_, at), _ in part], List(*(one for _, one in part))
                made[key] = Task(key, _check_blocks, what, ordinals, TaskRef(shared), after)
                keys.append(key)
        before: dict[int, Any] = {id(one.dask): one for one in written if isinstance(one, Delayed)}
        graph = HighLevelGraph.from_collections(name, made, dependencies=list(before.values()))
        return [Delayed(key, graph, layer=name) for key in keys]

    def tasks(self) -> list[Delayed]:
        """Return what writes all and, when all is written, reads it back; each gives counts."""
        return (
            [*self.checks(self.writes, barrier=True), *self.places] if self.writes else self.places
        )


def deliver(
    ds: xr.Dataset,
    planned: FilePlan,
    indexes: Mapping[str, ChunkIndex],
    file: str,
    *,
    later: bool = False,
) -> Delivery:
    """Return the tasks that write every value into a skeleton, and read back what they wrote.

    Parameters
    ----------
    ds : Dataset
        Whose values are written.
    planned : FilePlan
        Which part of which variable each dataset takes.
    indexes : mapping of str to ChunkIndex
        By path, where the bytes of each dataset belong.
    file : str
        Path of the skeleton.
    later : bool, default False
        Whether values in memory may change before the tasks run, so that they take a copy.

    Returns
    -------
    Delivery
        Its tasks give lists of `Written`. Memory per task: the block, and for compressed datasets
        its encoded bytes.
    """
    encoded: list[Encoded] = []
    by_variable: dict[str, list[Transfer]] = {}
    held = {name: values_of(ds, name, later) for name in _variables(planned)}
    for transfer in planned.transfers:
        if transfer.form.filters:
            encoded.append(encoded_of(held[transfer.variable], transfer))
        else:
            by_variable.setdefault(transfer.variable, []).append(transfer)
    direct = {}
    for name, transfers in by_variable.items():
        values = held[name]
        direct[name] = values, Target.of(file, name, transfers, indexes, values.chunks)
    if not _workers_share(file + PROBE):
        return Delivery(places=[delayed([one]) for one in _here(direct.values(), encoded, file)])
    made = Delivery()
    for name, (values, target) in direct.items():
        # Names end with a token of the file's, which is unique: a cluster must not take one
        # write for another.
        written = da.map_blocks(
            _write,
            values,
            target=_shared(target),
            name=f"write-{name}-{tokenize(file)}",
            dtype=object,
            chunks=tuple((1,) * n for n in values.numblocks),
            meta=np.empty((0,) * values.ndim, object),
        )
        made.writes.extend(written.to_delayed(optimize_graph=True).ravel())
        made.blocks.extend((target, at) for at in np.ndindex(*values.numblocks))
    made.places.extend(chained(encoded, file))
    return made


def given_all(function: Callable[..., Any], tasks: Sequence[Delayed], *more: Any) -> Delayed:
    """Return a task that takes what all of these give, and more; their graph is searched once."""
    name = f"{function.__name__.strip('_')}-{uuid.uuid4().hex}"
    task = Task(name, function, List(*(TaskRef(one.key) for one in tasks)), *more)
    before: dict[int, Any] = {id(one.dask): one for one in tasks}
    graph = HighLevelGraph.from_collections(name, {name: task}, dependencies=list(before.values()))
    return Delayed(name, graph)


def _variables(planned: FilePlan) -> dict[str, None]:
    return dict.fromkeys(transfer.variable for transfer in planned.transfers)


def values_of(ds: xr.Dataset, name: str, later: bool) -> da.Array:
    """Return a variable's values as a dask array; those in memory are copied for later alone."""
    variable = ds[name].variable
    return blocked(variable.copy(deep=True) if later else variable)


def _shared(target: Target) -> Delayed:
    return as_task(target, f"target-{target.variable}-{tokenize(target.file)}")


def as_task(record: Any, name: str) -> Delayed:
    """Return a record as one task of its own, on which all that need it depend."""
    made: Delayed = delayed(record, name=name, pure=False, traverse=False)
    return made


def _write(block: NDArray[Any], target: Target, block_id: Ordinal) -> NDArray[Any]:
    """Write one block, as a task of an array whose blocks are what was written."""
    made = np.empty((1,) * block.ndim, object)
    made[...] = write_block(block, target, block_id)
    return made


def _check_blocks(
    written: Sequence[Any], blocks: Sequence[Ordinal], target: Target, after: Any = None
) -> list[Written]:
    """Read blocks back, and return what was written; `after` only makes it wait."""
    del after
    found: list[Written] = [np.ravel(one)[0] for one in written]
    for one, at in zip(found, blocks, strict=True):
        check_block(one, target, at)
    return found


def task_named(name: str, function: Callable[..., Any]) -> Callable[..., Delayed]:
    """Return a task of this name; what is bound to the function is not searched for others."""
    call: Any = delayed(function, name=f"call-{name}", pure=False, traverse=False)
    return partial(call, dask_key_name=name)


def _wait(written: Any) -> None:
    """Do nothing: what depends on this runs after all that it was given."""


def _workers_share(path: str) -> bool:
    """Whether every worker sees a path: each reads a token there; threads and processes do."""
    client = current_client()
    if client is None:
        return True
    token = uuid.uuid4().hex
    with open(path, "w", encoding="ascii") as file:
        file.write(token)
    try:
        return all(answer is True for answer in _answers(client, path, token))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _answers(client: Any, path: str, token: str) -> list[Any]:
    """Return what the workers say; one that is lost while it is asked says nothing."""
    for _ in range(_ASKED):
        told = within(_ANSWER_SECONDS, partial(client.run, holds, path, token, on_error="return"),
                      "workers")  # fmt: skip
        answers = [one for one in told.values() if not isinstance(one, OSError)]
        if answers:
            return answers
        time.sleep(1)
    raise Unreachable("workers: none answered; look at their logs, or start them again")


def holds(path: str, token: str) -> bool:
    """Whether a file is here and holds the token."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read() == token
    except OSError:
        return False


def _here(
    direct: Iterable[tuple[da.Array, Target]], encoded: Iterable[Encoded], file: str
) -> Iterator[Written]:
    """Compute blocks a few at a time and write them from this process."""
    for values, target in direct:
        for at, block in _computed(values):
            written = write_block(block, target, at)
            check_block(written, target, at)
            yield written
    for part in encoded:
        corners = corners_of(part.values, "corner").dask
        for at, block in _computed(part.values):
            made = encode_block(block, corners["corner", *at], transfer=part.transfer)
            yield from place_block(made, path=part.transfer.path, file=file)


def _computed(values: da.Array) -> Iterator[tuple[Ordinal, NDArray[Any]]]:
    """Yield every block and where it is, computing a few at a time."""
    ordinals = [*np.ndindex(*values.numblocks)]
    blocks = values.to_delayed(optimize_graph=True)
    flight = IN_FLIGHT * max(1, CPU_COUNT)
    for first in range(0, len(ordinals), flight):
        some = ordinals[first : first + flight]
        yield from zip(some, compute_all(*(blocks[at] for at in some)), strict=True)


def refuse_missing(written: Iterable[Written], expected: Mapping[str, int], url: str) -> None:
    """Refuse what tasks have written where a dataset lacks values, or got some twice.

    Raises
    ------
    CorruptInput
        It does.
    """
    counts: Counter[str] = Counter()
    for one in written:
        counts.update(one.counts)
    for path, n in expected.items():
        if counts[path] != n:
            raise CorruptInput(
                f"{url}: /{path} got {counts[path]:,} of {n:,} values; nothing was published"
            )


@unsearched()
def contents_of(temporary: str, expected: Iterable[str], url: str) -> Contents:
    """Return what a skeleton or the file made from it holds.

    Raises
    ------
    CorruptInput
        An expected dataset isn't in the file.
    """
    known = families(layouts.all_layouts())
    contents, _ = describe(temporary, subject=url, fingerprint="", families=known)
    lost = [path for path in expected if path not in contents]
    if lost:
        raise CorruptInput(f"{url}: /{lost[0]} is not in the written file; nothing was published")
    return contents


@contextmanager
def named_as(url: str, temporary: str) -> Iterator[None]:
    """Name the target in errors that name the file it is made as."""
    try:
        yield
    except H5daskError as error:
        if temporary not in str(error):
            raise
        raise type(error)(str(error).replace(temporary, url)) from None
