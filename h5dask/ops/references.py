"""What profiles are compared with: each structure's reference, shares of amino acids.

How they are compared lies elsewhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.errors import Refused
from h5dask.kernels.profiles import LETTERS, UNKNOWN, Floats, Letters
from h5dask.ops.runs import Ints
from h5dask.ops.structures import NAMED, Structures, few
from h5dask.positions import elements_of

NOWHERE = -1
"""Place of a reference that isn't there."""
Background: TypeAlias = Mapping[str, float] | Sequence[float] | NDArray[Any]
"""Share of each known amino acid, by letter or in their order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """The references of structures, in memory."""

    letters: Letters
    """All of them end to end: (element,)."""
    offsets: Ints
    """Where each begins, and the last one ends: (reference + 1)."""
    rows: Ints
    """Which of them is each structure's; -1 where it has none: (structure,)."""

    def of(self, first: int, last: int) -> tuple[Letters, Ints]:
        """Return the references of some structures end to end, and where each one's begins.

        Where a structure has none, that is -1.
        """
        rows = self.rows[first:last]
        there = rows >= 0
        lengths = np.diff(self.offsets)[rows[there]]
        starts = np.full(len(rows), NOWHERE)
        starts[there] = np.cumsum(lengths) - lengths
        return self.letters[elements_of(self.offsets, rows[there])], starts


def matched(structures: Structures, reference: xr.Dataset) -> Matched:
    """Return which reference belongs to which structure.

    They are matched by `structure_id` where every structure on both sides has one, and those of
    the reference are distinct, else by number; structure_17 is a number, too.

    Parameters
    ----------
    structures : Structures
        That are compared.
    reference : Dataset
        Of the same form, with one sequence a structure; its sequences are loaded.

    Returns
    -------
    Matched
        Memory: a byte a residue, and while they are loaded what they take there.

    Raises
    ------
    Refused
        A structure has several sequences in the reference, or one of another length, or values
        there aren't 0 to 20.

    Warns
    -----
    UserWarning
        If structures have no reference; says how many. If structures have other names than
        their references, whose numbers may be no more than the order of a file; says which.
    """
    found = Structures.of(reference, "reference")
    numbers = found.numbers
    if (several := np.diff(found.firsts) > 1).any():
        raise Refused(
            f"reference: found {int(np.diff(found.firsts)[several][0])} sequences of structure "
            f"{few(numbers[several][:1])}; expected one a structure; select one of each, such as "
            "reference.sel(sample=0, noise=0, temperature=0)"
        )
    own, given = names = _names(structures), _names(found)
    if by_number := "" in own or "" in given or len(np.unique(given)) < len(given):
        own, given = structures.numbers, found.numbers
    at: Ints = pd.Index(given).get_indexer(pd.Index(own)).astype(np.int64)
    if by_number:
        _warn_of_others(structures, found, names, at)
    unlike = (at >= 0) & (structures.lengths != np.append(found.lengths, 0)[at])
    if unlike.any():
        pairs = zip(
            own[unlike].tolist(),
            structures.lengths[unlike].tolist(),
            found.lengths[at[unlike]].tolist(),
            strict=True,
        )
        told = [
            f"{key!r} has {mine} residues, the reference {theirs}" for key, mine, theirs in pairs
        ]
        more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
        raise Refused(
            f"reference: found other lengths: structure {', '.join(told[:NAMED])}{more}; expected "
            "the same; leave those structures out (sel), or give their own references"
        )
    if lacking := int((at < 0).sum()):
        warnings.warn(
            f"reference: found none for {lacking} of {len(at)} structures; their recovery is NaN",
            UserWarning,
            stacklevel=3,
        )
    return Matched(letters=_letters(reference), offsets=found.index.offsets, rows=at)


def _names(structures: Structures) -> NDArray[Any]:
    """Return the name of each structure, "" where it has none but its number: (structure,)."""
    numbered = [f"structure_{number}" for number in structures.numbers.tolist()]
    if "structure_id" not in structures.index.table.names:
        return np.full(len(numbered), "", object)
    names = structures.labels("structure_id").astype(str).tolist()
    return np.array(
        ["" if name == other else name for name, other in zip(names, numbered, strict=True)], object
    )


def _warn_of_others(
    structures: Structures, found: Structures, names: tuple[NDArray[Any], NDArray[Any]], at: Ints
) -> None:
    """Say which references of other names are taken for which structures, by number."""
    if not np.array_equal(found.numbers, np.arange(len(found.numbers))):
        return  # somebody gave them these numbers
    own, given = names
    taken = [
        (given[row], number)
        for row, number, name in zip(at.tolist(), structures.numbers.tolist(), own, strict=True)
        if row >= 0 and given[row] not in ("", name)
    ]
    if taken:
        (name, number), *others = taken
        told = [f"{name!r} is taken for structure {number}"]
        told += [f"{name!r} for {number}" for name, number in others[: NAMED - 1]]
        more = f" and {len(taken) - NAMED} more" if len(taken) > NAMED else ""
        which = "some structures or records have no names of their own"
        warnings.warn(
            f"reference: {which if any(own) else 'the structures have no names'}, so "
            f"{', '.join(told)}{more} (by order); name the records structure_0 and so on, or say "
            "whose they are: read_fasta(path, names={0: NAME})",
            UserWarning,
            stacklevel=4,
        )


def _letters(reference: xr.Dataset) -> Letters:
    values = reference["sequences"].values
    outside = (values < 0) | (values >= LETTERS)
    if outside.any():
        raise Refused(
            f"reference: found {int(outside.sum())} values outside 0 to {LETTERS - 1}, such as "
            f"{values[outside][0].item()!r}; write {LETTERS - 1} (X) for what is unknown"
        )
    letters: Letters = values.astype(np.int8)
    return letters


def background_of(given: Background | None, ds: xr.Dataset) -> Floats:
    """Return the shares of the known amino acids, of sum 1: (letter - 1,) float64.

    Parameters
    ----------
    given : mapping of str to float, or sequence of float, optional
        Shares by letter, or in order, of any sum; equal ones by default.
    ds : Dataset
        Whose coord `aa` says the letters.

    Raises
    ------
    Refused
        They aren't positive numbers, one for each letter; says all faults.
    """
    if given is None:
        return np.full(UNKNOWN, 1 / UNKNOWN)
    letters = ds["aa"].values[:UNKNOWN].tolist() if "aa" in ds.coords else [*range(UNKNOWN)]
    expected = f"expected positive shares of {', '.join(map(str, letters))}"
    if isinstance(given, Mapping):
        named: dict[Any, Any] = dict(given)
    else:
        values = np.asarray(given)
        if values.shape != (UNKNOWN,):
            raise Refused(f"background: found shape {values.shape!r}; {expected}")
        named = dict(zip(letters, values.tolist(), strict=True))
    faults = [
        f"{share!r} for {letter!r}" for letter, share in named.items() if not _is_share(share)
    ]
    if missing := [letter for letter in letters if letter not in named]:
        faults.append(f"none for {', '.join(map(repr, missing))}")
    if unknown := [letter for letter in named if letter not in letters]:
        faults.append(f"some for {', '.join(map(repr, unknown))}")
    if faults:
        raise Refused(f"background: found {'; '.join(faults)}; {expected}")
    found: Floats = np.array([named[letter] for letter in letters], np.float64)
    found /= found.sum()
    return found


def _is_share(value: Any) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    return is_number and not isinstance(value, bool) and bool(0 < value < math.inf)
