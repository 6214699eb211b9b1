"""The sections of a report: one a module here, found by scanning and never listed.

A module in this folder with a `SECTION` is a section; one whose name begins with _ is not.
"""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from importlib import import_module

from h5dask.report.section import Section


@lru_cache(maxsize=1)
def all_sections() -> tuple[Section, ...]:
    """Return every section in the order in which it is read.

    Examples
    --------
    >>> [section.title for section in all_sections()][:2]
    ['Structure', 'Sizes']
    """
    names = [one.name for one in pkgutil.iter_modules(__path__) if not one.name.startswith("_")]
    sections = [import_module(f"{__name__}.{name}").SECTION for name in names]
    return tuple(sorted(sections, key=lambda section: (section.place, section.title)))
