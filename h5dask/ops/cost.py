"""What an operation takes, from shapes and blocks alone: bytes, operations, memory. Nothing runs.

How a variable lies in its files comes as numbers, for neither files nor layouts are known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from h5dask.blocks import BLOCK_SIZE
from h5dask.ops.folding import FAN_IN, TASKS

if TYPE_CHECKING:
    import xarray as xr

SCRATCH = 4 * 2**20
"""Bytes that a thread keeps beside a block, for what it reads or writes at once."""
TEXT = 64
"""Bytes that Python takes for a text beside its letters, and the reference to it."""
ORDER = 32
"""Bytes a row of a block that it takes to visit rows group by group."""
DESCRIPTOR = 16
"""Bytes that a file takes for a value of variable length beside the value."""
CHUNKS_BESIDE = 4
"""Decoded chunks that a thread holds beside a block at most, where filters are undone or done."""
CHECKED_AT_ONCE = 16
"""Blocks that one task reads back after writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one stage of a computation takes."""

    stage: str
    """Its name, as a person sees it."""
    n_blocks: int
    """Blocks that are worked on."""
    n_tasks: int
    """Tasks that dask runs, about."""
    read: int
    """Bytes that are read from files."""
    written: int
    """Bytes that are written to files."""
    flops: float
    """Floating-point operations on values one by one, as kernels do them."""
    memory: int
    """Bytes that a task takes at its peak, above the idle worker."""
    decoded: int = 0
    """Bytes that filters give back when compressed chunks are read."""
    encoded: int = 0
    """Bytes that filters take when compressed chunks are written."""
    products: float = 0.0
    """Floating-point operations in products of matrices."""
    moved: int = 0
    """Bytes of results that tasks hand on to others."""
    n_runs: int = 0
    """Tasks that can run side by side, where they take several blocks each."""

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both within one stage, whose tasks take turns."""
        return Cost(
            stage=self.stage,
            n_blocks=self.n_blocks + other.n_blocks,
            n_tasks=self.n_tasks + other.n_tasks,
            read=self.read + other.read,
            written=self.written + other.written,
            flops=self.flops + other.flops,
            memory=max(self.memory, other.memory),
            decoded=self.decoded + other.decoded,
            encoded=self.encoded + other.encoded,
            products=self.products + other.products,
            moved=self.moved + other.moved,
            n_runs=self.side_by_side + other.side_by_side,
        )

    @property
    def side_by_side(self) -> int:
        """Tasks that can run side by side."""
        return self.n_runs or self.n_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How a variable lies in its files, as numbers."""

    ratio: float = 1.0
    """Stored bytes for each byte of its values."""
    chunk: int = 0
    """Decoded bytes of its largest compressed chunk; 0 where it isn't compressed."""
    value: float = 0.0
    """Mean bytes of a value of variable length, such as text."""


Forms = Mapping[str, Stored]
"""How variables are stored, by name; those that aren't named, contiguous."""
CONTIGUOUS = Stored()


def merged(costs: Iterable[Cost]) -> tuple[Cost, ...]:
    """Return one cost a stage, in the order in which the stages first appear.

    Examples
    --------
    >>> one = Cost(stage="a", n_blocks=1, n_tasks=1, read=5, written=0, flops=0, memory=9)
    >>> both = merged([one, replace(one, stage="b"), replace(one, memory=3)])
    >>> [(cost.stage, cost.read, cost.memory) for cost in both]
    [('a', 10, 9), ('b', 5, 9)]
    """
    found: dict[str, Cost] = {}
    for cost in costs:
        found[cost.stage] = found[cost.stage] + cost if cost.stage in found else cost
    return tuple(found.values())


def nothing(stage: str) -> Cost:
    """Return the cost of a stage that does nothing."""
    return Cost(stage=stage, n_blocks=0, n_tasks=0, read=0, written=0, flops=0.0, memory=0)


def reading(ds: xr.Dataset, *, stage: str = "read", stored: Forms | None = None) -> Cost:
    """Return what it takes to read every block of a Dataset once.

    Parameters
    ----------
    ds : Dataset
        Its variables on dask arrays are read; those in memory cost nothing.
    stage : str, default "read"
        What the stage is called.
    stored : mapping of str to Stored, optional
        How the variables are stored.

    Returns
    -------
    Cost
        Memory: the largest block and 4 MiB; up to four chunks more where it is compressed.

    Examples
    --------
    >>> import xarray as xr
    >>> ds = xr.Dataset({"x": ("row", range(1000))}).chunk(row=250)
    >>> cost = reading(ds)
    >>> cost.n_blocks, cost.read, cost.memory
    (4, 8000, 4196304)
    """
    total = nothing(stage)
    for name, variable in _blocked(ds):
        total += _reading(variable, (stored or {}).get(name, CONTIGUOUS), stage)
    return total


def _reading(variable: xr.Variable, form: Stored, stage: str) -> Cost:
    n_blocks = _n_blocks(variable)
    return Cost(
        stage=stage,
        n_blocks=n_blocks,
        n_tasks=n_blocks,
        read=_in_file(variable, form),
        written=0,
        flops=0.0,
        memory=_block(variable, form) + _beside(form),
        decoded=_nbytes(variable, form) if form.chunk else 0,
    )


