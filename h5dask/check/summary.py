"""Many findings -> few lines: what many groups share becomes one finding with a count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from h5dask.problem import Problem

SHOWN = 3
"""How many places a shared finding names."""
ALIKE = 20
"""How many findings that differ in numbers and names only stay lines of their own."""

_VARYING = re.compile(r"'[^']*'|\d+")


def collapse(problems: Iterable[Problem], subject: str) -> tuple[Problem, ...]:
    """Return the findings with those of many places as one, problems before notes.

    Parameters
    ----------
    problems : iterable of Problem
        Findings about one file.
    subject : str
        The file, with which each `where` begins.

    Examples
    --------
    >>> told = [Problem(where=f"a.h5: /g{i}", found="no x", expected="x") for i in range(9)]
    >>> for problem in collapse(told, "a.h5"):
    ...     print(problem)
    a.h5: /g0, /g1, /g2 and 6 more: no x; expected x
    """
    same: dict[tuple[str, ...], list[Problem]] = {}
    for problem in problems:
        key: tuple[str, ...]
        key = (problem.level, problem.found, problem.expected, problem.way_out)
        same.setdefault(key, []).append(problem)
    alike: dict[tuple[str, ...], list[list[Problem]]] = {}
    for key, members in same.items():
        alike.setdefault(tuple(_VARYING.sub("#", part) for part in key), []).append(members)
    told: list[Problem] = []
    for families in alike.values():
        if len(families) > ALIKE:
            first = families[0][0]
            others = f"{first.found} (and {len(families) - 1:,} others like it)"
            every = [member for members in families for member in members]
            told.append(replace(first, where=_places(every, subject), found=others))
        else:
            told += [replace(m[0], where=_places(m, subject)) for m in families]
    return tuple(sorted(told, key=lambda problem: problem.level == "note"))


def _places(problems: Sequence[Problem], subject: str) -> str:
    """Return where some findings of one kind are: the first few places and how many more."""
    places = list(dict.fromkeys(problem.where for problem in problems))
    if len(places) == 1:
        return places[0]
    inside = [place.removeprefix(subject).removeprefix(": ") or "/" for place in places]
    more = f" and {len(inside) - SHOWN:,} more" if len(inside) > SHOWN else ""
    return f"{subject}: {', '.join(inside[:SHOWN])}{more}"
