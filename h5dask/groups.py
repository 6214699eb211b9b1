"""The groups of a file that lie end to end along a dim. Pure records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Rows = slice | NDArray[np.int64]
"""Rows of a variable, consecutive ones as a slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups that lie end to end along a layout's ragged dims, in order."""

    names: tuple[str, ...] = ()
    """The placeholders that tell groups apart, such as ("scenario", "branch")."""
    keys: tuple[tuple[str, ...], ...] = ((),)
    """Their values for each group."""
    counts: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Rows of each group along each ragged dim."""
    shapes: Mapping[str, tuple[Shape | None, ...]] = field(default_factory=dict)
    """Shape of each group's stored dataset by variable; None where the group has none."""
    rows: Mapping[str, tuple[Rows, ...]] = field(default_factory=dict)
    """When writing: which rows of the Dataset each group takes, along each ragged dim."""
    numbers: tuple[int, ...] = ()
    """Number each group goes by in the labels, where that isn't its key."""
    axes: tuple[tuple[str, ...], ...] = ()
    """Names of the leading axes of each group's datasets, such as ("sample", "noise")."""

    def keyed(self, group: int) -> dict[str, str]:
        """Return one group's placeholder values by name."""
        return dict(zip(self.names, self.keys[group], strict=True))

    def key_column(self, name: str) -> tuple[str, ...]:
        """Return one placeholder's value for every group."""
        at = self.names.index(name)
        return tuple(key[at] for key in self.keys)

    def taken(self, groups: Sequence[int]) -> Groups:
        """Return only some of the groups, in the given order."""
        at = list(groups)
        return replace(
            self,
            keys=tuple(self.keys[i] for i in at),
            counts={dim: counts[at] for dim, counts in self.counts.items()},
            shapes={name: tuple(shapes[i] for i in at) for name, shapes in self.shapes.items()},
            rows={dim: tuple(rows[i] for i in at) for dim, rows in self.rows.items()},
            numbers=tuple(self.numbers[i] for i in at) if self.numbers else (),
            axes=tuple(self.axes[i] for i in at) if self.axes else (),
        )


def spans(rows: Sequence[NDArray[np.int64]]) -> tuple[Rows, ...]:
    """Return the rows of each group, consecutive ones as a slice.

    Examples
    --------
    >>> spans([np.array([3, 4, 5]), np.array([7, 6]), np.array([], int)])
    (slice(3, 6, None), array([7, 6]), slice(0, 0, None))
    """
    held = [some for some in rows if len(some)]
    if not held:
        return (slice(0, 0),) * len(rows)
    ends = np.cumsum([len(some) for some in held])
    steps = np.diff(np.concatenate(held), prepend=0) == 1
    steps[0] = steps[ends[:-1]] = True
    whole = np.logical_and.reduceat(steps, [0, *ends[:-1]])
    spans = (
        slice(int(some[0]), int(some[-1]) + 1) if one else some
        for some, one in zip(held, whole.tolist(), strict=True)
    )
    return tuple([next(spans) if len(some) else slice(0, 0) for some in rows])


def length(rows: Rows) -> int:
    """Return how many rows these are."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)