def reducing(
    ds: xr.Dataset, *, stage: str = "reduce", stored: Forms | None = None, skipna: bool = True
) -> Cost:
    """Return what xarray's own reductions take, such as `mean`, of every block of a Dataset.

    Parameters
    ----------
    ds, stage, stored
        As in `reading`.
    skipna : bool, default True
        Whether NaN is left out: of floating-point blocks that takes a copy, a bool a value, and
        buffers of 4 MiB at most.
    """
    total = nothing(stage)
    for name, variable in _blocked(ds):
        form = (stored or {}).get(name, CONTIGUOUS)
        cost = _reading(variable, form, stage)
        copied = skipna and variable.dtype.kind in "fc"
        values = _block(variable, form)
        beside = values + values // variable.dtype.itemsize + SCRATCH if copied else 0
        total += replace(
            cost,
            n_tasks=cost.n_blocks + -(-cost.n_blocks // 3),  # dask merges four at a time
            flops=2.0 * variable.size,
            memory=cost.memory + beside,
        )
    return total


def folding(
    ds: xr.Dataset,
    *,
    stage: str = "fold",
    stored: Forms | None = None,
    flops: float = 8.0,
    passes: int = 1,
) -> Cost:
    """Return what it takes to look at every block of a Dataset, and merge what was seen.

    Parameters
    ----------
    ds, stage, stored
        As in `reading`.
    flops : float, default 8
        Operations a value, as statistics take.
    passes : int, default 1
        How often each value is looked at.
    """
    total = nothing(stage)
    for name, variable in _blocked(ds):
        cost = _reading(variable, (stored or {}).get(name, CONTIGUOUS), stage)
        runs = n_runs(cost.n_blocks)
        total += replace(
            cost,
            n_runs=runs,
            n_tasks=passes * (runs + -(-runs // FAN_IN)),
            read=passes * cost.read,
            decoded=passes * cost.decoded,
            flops=passes * flops * variable.size,
            memory=cost.memory + ORDER * _rows(variable),
        )
    return total


def n_runs(n_blocks: int) -> int:
    """Return how many tasks look at so many blocks, a run of them each.

    Examples
    --------
    >>> n_runs(100), n_runs(6400), n_runs(100_000)
    (100, 400, 6250)
    """
    return -(-n_blocks // max(1, min(FAN_IN, n_blocks // TASKS)))


def writing(
    ds: xr.Dataset,
    *,
    stage: str = "write",
    stored: Forms | None = None,
    source: Forms | None = None,
) -> Cost:
    """Return what it takes to compute every block of a Dataset, write it, and read it back.

    Parameters
    ----------
    ds, stage
        As in `reading`; variables in memory are written too.
    stored : mapping of str to Stored, optional
        How the variables will be stored.
    source : mapping of str to Stored, optional
        How they are stored where they are read; the same without it.

    Returns
    -------
    Cost
        Memory: what reading takes and 4 MiB; for a compressed variable its encoded bytes too,
        and four chunks. Where encoding outruns the file, up to two encoded blocks a thread wait
        for their place, which is not counted.
    """
    stored = stored or {}
    read = reading(ds, stage=stage, stored=stored if source is None else source)
    total = replace(read, n_tasks=0, memory=0)
    for name, variable in ds.variables.items():
        form = stored.get(str(name), CONTIGUOUS)
        origin = (stored if source is None else source).get(str(name), CONTIGUOUS)
        is_lazy = variable.chunks is not None
        n_blocks, written = _n_blocks(variable), _in_file(variable, form)
        values = _block(variable, form)
        encoded = int(values * min(form.ratio, 1.0)) if form.chunk else 0
        total += Cost(
            stage=stage,
            n_blocks=0 if is_lazy else n_blocks,
            n_tasks=3 * n_blocks if form.chunk else n_blocks + -(-n_blocks // CHECKED_AT_ONCE),
            read=0 if form.chunk else written,
            written=written,
            flops=0.0,
            memory=values + (_beside(origin) if is_lazy else 0) + encoded + _beside(form),
            encoded=_nbytes(variable, form) if form.chunk else 0,
        )
    return total


def _blocked(ds: xr.Dataset) -> Iterable[tuple[str, xr.Variable]]:
    """Return the variables that are made of blocks."""
    return [(str(k), v) for k, v in ds.variables.items() if v.chunks is not None]


def _n_blocks(variable: xr.Variable) -> int:
    if variable.chunks is None:
        return max(1, -(-variable.nbytes // BLOCK_SIZE))
    return math.prod(map(len, variable.chunks))


def _rows(variable: xr.Variable) -> int:
    """Return the rows of the largest block."""
    return max(variable.chunks[0]) if variable.chunks else 0


def _value(variable: xr.Variable, form: Stored) -> float:
    """Return the bytes that one value takes in memory."""
    return TEXT + form.value if variable.dtype.kind == "O" else variable.dtype.itemsize


def _nbytes(variable: xr.Variable, form: Stored) -> int:
    """Return the bytes that all values take in memory."""
    return int(variable.size * _value(variable, form))


def _block(variable: xr.Variable, form: Stored) -> int:
    """Return the bytes of the largest block."""
    if variable.chunks is None:  # it is in memory already, and taken from there a piece at a time
        return min(_nbytes(variable, form), BLOCK_SIZE)
    return int(math.prod(map(max, variable.chunks)) * _value(variable, form))


def _in_file(variable: xr.Variable, form: Stored) -> int:
    """Return the bytes that all values take in a file."""
    if variable.dtype.kind == "O":
        return int(variable.size * (DESCRIPTOR + form.value))
    return int(variable.nbytes * form.ratio)


def _beside(form: Stored) -> int:
    """Return the bytes that a thread takes beside the block that it reads or writes."""
    return SCRATCH + CHUNKS_BESIDE * form.chunk
