"""The layouts there are: one declaration a module here, and those that other packages add.

Found by scanning, never listed: a module in this folder with a `LAYOUT` is a layout.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module, invalidate_caches
from importlib.metadata import EntryPoint, entry_points

from h5dask.contents import Contents
from h5dask.errors import LayoutError
from h5dask.layout import Layout
from h5dask.pattern import parse, placeholders

GROUP = "h5dask.layouts"
"""Entry points of this group name a `Layout`: `mine = "package.module:LAYOUT"`."""


def all_layouts() -> tuple[Layout, ...]:
    """Return every layout, by name.

    Raises
    ------
    LayoutError
        A module or an entry point doesn't give a layout, or two give one of the same name.
    """
    return _load(tuple(_modules()), _declared(tuple(sys.path)))


def names() -> tuple[str, ...]:
    """Return the names of all layouts.

    Examples
    --------
    >>> names()
    ('activations', 'ann', 'episodes', 'proteins')
    """
    return tuple(layout.name for layout in all_layouts())


def get(name: str) -> Layout:
    """Return the layout of a name.

    Raises
    ------
    LayoutError
        There is none; the text lists those there are.
    """
    for layout in all_layouts():
        if layout.name == name:
            return layout
    raise LayoutError(f"no layout {name!r}; there are {', '.join(names())}")


def fitting(found: Contents) -> tuple[Layout, ...]:
    """Return the layouts any of whose marks a file has."""
    every = (*found.paths, *found.groups)
    paths = set(every)
    return tuple(
        layout
        for layout in all_layouts()
        if any(
            any(parse(mark, path) is not None for path in every)
            if placeholders(mark)
            else mark in paths
            for mark in layout.marks
        )
    )


def _modules() -> Iterator[tuple[str, str]]:
    """Yield the folder and name of each module of layouts."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            yield str(getattr(module.module_finder, "path", "")), module.name


@lru_cache(maxsize=1)
def _declared(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of other packages, as long as `sys.path` stays the same."""
    return tuple(entry_points(group=GROUP))


@lru_cache(maxsize=8)
def _load(
    modules: tuple[tuple[str, str], ...], declared: tuple[EntryPoint, ...]
) -> tuple[Layout, ...]:
    """Import what was found and return the layouts by name."""
    invalidate_caches()  # a folder's listing is remembered longer than it is true
    layouts: dict[str, tuple[Layout, str]] = {}
    origins = [(f"{__name__}.{name}", folder, None) for folder, name in modules]
    for origin, folder, point in [*origins, *((str(p.value), "", p) for p in declared)]:
        layout = _from_module(origin, folder) if point is None else _from_point(point)
        if layout.name in layouts:
            other = layouts[layout.name][1]
            raise LayoutError(
                f"{origin}: a second layout named {layout.name!r}, after {other}; remove one"
            )
        layouts[layout.name] = layout, origin
    return tuple(layouts[name][0] for name in sorted(layouts))


def _from_module(name: str, folder: str) -> Layout:
    loaded = sys.modules.get(name)
    if loaded is not None and not str(loaded.__file__).startswith(folder):
        del sys.modules[name]  # of the same name, from a folder that was searched before
    try:
        layout = import_module(name).LAYOUT
    except Exception as error:
        raise _broken(f"{folder}/{name.rpartition('.')[2]}.py", error) from error
    return _checked(layout, name)


def _from_point(point: EntryPoint) -> Layout:
    origin = f"entry point {point.name!r} of {GROUP} ({point.value})"
    try:
        layout = point.load()
    except Exception as error:
        raise _broken(origin, error) from error
    return _checked(layout, origin)


def _broken(origin: str, error: Exception) -> LayoutError:
    kind = type(error).__name__
    return LayoutError(f"{origin}: gives no layout ({kind}: {error}); repair or uninstall it")


def _checked(layout: object, origin: str) -> Layout:
    if not isinstance(layout, Layout):
        raise LayoutError(f"{origin}: LAYOUT is {type(layout).__name__!r}; must be a Layout")
    return layout
