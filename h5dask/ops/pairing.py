"""Pairs of sets of records: found by the names of scenarios and by branches, or as told.

Which records are meant lies here, by labels held in memory; what is computed of them does not.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from h5dask.columns import listed
from h5dask.errors import NotFound, Refused

MATCHING, OTHER = "matching", "non_matching"
"""How a scenario's name marks its side."""
OWN = ("matching", "nonmatching")
"""The branches of a scenario that are a pair of its own, the first one first."""

Told: TypeAlias = Sequence[tuple[str, str]] | Mapping[str, tuple[str, str]]
"""Pairs as a caller names them."""
Branches: TypeAlias = Mapping[str, tuple[str, ...]]
"""Each scenario's branches that have records, in the order of the records."""
Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One set of records."""

    scenario: str
    """Its scenario."""
    branch: str
    """The scenario's branch; "" where it has none."""

    def __str__(self) -> str:
        return f"{self.scenario}/{self.branch}" if self.branch else self.scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two sets of records that are compared."""

    name: str
    """What a result calls it."""
    first: Side
    """The matching one, or the one that was told first."""
    second: Side
    """The other one."""


def pairs_of(ds: xr.Dataset, pairs: Told | None = None, *, dim: str = "record") -> tuple[Pair, ...]:
    """Return pairs of sets of records, found by rule or as told.

    By rule, a scenario that has records in the branches "matching" and "nonmatching" is a pair of
    these two, under its own name. Among the others, two whose names become equal when every
    "non_matching" is read as "matching" are a pair under that name, first the one with fewer
    "non_matching".

    Parameters
    ----------
    ds : Dataset
        With coords `scenario` and `branch` along `dim`.
    pairs : sequence of two names each, or mapping of str to two names, optional
        The pairs, in place of the rule. A name is "scenario", or "scenario/branch" where it has
        several. The key of a mapping is what a result calls the pair; without keys that is
        "first - second".
    dim : str, default "record"
        The dim of records.

    Returns
    -------
    tuple of Pair
        At least one, as told or in the order of the first sides' records.

    Raises
    ------
    Refused
        If there are no pairs, or those told aren't two names of what is there; says all faults.
    NotFound
        If a coord is missing.

    Warns
    -----
    UserWarning
        If the rule finds pairs, but none for some scenario whose name marks a side.

    Examples
    --------
    >>> coords = {
    ...     "scenario": ("record", ["matching_x", "non_matching_x", "y", "y"]),
    ...     "branch": ("record", ["", "", "matching", "nonmatching"]),
    ... }
    >>> for pair in pairs_of(xr.Dataset(coords=coords)):
    ...     print(f"{pair.name}: {pair.first}, {pair.second}")
    matching_x: matching_x, non_matching_x
    y: y/matching, y/nonmatching
    """
    scenario, branch = _labels(ds, ("scenario", "branch"), dim)
    branches: dict[str, tuple[str, ...]] = {}
    for name, one in pd.MultiIndex.from_arrays([scenario, branch]).unique():
        branches[str(name)] = (*branches.get(str(name), ()), str(one))
    found, faults = _by_rule(branches) if pairs is None else _as_told(pairs, branches)
    if not found and not faults:
        by_name = f" by name ({MATCHING}_X with {OTHER}_X, or a scenario's branches {OWN!r})"
        by_name = by_name if pairs is None else ""
        faults = [
            f"pairs: found none{by_name}; {_there(branches)}; name them, pairs=[(name, name)]"
        ]
    if faults and (pairs is not None or not found):
        raise Refused("\n".join(faults))
    for fault in faults:
        warnings.warn(fault, UserWarning, stacklevel=3)
    return tuple(found)


def rows_of(
    ds: xr.Dataset, pair: Pair, *, dim: str = "record", paired: bool = True
) -> tuple[Rows, Rows]:
    """Return where the records of both sides of a pair are.

    Parameters
    ----------
    ds : Dataset
        With coords `scenario`, `branch` and, where they are paired, `sample` along `dim`.
    pair : Pair
        As `pairs_of` gives it.
    dim : str, default "record"
        The dim of records.
    paired : bool, default True
        Whether both sides must have the same samples, each once. Then the second side comes in
        the order of the first one's samples.

    Returns
    -------
    first, second : (record,) int64
        Positions along `dim`.

    Raises
    ------
    Refused
        If a side has no records, or they can't be paired by their samples.
    NotFound
        If a coord is missing.

    Examples
    --------
    >>> coords = {"scenario": ("record", list("aabb")), "branch": ("record", [""] * 4)}
    >>> coords["sample"] = ("record", [1, 2, 2, 1])
    >>> ds = xr.Dataset(coords=coords)
    >>> rows_of(ds, pairs_of(ds, [("a", "b")])[0])
    (array([0, 1]), array([3, 2]))
    """
    scenario, branch = _labels(ds, ("scenario", "branch"), dim)
    first, second = (
        np.flatnonzero((scenario == side.scenario) & (branch == side.branch))
        for side in (pair.first, pair.second)
    )
    if not (first.size and second.size):
        raise Refused(
            f"pair {pair.name!r}: found {first.size} records of '{pair.first}' and {second.size} "
            f"of '{pair.second}'; both must have some"
        )
    if not paired:
        return first, second
    (sample,) = _labels(ds, ("sample",), dim)
    one, other = pd.Index(sample[first]), pd.Index(sample[second])
    if faults := [*_repeated(pair.first, one), *_repeated(pair.second, other)]:
        raise Refused(
            f"pair {pair.name!r}: found {'; '.join(faults)}; a sample must have one record of "
            "each side, or compare them unpaired (paired=False)"
        )
    if len(one) != len(other) or not one.isin(other).all():
        raise Refused(
            f"pair {pair.name!r}: found {len(one)} samples of '{pair.first}' and {len(other)} of "
            f"'{pair.second}', which must be the same; only the first has "
            f"{listed(one.difference(other))}, only the second {listed(other.difference(one))}; "
            "select those of both (ds.sel(sample=...)), or compare them unpaired (paired=False)"
        )
    return first, second[other.get_indexer(one)]


def _labels(ds: xr.Dataset, names: Iterable[str], dim: str) -> list[NDArray[Any]]:
    """Return the values of coords along a dim."""
    along = [str(name) for name, coord in ds.coords.items() if coord.dims == (dim,)]
    if missing := [name for name in names if name not in along]:
        raise NotFound(
            f"{', '.join(missing)}: found coords {along!r} along {dim!r}; records are paired by "
            "'scenario', 'branch' and 'sample'"
        )
    return [ds[name].values for name in names]


def _by_rule(branches: Branches) -> tuple[list[Pair], list[str]]:
    """Return the pairs that the rule finds, and a line for each name that it can't pair."""
    sides = _sides(branches)
    own = [scenario for scenario, ones in branches.items() if set(OWN) <= set(ones)]
    found = [_pair(one, [sides[f"{one}/{branch}"] for branch in OWN]) for one in own]
    alike: dict[str, list[str]] = {}
    for scenario in branches:
        if MATCHING in scenario and scenario in sides:
            alike.setdefault(scenario.replace(OTHER, MATCHING), []).append(scenario)
    faults: list[str] = []
    for common, names in alike.items():
        names.sort(key=lambda name: name.count(OTHER))
        if len(names) == 1:
            faults.append(
                f"scenario {names[0]!r}: found no counterpart, which differs in {OTHER!r} alone; "
                f"{_there(branches)}; name its pair, pairs=[(name, name)], or leave it out"
            )
        elif len(names) > 2 or names[0].count(OTHER) == names[1].count(OTHER):
            faults.append(
                f"scenarios {', '.join(map(repr, names))}: found {len(names)} names that differ in "
                f"{OTHER!r} alone, so which are a pair isn't clear; name them, pairs=[(name, name)]"
            )
        else:
            found.append(_pair(common, [sides[name] for name in names]))
    order = {scenario: at for at, scenario in enumerate(branches)}
    return sorted(found, key=lambda pair: order[pair.first.scenario]), faults


