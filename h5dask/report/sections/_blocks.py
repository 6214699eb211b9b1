"""All blocks of a variable -> one small record: a task a block, merged by a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import optimize, tokenize
from dask.delayed import delayed
from numpy.typing import NDArray

FAN_IN = 16
PIECE = 2**17
"""Values looked at together: what a task takes above its block is bounded by them."""


def over_blocks(
    stage: str,
    name: str,
    variable: xr.Variable | da.Array,
    look: Callable[..., Any],
    merge: Callable[[list[Any]], Any],
    *,
    first: Callable[[NDArray[Any]], Any] | None = None,
    rows: NDArray[Any] | None = None,
) -> Any:
    """Return the delayed record of all blocks of a variable.

    Parameters
    ----------
    stage : str
        Begins the names of the tasks: "spread" gives "spread-train-...".
    name : str
        The variable's name.
    variable : Variable or dask array
        Of any shape, on dask or not; or what is made of the blocks of one.
    look : callable
        Block, what `first` gave, and what `rows` has for it, where there are these -> record.
    merge : callable
        Records in the order of their blocks -> record; associative.
    first : callable, optional
        First block -> what `look` needs to know before it looks at any.
    rows : (row,) array, optional
        What belongs to each row of the first dim.
    """
    array = variable if isinstance(variable, da.Array) else blocked(variable)
    token = tokenize(array.name, stage, *([] if rows is None else [rows]))
    # As they are: blocks that reading was fused into wouldn't be shared with other sections.
    grid = array.to_delayed(optimize_graph=False)
    blocks = grid.ravel()
    own = [() for _ in blocks] if rows is None else _cut(rows, array, grid.shape)
    known = (
        [delayed(first, pure=True)(blocks[0], dask_key_name=f"glance-{name}-{stage}{token}")]
        if first is not None
        else []
    )
    parts = [
        delayed(look, pure=True)(block, *known, *mine, dask_key_name=f"{stage}-{name}-{token}-{i}")
        for i, (block, mine) in enumerate(zip(blocks, own, strict=True))
    ]
    level = 0
    while len(parts) > 1 or not level:
        level += 1
        runs = [parts[at : at + FAN_IN] for at in range(0, len(parts), FAN_IN)]
        parts = [
            delayed(merge, pure=True)(run, dask_key_name=f"merge-{name}-{stage}{token}-{level}-{i}")
            for i, run in enumerate(runs)
        ]
    return parts[0]


def whole(found: xr.Dataset) -> dict[Any, Any]:
    """Return the values of an operation's variables, each as one delayed block, by name.

    They are made ready together, as reading is fused into what several of them need.
    """
    (ready,) = optimize(found)
    return {name: _one_block(one) for name, one in ready.data_vars.items()}


def _one_block(x: xr.DataArray) -> Any:
    """Return values as one delayed block; those in memory as they are."""
    if x.chunks is None:
        return x.values
    return x.data.rechunk(-1).to_delayed(optimize_graph=False).item()


def blocked(variable: xr.Variable) -> da.Array:
    """Return a variable's values as a dask array, as it is or in blocks of dask's choice.

    Selections are handed down to what reads.
    """
    if isinstance(variable.data, da.Array):
        return optimize(variable.data)[0]  # type: ignore[no-any-return]
    return variable.to_base_variable().chunk().data  # type: ignore[no-any-return]


def _cut(rows: NDArray[Any], array: da.Array, grid: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Return what rows have for each block, in the order of blocks."""
    ends = np.cumsum(array.chunks[0])[:-1]
    parts = np.split(rows, ends)
    return [(parts[at[0]],) for at in np.ndindex(*grid)]


def pieces(block: NDArray[Any], length: int = PIECE) -> Iterator[NDArray[Any]]:
    """Yield a block's values in flat pieces, in the order in which they lie."""
    flat = np.asarray(block).reshape(-1, order="A")
    for start in range(0, flat.size, length):
        yield flat[start : start + length]
