"""Checks on the values of one variable, block by block: find, merge, tell.

Here is the record of a check and how blocks are told together; what checks look for is in
`faults`, what needs no values in `structure`. No file, no dask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from h5dask.pattern import parse
from h5dask.problem import Problem

Array = NDArray[Any]
Position = tuple[int, ...]
Place = Callable[[Position], tuple[str, Position]]
"""Position in a variable -> path of the dataset that holds it, and the position there."""

SHOWN = 5
"""How many positions a finding keeps."""


MARK = np.dtype([("digest", "S16"), ("row", ">i8")])
"""One mark of `Findings.marks`: which value, and in which row."""


def sorted_marks(marks: bytes) -> bytes:
    """Return marks in the order of their digests, and of rows where these are equal."""
    table = np.frombuffer(marks, MARK)
    return table[np.lexsort((table["row"], table["digest"]))].tobytes() if marks else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one check found in some blocks of a variable; the same for any order of blocks."""

    count: int = 0
    """How many values were found at fault."""
    first: tuple[Position, ...] = ()
    """The first of their positions in C order, at most `SHOWN`."""
    lowest: float | int | None = None
    """The lowest of them that is a number."""
    highest: float | int | None = None
    """The highest of them that is a number."""
    marks: bytes = b""
    """For checks on equal values: 24 bytes each, a digest and the row, sorted."""

    def merge(self, *others: Findings) -> Findings:
        """Return the findings of all; associative, commutative, and `Findings()` is neutral."""
        every = (self, *others)
        return Findings(
            count=sum(x.count for x in every),
            first=tuple(sorted({at for x in every for at in x.first})[:SHOWN]),
            lowest=min((x.lowest for x in every if x.lowest is not None), default=None),
            highest=max((x.highest for x in every if x.highest is not None), default=None),
            marks=sorted_marks(b"".join(x.marks for x in every)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a check may know beside the block it looks at."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    """Size of each dim of the Dataset."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the Dataset."""


def as_found(findings: Findings) -> Findings:
    """Return the findings unchanged: they say what is told."""
    return findings


Find = Callable[[Array, int, Setting], Findings]
"""A block of whole rows, the row it starts at, and the setting -> findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule on the values of a variable, as a record of what to find and what to say."""

    variables: tuple[str, ...]
    """Names of the variables it applies to; may hold placeholders ("metadata_{field}")."""
    find: Find
    """Looks at one block. A module's function or a partial of one, so that it pickles."""
    found: str
    """What is wrong; "{count}", "{lowest}", "{highest}" and "{name}" are filled in."""
    expected: str
    """What the document or the consumer wants."""
    way_out: str = ""
    """What to do about it."""
    level: Literal["problem", "note"] = "problem"
    """Whether it breaks a rule or is worth saying."""
    settle: Callable[[Findings], Findings] = as_found
    """Turns the merged findings into those that are told."""

    def applies(self, name: str) -> bool:
        """Whether a variable of this name is checked."""
        return any(parse(pattern, name) is not None for pattern in self.variables)

    def tell(
        self, subject: str, name: str, findings: Findings, place: Place | None = None
    ) -> Problem | None:
        """Return the merged findings as a finished Problem, None where nothing was found.

        Parameters
        ----------
        subject : str
            The file, for the message.
        name : str
            The variable's name.
        findings : Findings
            Of all blocks, merged.
        place : callable, optional
            Where a position lies in the file; without it the variable's own positions are told.
        """
        settled = self.settle(findings)
        if not settled.count:
            return None
        where = [place(at) if place else (name, at) for at in settled.first]
        shown = ", ".join(f"/{path}[{', '.join(map(str, at))}]" for path, at in where)
        words = {"count": settled.count, "name": name}
        words |= {"lowest": settled.lowest, "highest": settled.highest}
        more = ", ..." if settled.count > len(where) else ""
        return Problem(
            where=f"{subject}: /{where[0][0]}",
            found=f"{self.found.format_map(words)}, at {shown}{more}",
            expected=self.expected,
            way_out=self.way_out,
            level=self.level,
        )


def find(
    checks: Sequence[Check], name: str, block: Array, start: int, setting: Setting
) -> tuple[Findings, ...]:
    """Look at one block with every check, one Findings each; empty where it doesn't apply.

    Parameters
    ----------
    checks : sequence of Check
        The checks of a layout.
    name : str
        The variable that the block is of.
    block : array
        Whole rows of it: all dims but the first at full length.
    start : int
        The row that the block starts at.
    setting : Setting
        The Dataset's sizes and attributes.
    """
    return tuple(
        check.find(block, start, setting) if check.applies(name) else Findings() for check in checks
    )


def merge(parts: Iterable[Sequence[Findings]]) -> tuple[Findings, ...]:
    """Merge what `find` gave for several blocks, check by check."""
    columns = zip(*parts, strict=True)
    return tuple(Findings().merge(*column) for column in columns)


def tell(
    checks: Sequence[Check],
    subject: str,
    name: str,
    findings: Sequence[Findings],
    place: Place | None = None,
) -> tuple[Problem, ...]:
    """Return what the merged findings of a variable say, in the order of the checks."""
    told = (
        check.tell(subject, name, each, place) for check, each in zip(checks, findings, strict=True)
    )
    return tuple(problem for problem in told if problem is not None)
