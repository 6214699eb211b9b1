"""Scenarios and their branches as labels of records: which are there, in which order, joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.layout import Labels
from h5dask.layouts import _rows

BRANCHES = ("", "matching", "nonmatching")
"""A plain scenario's only branch has no name; a prefilled one has the other two."""


def refuse_names(present: Iterable[tuple[str, str]], found: Contents | None) -> None:
    """Refuse names that no group can have, and branches that the layout doesn't know."""
    wrong = [
        f"scenario {scenario!r} (expected a name without '/')"
        for scenario in dict.fromkeys(scenario for scenario, _ in present)
        if scenario in ("", ".", "..") or "/" in scenario or "\0" in scenario
    ]
    wrong += [
        f"branch {branch!r} (expected one of {BRANCHES!r})"
        for branch in dict.fromkeys(branch for _, branch in present)
        if branch not in BRANCHES
    ]
    if wrong:
        raise LayoutError(f"{_rows.subject_of(found)}: found {'; '.join(wrong)}; rename them")


def ordered(
    form: Sequence[tuple[str, ...]], present: Iterable[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return scenarios as in the form, new ones after them, each with its branches in order.

    A new scenario has the branches that all scenarios of the form have, if only without rows; in
    a new file the plain one, which the files' own validator looks for in every scenario.
    """
    known: dict[str, set[str]] = {}
    for scenario, branch in form:
        known.setdefault(scenario, set()).add(branch)
    common = set.intersection(*known.values()) if known else {""}
    for scenario, branch in present:
        known.setdefault(scenario, set(common)).add(branch)
    return tuple((name, b) for name, branches in known.items() for b in BRANCHES if b in branches)


def aligned(
    keys: Sequence[tuple[str, str]],
    rows: list[_rows.Ints],
    sample: _rows.Ints,
    found: Contents | None,
) -> list[_rows.Ints]:
    """Bring the branches of each scenario into the order of its first one that has records."""
    model: dict[str, int] = {}
    unequal = []
    for i, (scenario, branch) in enumerate(keys):
        if not len(rows[i]):
            continue
        first = model.setdefault(scenario, i)
        mine, other = sample[rows[i]], sample[rows[first]]
        by_mine, by_other = np.argsort(mine, kind="stable"), np.argsort(other, kind="stable")
        if not np.array_equal(mine[by_mine], other[by_other]):
            only = (np.setdiff1d(mine, other), branch), (np.setdiff1d(other, mine), keys[first][1])
            told = [f"{b!r} alone has {x[:5].tolist()!r}" for x, b in only if len(x)]
            told = told or [f"{branch!r} and {keys[first][1]!r} repeat samples unequally"]
            unequal.append(f"scenario {scenario!r}: {', '.join(told)}")
            continue
        order = np.empty(len(mine), np.int64)
        order[by_other] = by_mine
        rows[i] = rows[i][order]
    if unequal:
        raise LayoutError(
            f"{_rows.subject_of(found)}: branches of a scenario share its text, and hold different "
            f"samples: {'; '.join(unequal)}; drop a sample from all branches or from none"
        )
    return rows


def join(parts: Sequence[Labels]) -> Sequence[Labels]:
    """Continue the samples of each scenario that two files number alike."""
    taken: dict[str, dict[str, list[_rows.Ints]]] = {}
    joined = []
    for part in parts:
        n = _rows.length(part, ("scenario",), None)
        scenarios, scenario = _rows.coded(part, "scenario", n)
        branches, branch = _rows.coded(part, "branch", n)
        sample = _rows.numbers(part, "sample", n)
        for name, rows in zip(scenarios, _rows.split(scenario, len(scenarios)), strict=True):
            before = taken.setdefault(name, {})
            parted = [rows[of] for of in _rows.split(branch[rows], len(branches))]
            own = {b: at for b, at in zip(branches, parted, strict=True) if len(at)}
            if any(_meet(before.get(b, ()), sample[at]) for b, at in own.items()):
                last = max(int(x.max()) for some in before.values() for x in some)
                sample[rows] += 1 + last - min(0, int(sample[rows].min()))
            for b, at in own.items():
                before.setdefault(b, []).append(sample[at])
        names = _rows.column(branches)[branch]
        joined.append({**part, "branch": names, "sample": sample.astype(np.int32)})
    return joined


def _meet(before: Iterable[_rows.Ints], found: _rows.Ints) -> bool:
    """Say whether a number is among those of earlier files; most files go on where one ended."""
    low, high = found.min(), found.max()
    return any(
        low <= one.max() and one.min() <= high and bool(np.isin(found, one).any()) for one in before
    )
