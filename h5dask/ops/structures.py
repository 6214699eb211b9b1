"""Structures by the labels of their sequences: their profiles, and blocks that hold whole ones.

What is computed of their residues lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.indexes import RaggedIndex
from h5dask.ops.folding import blocked, views
from h5dask.ops.runs import Ints, cuts, even, lengths_of

APART = ("noise", "temperature")
"""Labels that tell a structure's profiles apart."""
TOLD = ("structure", *APART, "structure_id")
"""Labels of a profile; the last may be missing."""
OF = "of_"
"""Begins the name of a profile's label where a sequence tells it."""
NAMED = 5
"""What a message names of many."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structures:
    """The structures of a Dataset, in order, and the sequences of each, which are neighbors."""

    index: RaggedIndex
    """Labels of the sequences."""
    firsts: Ints
    """First sequence of each structure, and the last one's end: (structure + 1)."""

    @classmethod
    def of(cls, ds: xr.Dataset, subject: str, needed: Iterable[str] = ()) -> Self:
        """Return the structures of a Dataset of sequences end to end.

        Parameters
        ----------
        ds : Dataset
            With `sequences` (residue) of whole numbers, and `structure` among the labels of the
            rows along sequence that own residues.
        subject : str
            What errors call it.
        needed : iterable of str, default none
            Labels beside `structure`.

        Raises
        ------
        Refused
            Labels or values are missing or don't fit together, a structure comes back after
            another one, or its sequences are of several lengths.
        """
        index = _index(ds, subject, ("structure", *needed))
        number = index.table["structure"].values
        changes = np.flatnonzero(number[1:] != number[:-1]) + 1
        firsts = np.concatenate([np.zeros(min(len(number), 1), np.int64), changes, [len(number)]])
        found = cls(index=index, firsts=firsts)
        if faults := list(found._faults()):
            raise Refused("\n".join(f"{subject}: {fault}" for fault in faults))
        return found

    @property
    def numbers(self) -> NDArray[Any]:
        """Label of each structure: (structure,)."""
        return self.labels("structure")

    @property
    def lengths(self) -> Ints:
        """Residues of each sequence of a structure: (structure,)."""
        return self.labels(self.index.row_size).astype(np.int64)

    @property
    def ends(self) -> Ints:
        """Residue behind the last of each structure: (structure,)."""
        return self.index.offsets[self.firsts[1:]]

    def labels(self, name: Any) -> NDArray[Any]:
        """Return a label of each structure's first sequence: (structure,)."""
        return self.index.table[name].values[self.firsts[:-1]]

    def _faults(self) -> Iterator[str]:
        numbers, seen = np.unique(self.numbers, return_counts=True)
        if (seen > 1).any():
            yield (
                f"found other structures between sequences of structure {few(numbers[seen > 1])}; "
                "expected those of one structure side by side; select each structure (sel) "
                "and concat them"
            )
        sizes = self.index.table[self.index.row_size].values
        unlike = np.repeat(self.lengths, np.diff(self.firsts)) != sizes
        if unlike.any():
            numbers = np.unique(self.index.table["structure"].values[unlike])
            yield (
                f"found sequences of several lengths of structure {few(numbers)}; expected one "
                "length a structure; number structures apart, as concat does"
            )


def _index(ds: xr.Dataset, subject: str, needed: tuple[str, ...]) -> RaggedIndex:
    """Return the labels of the sequences; Refused where they or the values don't fit."""
    values = ds.get("sequences")
    if values is None or values.dims != ("residue",) or values.dtype.kind not in "iu":
        found = "none" if values is None else f"{values.dtype} of dims {values.dims!r}"
        raise Refused(
            f"{subject}: found sequences: {found}; expected whole numbers along residue, as "
            "open_dataset gives them"
        )
    indexes = (one for one in ds.xindexes.get_unique() if isinstance(one, RaggedIndex))
    index = next((one for one in indexes if one.ragged_dim == "residue"), None)
    if index is None or index.dim != "sequence" or index.size != len(values):
        owned = "no labels" if index is None else f"labels of {index.size!r}, along {index.dim},"
        raise Refused(
            f"{subject}: found {owned} of {len(values)!r} residues; expected those of all, along "
            "sequence; select by label (sel), or by position (take), which cut both dims together"
        )
    if missing := [name for name in needed if name not in index.table.names]:
        raise Refused(
            f"{subject}: found labels {index.table.names!r}, without {missing!r}; add them "
            "(assign_coords and set_xindex)"
        )
    return index


