"""Groups of one pattern that may number in the many thousands, and what opening needs of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from h5dask.layout import Layout
from h5dask.pattern import compiled, placeholders


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Groups of one pattern, which may number in the many thousands, and what opening needs."""

    pattern: re.Pattern[str]
    """Compiled pattern of the groups' names."""
    members: tuple[str, ...]
    """Names of the datasets that such a group may hold."""
    attrs: tuple[str, ...]
    """Names of the attributes that opening needs."""


def families(layouts: Iterable[Layout]) -> tuple[Family, ...]:
    """Return the groups that may number in the many thousands, and what opening needs of them."""
    found = []
    for layout in layouts:
        for top in layout.families:
            held = [path for spec in layout.arrays for path in spec.paths]
            members = [path.removeprefix(top + "/") for path in held if path.startswith(top + "/")]
            if any(placeholders(member) for member in members):
                continue  # its members have no known names: such groups are described in full
            attrs = [spec.name for spec in layout.attrs if spec.path == top and spec.at_opening]
            family = Family(pattern=compiled(top), members=tuple(members), attrs=tuple(attrs))
            found.append(family)
    return tuple(found)
