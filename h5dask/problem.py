"""A finding about a file, finished enough to be read by the person who has to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding about a file: what is wrong (or worth saying), where, and the way out."""

    where: str
    """File and path, such as "queries.h5: /test"."""
    found: str
    """What is there."""
    expected: str
    """What the document or the consumer wants."""
    way_out: str = ""
    """What to do about it."""
    level: Literal["problem", "note"] = "problem"
    """A problem breaks a rule; a note is worth saying and never a failure."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}; expected {self.expected}"
        return f"{text}; {self.way_out}" if self.way_out else text