def _as_told(pairs: Told, branches: Branches) -> tuple[list[Pair], list[str]]:
    """Return the pairs that are told, and a line for each fault."""
    if fault := _bare(pairs):
        return [], [fault]
    sides = _sides(branches)
    told: Iterable[tuple[str, Sequence[str]]]
    told = pairs.items() if isinstance(pairs, Mapping) else (("", names) for names in pairs)
    found: list[Pair] = []
    faults: list[str] = []
    for key, names in told:
        if isinstance(names, str) or len(names) != 2:
            faults.append(f"pairs: found {names!r}; a pair is two names, such as ('a', 'b')")
        elif unknown := [name for name in names if name not in sides]:
            faults += [_unknown(str(name), branches) for name in unknown]
        else:
            found.append(_pair(key or " - ".join(names), [sides[name] for name in names]))
    counts = Counter(pair.name for pair in found)
    faults += [f"pairs: found {name!r} {n} times" for name, n in counts.items() if n > 1]
    return found, faults


def _bare(pairs: Any) -> str:
    """Return why names that stand in no list are no pairs, "" where they do."""
    if isinstance(pairs, Mapping) or not all(isinstance(one, str) for one in pairs):
        return ""
    names = () if isinstance(pairs, str) else tuple(pairs)
    meant = ", ".join(map(repr, names)) if len(names) == 2 else "name, name"
    return f"pairs: found {pairs!r}; expected a list: pairs=[({meant})]" if len(pairs) else ""


def _pair(name: str, sides: Sequence[Side]) -> Pair:
    first, second = sides
    return Pair(name=name, first=first, second=second)


def _sides(branches: Branches) -> dict[str, Side]:
    """Return what each name that can be told means."""
    sides: dict[str, Side] = {}
    for scenario, ones in branches.items():
        sides |= {str(side): side for side in (Side(scenario=scenario, branch=one) for one in ones)}
        if len(ones) == 1:
            sides[scenario] = Side(scenario=scenario, branch=ones[0])
    return sides


def _unknown(name: str, branches: Branches) -> str:
    """Return why a name means no side."""
    if name in branches:
        forms = " or ".join(repr(f"{name}/{one}") for one in branches[name])
        return f"pairs: found {name!r}, which has several branches; write {forms}"
    scenario = name.rpartition("/")[0]
    if scenario in branches:
        ones = listed(pd.Index(branches[scenario]))
        return f"pairs: found {name!r}; the branches of {scenario!r} are {ones}"
    return f"pairs: found {name!r}; {_there(branches)}"


def _there(branches: Branches) -> str:
    return f"the scenarios are {listed(pd.Index(list(branches)))}"


def _repeated(side: Side, samples: pd.Index) -> list[str]:
    """Return a phrase that names the samples of which a side has more than one record."""
    repeated = samples[samples.duplicated()].unique()
    return [f"sample {listed(repeated)} of '{side}' more than once"] if len(repeated) else []
