"""All blocks of a variable -> one small record: a task a block, merged by a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from numpy.typing import NDArray

FAN_IN = 16
PIECE = 2**17
"""Values looked at together: what a task takes above its block is bounded by them."""


def over_blocks(
    stage: str,
    name: str,
    variable: xr.Variable,
    look: Callable[..., Any],
    merge: Callable[[list[Any]], Any],
    *,
    first: Callable[[NDArray[Any]], Any] | None = None,
) -> Any:
    """Return the delayed record of all blocks of a variable.

    Parameters
    ----------
    stage : str
        Begins the names of the tasks: "spread" gives "spread-train-...".
    name : str
        The variable's name.
    variable : Variable
        Of any shape, on dask or not.
    look : callable
        Block, and what `first` gave if there is one -> record.
    merge : callable
        Records in the order of their blocks -> record; associative.
    first : callable, optional
        First block -> what `look` needs to know before it looks at any.
    """
    array = blocked(variable)
    token = tokenize(array.name, stage)
    blocks = array.to_delayed().ravel()
    known = (
        [delayed(first, pure=True)(blocks[0], dask_key_name=f"glance-{name}-{stage}{token}")]
        if first is not None
        else []
    )
    parts = [
        delayed(look, pure=True)(block, *known, dask_key_name=f"{stage}-{name}-{token}-{i}")
        for i, block in enumerate(blocks)
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


def blocked(variable: xr.Variable) -> da.Array:
    """Return a variable's values as a dask array, as it is or in blocks of dask's choice."""
    if isinstance(variable.data, da.Array):
        return variable.data
    return variable.to_base_variable().chunk().data  # type: ignore[no-any-return]


def pieces(block: NDArray[Any], length: int = PIECE) -> Iterator[NDArray[Any]]:
    """Yield a block's values in flat pieces, in the order in which they lie."""
    flat = np.asarray(block).reshape(-1, order="A")
    for start in range(0, flat.size, length):
        yield flat[start : start + length]