def few(numbers: NDArray[Any]) -> str:
    """Return the first of some numbers, and how many more there are."""
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(map(repr, numbers[:NAMED].tolist())) + more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profiles:
    """Profiles of structures, and blocks of all that lies along them.

    A profile is of all sequences of one structure with the same noise and temperature. Profiles
    are in the order of structures, then of noise, then of temperature.
    """

    structures: Structures
    """Whose they are."""
    of_sequence: Ints
    """Profile of each sequence: (sequence,)."""
    first: Ints
    """First sequence of each profile: (profile,)."""
    at: Ints
    """Structures before each block's end: (block,)."""

    @classmethod
    def of(cls, structures: Structures, x: xr.DataArray, parts: int = 1) -> Self:
        """Return profiles in blocks about those that x, values along residues, has.

        Parameters
        ----------
        structures : Structures
            With the labels `APART`.
        x : (residue, ...) DataArray
            Where it has no blocks, they are of 16 MiB.
        parts : int, default 1
            Into how many each of those is divided: where more is found of a block than it holds.
        """
        table = structures.index.table
        owner = np.repeat(np.arange(len(structures.numbers)), np.diff(structures.firsts))
        columns = (owner, *(table[name].values for name in APART))
        order = np.lexsort(columns[::-1])
        new = np.zeros(len(order), bool)
        new[:1] = True
        for column in columns:
            new[1:] |= column[order[1:]] != column[order[:-1]]
        of_sequence = np.empty(len(order), np.int64)
        of_sequence[order] = np.cumsum(new) - 1
        lengths = [n for whole in blocked(x.variable).chunks[0] for n in even(whole, parts)]
        at = cuts(tuple(lengths), structures.ends)
        return cls(structures=structures, of_sequence=of_sequence, first=order[new], at=at)

    @property
    def lengths(self) -> Ints:
        """Positions of each profile: (profile,)."""
        sizes = self.structures.index.table[self.structures.index.row_size].values
        return sizes[self.first].astype(np.int64)

    @property
    def index(self) -> RaggedIndex:
        """Labels of the profiles, each of which owns positions."""
        table = self.structures.index.table
        labels = {name: table[name].values[self.first] for name in TOLD if name in table.names}
        return RaggedIndex("profile", "position", None, labels | {"row_size": self.lengths})

    def ends(self, dim: Hashable) -> Ints:
        """Return what lies along a dim behind the last of each structure: (structure,)."""
        last = self.structures.firsts[1:]
        profiles = np.append(0, np.maximum.accumulate(self.of_sequence) + 1)[last]
        found: dict[Hashable, Ints] = {
            "sequence": last,
            "residue": self.structures.ends,
            "profile": profiles,
            "position": np.append(0, np.cumsum(self.lengths))[profiles],
        }
        return found[dim]

    def chunks(self, dim: Hashable) -> tuple[int, ...]:
        """Return the lengths of the blocks along a dim."""
        return lengths_of(self.ends(dim), self.at)

    def cut(self, x: xr.DataArray) -> da.Array:
        """Return values in these blocks, of two dims; those in memory aren't copied."""
        lengths = self.chunks(x.dims[0])
        if x.chunks is not None:
            values = x.data.rechunk({0: lengths, 1: -1} if x.ndim > 1 else {0: lengths})
        else:
            values = views(x.variable, lengths)
        found: da.Array = values if x.ndim > 1 else values[:, None]
        return found
